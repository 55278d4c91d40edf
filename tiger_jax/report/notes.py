"""Notes on the tables of experiments, below their headings in RESULTS.md."""

# The note of every table with a column "proven".
PROVEN = """
  The search widens, to at most 4,096 beams, until it is proven that no other
  item ranks above the listed ones. "proven" is the share of the listed items
  for which this is proven."""

NOTES = {
  'breakdown': """
    The row "memorisation" has the users whose next item was bought right after
    the same previous item in training (arXiv 2603.19809). The row
    "generalisation" has all other users. The history is the items before the
    next item. "bought" is how often the next item was bought in training.""",
  'cold_start': """
    These users buy next an item that was never bought before, an unseen item.
    Items of the history are excluded. Epsilon is the largest share of unseen
    items in a list. "reachable" is the share of users whose next item the rule
    can find at all, and "reachable_items" is the share of the unseen items that
    it can find. The prefix rule finds an unseen item only through a seen item
    with the same semantic prefix. The row "exact scores" generates the IDs of
    unseen items directly; their last codes never followed the prefix in
    training.""",
  'diversity': """
    Entropy@k is the entropy, in nats, of the categories of the first k items. A
    category is two names deep. The paper states neither the base of the
    logarithm nor how it combines sampling with search. At a temperature, k
    different items are drawn, so lists are more varied than the best k items
    even at a temperature of 1. The search is wider than in other tables, so the
    best 10 items may differ.""",
  'ensemble': """
    A weight w is SASRec's, and TIGER has 1 - w. The ensemble adds the weighted
    scores of the best 50 items of each model, scaled from 0 for the last item
    to 1 for the first. The fixed weight is the best one on validation. The
    adaptive weight depends on the probability of SASRec's first item among its
    50 items, by a curve chosen on validation; the table shows its mean. The
    search is wider than in other tables, so the row of TIGER may differ.""",
  'seeds': """
    Seeds differ in initialization and dropout. They share the Semantic IDs, the
    order of batches and the step of the checkpoint, which has the best mean
    over seeds. The standard error covers only what differs. The paper does not
    say what its seeds share. With _cpu, they train for 500 steps, and other
    experiments for 800.""",
  'table1': """
    On a CPU, the approximate search is exact. The row "TIGER, two cores" is
    configs/beauty.py:cpu_long, which is far smaller than the paper's
    model.""",
  'table2': """
    With _cpu, RQ-VAE and VQ-VAE train for 20 epochs instead of 120.
    benchmarks/RESULTS.md compares the IDs of all epochs.""",
}
