"""The numbers of the paper (Rajput et al., NeurIPS 2023, arXiv 2305.05065).

They are grouped by experiment, dataset and row. Each row holds recall@5,
ndcg@5, recall@10 and ndcg@10; rows of `diversity` hold Entropy@10, Entropy@20
and Entropy@50.
"""

# The short names of the paper's shops, by `config.dataset.name`.
SHOPS = {
  'amazon2014/Beauty': 'beauty',
  'amazon2014/Sports_and_Outdoors': 'sports',
  'amazon2014/Toys_and_Games': 'toys',
}

_TIGER = {
  'beauty': (0.0454, 0.0321, 0.0648, 0.0384),
  'sports': (0.0264, 0.0181, 0.0400, 0.0225),
  'toys': (0.0521, 0.0371, 0.0712, 0.0432),
}

# Table 1. The paper took all baselines except P5 from the S3-Rec study.
_TABLE_1: dict[str, dict[str, tuple[float, ...]]] = {
  'beauty': {
    'P5': (0.0163, 0.0107, 0.0254, 0.0136),
    'Caser': (0.0205, 0.0131, 0.0347, 0.0176),
    'HGN': (0.0325, 0.0206, 0.0512, 0.0266),
    'GRU4Rec': (0.0164, 0.0099, 0.0283, 0.0137),
    'BERT4Rec': (0.0203, 0.0124, 0.0347, 0.0170),
    'FDSA': (0.0267, 0.0163, 0.0407, 0.0208),
    'SASRec': (0.0387, 0.0249, 0.0605, 0.0318),
    'S3-Rec': (0.0387, 0.0244, 0.0647, 0.0327),
    'TIGER': _TIGER['beauty'],
  },
  'sports': {
    'P5': (0.0061, 0.0041, 0.0095, 0.0052),
    'Caser': (0.0116, 0.0072, 0.0194, 0.0097),
    'HGN': (0.0189, 0.0120, 0.0313, 0.0159),
    'GRU4Rec': (0.0129, 0.0086, 0.0204, 0.0110),
    'BERT4Rec': (0.0115, 0.0075, 0.0191, 0.0099),
    'FDSA': (0.0182, 0.0122, 0.0288, 0.0156),
    'SASRec': (0.0233, 0.0154, 0.0350, 0.0192),
    'S3-Rec': (0.0251, 0.0161, 0.0385, 0.0204),
    'TIGER': _TIGER['sports'],
  },
  'toys': {
    'P5': (0.0070, 0.0050, 0.0121, 0.0066),
    'Caser': (0.0166, 0.0107, 0.0270, 0.0141),
    'HGN': (0.0321, 0.0221, 0.0497, 0.0277),
    'GRU4Rec': (0.0097, 0.0059, 0.0176, 0.0084),
    'BERT4Rec': (0.0116, 0.0071, 0.0203, 0.0099),
    'FDSA': (0.0228, 0.0140, 0.0381, 0.0189),
    'SASRec': (0.0463, 0.0306, 0.0675, 0.0374),
    'S3-Rec': (0.0443, 0.0294, 0.0700, 0.0376),
    'TIGER': _TIGER['toys'],
  },
}

# The prefix of the variants `_cpu` and `_cpu_long`, which have tables of their
# own.
_REDUCED = '_cpu'

PAPER: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
  'table1': _TABLE_1,
  'table2': {
    'beauty': {
      'random': (0.0296, 0.0205, 0.0434, 0.0250),
      'LSH': (0.0379, 0.0259, 0.0533, 0.0309),
      'RQ-VAE': _TIGER['beauty'],
    },
    'sports': {
      'random': (0.0070, 0.0050, 0.0116, 0.0063),
      'LSH': (0.0215, 0.0146, 0.0321, 0.0180),
      'RQ-VAE': _TIGER['sports'],
    },
    'toys': {
      'random': (0.0362, 0.0270, 0.0448, 0.0298),
      'LSH': (0.0412, 0.0299, 0.0566, 0.0349),
      'RQ-VAE': _TIGER['toys'],
    },
  },
  # The docstring of configs/paper/seeds.py has the standard errors.
  'seeds': {
    'beauty': {'TIGER, mean of 3': (0.0441, 0.0309, 0.0642, 0.0374)},
    'sports': {'TIGER, mean of 3': (0.0278, 0.0189, 0.0419, 0.0234)},
    'toys': {'TIGER, mean of 3': (0.0518, 0.0375, 0.0698, 0.0433)},
  },
  'layers': {
    'beauty': {
      '3 layers': (0.04499, 0.03062, 0.06699, 0.03768),
      '4 layers': _TIGER['beauty'],
      '5 layers': (0.04633, 0.03206, 0.06596, 0.03834),
    },
  },
  'user_token': {
    'beauty': {
      'no user token': (0.04458, 0.0302, 0.06479, 0.0367),
      '2000 user tokens': _TIGER['beauty'],
    },
  },
  # The paper prints 0.3047 for ndcg@5, which is probably 0.03047.
  'shared_ids': {
    'beauty': {
      'IDs of three shops': (0.04355, 0.03047, 0.06314, 0.03676),
      'IDs of Beauty': _TIGER['beauty'],
    },
  },
  'diversity': {
    'beauty': {
      'T=1.0': (0.76, 1.14, 1.70),
      'T=1.5': (1.14, 1.52, 2.06),
      'T=2.0': (1.38, 1.76, 2.28),
    },
  },
}


def without_variant(experiment: str) -> str:
  """Returns the name of an experiment without its variant."""
  return experiment.partition(_REDUCED)[0]
