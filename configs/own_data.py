"""Your own data: two files in a folder.

  python -m tiger_jax.main --config=configs/own_data.py \
    --config.dataset.source_dir=my_shop --workdir=runs/my_shop

`interactions.csv` has the columns user, item and timestamp. `items.csv` has the
columns item and title, and optionally price, brand, categories and description.
Both files may also be `.jsonl` or `.parquet`.

The settings are those of `configs/beauty.py:cpu`, with smaller item vectors,
smaller batches and half the learning rate.
"""

import ml_collections

from configs import beauty


def get_config() -> ml_collections.ConfigDict:
  """Returns the config."""
  config = beauty.get_config('cpu')
  config.dataset.name = 'files'
  # Raw logs have users with few events and items without a record. Drop these
  # users, and keep these items.
  config.dataset.drop_short_users = True
  config.dataset.allow_missing_metadata = True
  config.embedding.dim = 64
  # A small shop has too few users for batches of 64.
  config.train.batch_size = 32
  config.train.optimizer.learning_rate = 2e-3
  return config
