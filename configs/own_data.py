"""Your own shop: two files in a folder.

  python -m tiger_jax.main --config=configs/own_data.py \
    --config.dataset.source_dir=my_shop --workdir=runs/my_shop

`interactions.csv` has the columns user, item, timestamp; `items.csv` has item,
title and, where you have them, price, brand, categories, description. Both may
as well be `.jsonl` or `.parquet`. Settings are those of `configs/beauty.py:cpu`
but for vectors of 64 numbers, batches of 32 and half the rate.
"""

import ml_collections

from configs import beauty


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  config = beauty.get_config('cpu')
  config.dataset.name = 'files'
  # A shop's log is not curated: leave out whom it cannot judge, keep the rest.
  config.dataset.drop_short_users = True
  config.dataset.allow_missing_metadata = True
  config.embedding.dim = 64
  # As many shoppers as there are in a small shop.
  config.train.batch_size = 32
  config.train.optimizer.learning_rate = 2e-3
  return config
