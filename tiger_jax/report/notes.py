"""How to read the table of an experiment, where its columns do not tell."""

# Of the tables that have the column.
PROVEN = """
  The search widens, to 4,096 beams at most, until it is proven that no other
  item ranks above those listed; "proven" is the share of the listed items for
  which this is proven."""

NOTES = {
  'breakdown': """
    "Memorisation" are the users whose next item somebody bought right after the
    same item in training (arXiv 2603.19809), "generalisation" the others. The
    history is what comes before that item; "bought" is how often it was bought
    in training.""",
  'cold_start': """
    Users whose next item nobody had bought before. Nothing that a user has
    already is recommended. Epsilon is the largest share of unseen items that a
    list may have; "reachable" is the share of these users for whom the rule can
    find the item at all, and "reachable_items" is the share of the unseen items
    that it can find. The prefix rule finds an unseen item only through a seen
    one with the same codes of meaning. "exact scores" generates the unseen
    items' own IDs, whose last codes never followed the others in training.""",
  'diversity': """
    Entropy@k is that of the categories of the first k items, two names deep, in
    nats; the paper does not name its base, nor does it say how sampling and
    search combine. At a temperature k different items are drawn, so that lists
    are more varied than the best k even at 1. The search is wider than in
    other tables, so the best 10 items may differ.""",
  'ensemble': """
    The weight is SASRec's, TIGER has the rest; what is added up are the scores
    of the best 50 items of each, from 0 for the last to 1 for the first. The
    fixed weight is the best on validation. The adaptive one follows how
    probable, among its 50, SASRec finds what it puts first, by a curve chosen
    on validation, and the table has its mean. The search is wider than in
    other tables, so TIGER's row may differ from theirs.""",
  'seeds': """
    Seeds differ in initialisation and dropout. They share Semantic IDs, the
    order of batches and the step of the checkpoint, where the mean of all is
    best: the error is of what they differ in. What the paper's seeds share it
    does not say. At _cpu they have 500 steps, where other experiments have
    800.""",
  'table1': """
    On a CPU the approximate search is exact. "TIGER, two cores", where it is
    listed, is configs/beauty.py:cpu_long, far smaller than the paper's
    model.""",
  'table2': """
    At _cpu, RQ-VAE and VQ-VAE have 20 epochs instead of 120: the IDs of all
    epochs are in benchmarks/RESULTS.md.""",
}
