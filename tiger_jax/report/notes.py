"""Explanations that RESULTS.md prints above the tables of an experiment."""

# Added if a table has the column "proven".
PROVEN = """
  The search adds beams, up to 4,096, until it is proven that no other item
  ranks above the listed items. "proven" is the share of listed items for which
  this holds."""

NOTES = {
  'breakdown': """
    A user is in the group "memorisation" if any user bought the target right
    after the same item in the training data, and else in "generalisation"
    (arXiv 2603.19809). The history is the items before the target. "bought" is
    the number of purchases of the target in the training data.""",
  'cold_start': """
    The users are those whose target is unseen in training. Items that a user
    already has are excluded. Epsilon is the largest share of unseen items in a
    list. "reachable" is the share of users whose target the rule can return;
    "reachable_items" is the share of unseen items that it can return. The
    prefix rule returns an unseen item only after a seen item with the same
    semantic prefix. "exact scores" generates the full IDs of unseen items. The
    last code of such an ID never followed its prefix in training.""",
  'diversity': """
    Entropy@k is the entropy of the categories of the first k items, in nats.
    Two levels of a category path count. The paper does not name the base of the
    logarithm, and does not say how sampling and search are combined. Here, k
    different items are drawn at the temperature. Drawn lists are more diverse
    than the best k items even at temperature 1. The search has more beams than
    in other tables, so the best 10 items may differ.""",
  'ensemble': """
    The scores of the best 50 items of each model are scaled, from 0 for the
    last item to 1 for the first, and added with a weight. "weight" is that of
    SASRec; TIGER has the rest. The fixed weight is the best on validation. The
    adaptive weight differs by user: it is a function of the softmax probability
    of SASRec's top item among its 50 items. The function is the best on
    validation, and the table has the mean weight. The search has more beams
    than in other tables, so TIGER's row may differ from theirs.""",
  'seeds': """
    The seeds differ in initialization and dropout. They share Semantic IDs, the
    order of batches, and the step of the checkpoint, which has the best mean
    over the seeds. The standard error includes only these differences. The
    paper does not say what its seeds share. In the variant _cpu, runs have 500
    steps; in other experiments, they have 800.""",
  'table1': """
    On a CPU, the approximate search is exact. "TIGER, two cores", in the tables
    that have it, is configs/beauty.py:cpu_long, which is much smaller than the
    paper's model.""",
  'table2': """
    In the variant _cpu, RQ-VAE and VQ-VAE have 20 epochs instead of 120.
    benchmarks/RESULTS.md has the quality of IDs for more epochs.""",
}
