"""The config sections `optimizer`, `train` and `parallel`."""

import dataclasses
import re

from tiger_jax.config.checks import (
  require_at_most,
  require_not_negative,
  require_one_of,
  require_positive,
)
from tiger_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimizer with its learning rate schedule.

  Attributes:
    recipe: `adamw` (linear warm-up, then cosine decay), `adafactor` (constant
      rate, then inverse square root decay) or `adagrad`. The paper uses
      `adafactor` for the recommender and `adagrad` for the RQ-VAE.
    learning_rate: Peak learning rate.
    warmup_steps: For `adamw`: steps of warm-up. For `adafactor`: steps at the
      constant rate.
    weight_decay: For `adamw`: decoupled decay of kernels, embeddings and
      codebooks. Norm scales, biases and position biases do not decay.
    clip_norm: Largest global norm of the gradients. Larger gradients are scaled
      down to it.
  """

  recipe: str = 'adamw'
  learning_rate: float = 1e-3
  warmup_steps: int = 0
  weight_decay: float = 0.0
  clip_norm: float = 1.0

  def __post_init__(self):
    """Checks the values."""
    recipes = ('adamw', 'adafactor', 'adagrad')
    require_one_of(self, 'recipe', recipes)
    require_positive(self, 'learning_rate', 'clip_norm')
    require_not_negative(self, 'warmup_steps', 'weight_decay')
    require_at_most(self, 2**31 - 1, 'warmup_steps')


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """The training of the recommender.

  Attributes:
    batch_size: Number of examples per batch, over all devices. An example is a
      history and its next item. With `model.causal_encoder`, an example is a
      whole history or a window of it. With `packed`, `batch_size` is the number
      of rows, which hold one or more examples.
    steps: Number of optimizer steps.
    steps_per_call: Number of steps in one jitted call. The host handles signals
      and saves checkpoints only between calls.
    replicas: Number of models to train at once, with seeds that count up from
      `config.seed`. All models get the same batches. Results are means over the
      models.
    on_non_finite: The reaction to a loss, gradient or parameter that is not
      finite. `abort` ends the training. `rewind:k,skip:m` restores the newest
      checkpoint that is at least k steps older than the bad step, trains until
      k steps before the bad step, and skips the next m batches. The bad batch
      is always skipped. The skipped range is extended to whole calls (see
      `steps_per_call`).
    length_buckets: Padded lengths of histories, in ascending order. A history
      is padded to the smallest length that holds it. The last length must be
      `model.max_history`.
    packed: Whether several short histories share one row of `model.max_history`
      items in training. If most histories are short, almost no position is
      padding. Histories in one row do not affect each other. Packing needs
      `model.causal_encoder`, and a model without user tokens. `length_buckets`
      then applies only to evaluation, exports, and recommendations for all
      users.
    log_every: Number of steps between lines of `metrics.jsonl`.
    evaluate_every: Number of steps between validations. Each validation saves a
      checkpoint.
    evaluate_users: Number of users in a validation.
    optimizer: The optimizer of the recommender.
  """

  batch_size: int = 256
  steps: int = 200_000
  steps_per_call: int = 1
  replicas: int = 1
  on_non_finite: str = 'abort'
  length_buckets: tuple[int, ...] = (5, 10, 20)
  packed: bool = False
  log_every: int = 100
  evaluate_every: int = 2000
  evaluate_users: int = 4096
  optimizer: OptimizerConfig = OptimizerConfig()

  def __post_init__(self):
    """Checks the values."""
    require_positive(
      self, 'batch_size', 'steps', 'steps_per_call', 'replicas', 'log_every',
      'evaluate_every', 'evaluate_users',
    )  # fmt: skip
    # A step is an int32 on the device.
    require_at_most(
      self, 2**31 - 1, 'steps', 'log_every', 'evaluate_every', 'evaluate_users'
    )
    require_at_most(self, 2**20, 'batch_size', 'steps_per_call')
    require_at_most(self, 1024, 'replicas')
    if self.on_non_finite != 'abort' and not self.rewind:
      raise UsageError(
        f'on_non_finite is {self.on_non_finite!r}: choose abort, or '
        'rewind:k,skip:m with two numbers of at most nine digits, as in '
        'rewind:100,skip:200'
      )
    buckets = self.length_buckets
    if list(buckets) != sorted(set(buckets)) or min(buckets, default=1) < 1:
      raise UsageError(
        f'length_buckets is {buckets}: list positive lengths in ascending order'
      )

  @property
  def rewind(self) -> tuple[int, int] | None:
    """The k and m of `rewind:k,skip:m`; None for `abort`."""
    pattern = r'rewind:(\d{1,9}),skip:(\d{1,9})'
    match = re.fullmatch(pattern, self.on_non_finite)
    return (int(match[1]), int(match[2])) if match else None


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  """The division of the work between devices.

  `fsdp * tensor` devices form a group that holds all parameters once. Groups
  are data-parallel: each group has its own part of every batch. The division
  changes the results only by rounding errors.

  Attributes:
    fsdp: Number of devices that share the parameters, each with its own part of
      the batch.
    tensor: Number of devices that share the computation of one part of the
      batch.
  """

  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    """Checks the values."""
    require_positive(self, 'fsdp', 'tensor')
    require_at_most(self, 2**20, 'fsdp', 'tensor')
