"""Explanations that RESULTS.md prints above the tables of an experiment."""

# Added if a table has the column "proven".
PROVEN = """
  The search adds beams, up to 4,096, until it is proven that no other item
  ranks above the listed items. "proven" is the share of listed items for which
  this holds."""

NOTES = {
  'ablation': """
    "all" has the five settings of docs/training.md, and "none" has none of
    them. The other rows have the named settings, or all five with one change.
    In "optimal", the IDs have no collision code. In "no row dropout",
    model.prefix_dropout is 0. In "packed", a row of a batch holds several
    histories.""",
  'breakdown': """
    The history of a user is the items before the target. A user is in the group
    "memorization" if anyone in the training data bought the target right after
    the last item of the history. All other users are in the group
    "generalization" (arXiv 2603.19809). "bought" is the number of purchases of
    the target in the training data.""",
  'cold_start': """
    The users are those whose target is unseen in training. Items that a user
    already has are excluded. Epsilon is the upper limit of the share of unseen
    items in a list. "prefix rule" inserts unseen items into a list, directly
    after the first seen item with the same semantic prefix. "coarse prefix
    rule" omits the last code of these prefixes. "exact scores" generates the
    full IDs of unseen items, on which the model was not trained. "reachable" is
    the share of users whose target can be returned by the row's rule.
    "reachable_items" is the share of unseen items that the rule can return.""",
  'diversity': """
    Entropy@k is the entropy of the categories of the first k items, in nats.
    Only the first two levels of a category path are used. The paper does not
    name the base of the logarithm, and does not say how sampling and search are
    combined. Here, k different items are sampled at the temperature given in
    the row. Sampled lists are more diverse than the best k items even at
    temperature 1. The search has more beams than in other tables, so the best
    10 items may differ.""",
  'ensemble': """
    The scores of the best 50 items of each model are scaled to the range from 0
    (last item) to 1 (first item). The score of an item is the weighted sum of
    its two scores. "weight" is the weight of SASRec; TIGER has the weight 1
    minus this value. The fixed weight, which all users share, is the one with
    the best NDCG@10 on validation. The adaptive weight differs by user: it is a
    function of the softmax probability of SASRec's first item among its 50
    items. This function, too, was chosen by NDCG@10 on validation. The table
    has the mean of the adaptive weights. In "TIGER, transitions", the search of
    TIGER has transition counts, as in table1. The row "transitions" has the
    scores of these counts alone. The search has more beams than in other
    tables, so the values of TIGER may differ between the tables.""",
  'mixture': """
    The probability of an item is (1 - g) times its probability under TIGER,
    plus g times its share in the transition scores of the user (see the row
    "transitions"). The search ranks prefixes by this probability. In "constant
    weight", g is "weight". In "weight by count", g is n / (n + kappa), where n
    is how often the last item of the history was followed by another item in
    the training data. "weight" and "kappa" are the best on validation.""",
  'seeds': """
    The seeds differ in initialization and dropout. They share Semantic IDs, the
    order of batches, and the step of the checkpoint. At this step, the mean
    validation NDCG@10 of the seeds is best. The standard error therefore covers
    only differences in initialization and dropout. The paper does not say what
    its seeds share. In seeds_cpu, runs have 500 steps. In other reduced
    experiments, they have 800.""",
  'table1': """
    On a CPU, the search called "approximate" returns the same items as the
    exact search. The model of the row "TIGER, two cores" is much smaller than
    the paper's model. It has a bidirectional encoder, and none of the settings
    that the ablation table lists. The row "TIGER, our training" is
    configs/beauty.py:cpu, with the seeds that are listed below the table. The
    row "TIGER, our training, ensemble" is configs/beauty.py:cpu_long. The row
    "TIGER, our training, ensemble, transitions" also has transition counts in
    the search. Their weight is the best of a few values on validation
    (benchmarks/RESULTS.md, our training with transitions). The seconds are
    those of all seeds. In some of these runs, other programs used the cores
    too, so the seconds are too long. Not all tables have these rows.""",
  'table2': """
    In the variant _cpu, RQ-VAE and VQ-VAE have 20 epochs instead of 120.
    benchmarks/RESULTS.md has the quality of IDs for more epochs.""",
}
