"""How to read the table of an experiment, where its columns do not tell."""

NOTES = {
  'cold_start': """
    Users whose next item nobody had bought before. Nothing that a user has
    already is recommended. "reachable" is the share of these users for whom the
    rule can find it at all: by the prefix rule an unseen item comes by way of a
    seen one with the same codes of meaning. "exact scores" generates the unseen
    items' own IDs, whose last codes never followed the others in training.""",
  'diversity': """
    At a temperature k different items are drawn, so that lists are more varied
    than the best k even at 1. The paper does not say how it combines sampling
    and search. A search for 50 items has no fewer beams, so the best 10 may be
    others than in another table.""",
  'ensemble': """
    Each model is asked for 100 items, for which a search has no fewer beams, so
    TIGER's row may differ from that of another table.""",
  'seeds': """
    Seeds differ in initialisation and dropout. They share Semantic IDs, the
    order of batches and the step of the checkpoint, where the mean of all is
    best: the error is of what they differ in. What the paper's seeds share it
    does not say.""",
  'table1': """
    On a CPU the approximate search is exact. "TIGER, two cores" is
    configs/beauty.py:cpu_long, far smaller than the paper's model.""",
}
