"""The sections of the configuration that training reads."""

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
  """One recipe and its numbers.

  Attributes:
    recipe: `adamw` (linear warm-up, cosine decay), or the paper's:
      `adafactor` (constant, then inverse square root decay) and `adagrad`.
    learning_rate: The peak rate.
    warmup_steps: Steps of warm-up (`adamw`) or at the peak (`adafactor`).
    weight_decay: Decoupled decay (`adamw`) of kernels, embeddings and
      codebooks; norm scales, biases and position biases do not decay.
    clip_norm: Gradients are scaled down to this global norm.
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
  """Training of the recommender.

  Attributes:
    batch_size: Examples in a batch, over all devices. An example is a history
      and the item after it, or with a causal encoder a user's whole history.
    steps: Optimizer steps.
    steps_per_call: Steps that the device takes without the host; signals and
      checkpoints wait for their end.
    replicas: Runs to train at once that differ in their seeds, from
      `config.seed` on. They share the batches, and the results are of all.
    on_non_finite: What to do about a loss, gradient or parameter that is not
      finite: `abort`, or `rewind:k,skip:m` to go back to the newest checkpoint
      that is at least k steps older, repeat the steps up to k steps before
      the bad one, and skip m batches from there. The bad batch is always
      skipped. The skipped batches are rounded outward to whole calls.
    length_buckets: A history is padded to the smallest of these that holds
      it; the last must be `model.max_history`.
    log_every: Steps between two lines of `metrics.jsonl`.
    evaluate_every: Steps between two validations, which are also where
      checkpoints are saved.
    evaluate_users: Users each of those validations looks at.
    optimizer: The recipe.
  """

  batch_size: int = 256
  steps: int = 200_000
  steps_per_call: int = 1
  replicas: int = 1
  on_non_finite: str = 'abort'
  length_buckets: tuple[int, ...] = (5, 10, 20)
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
        f'length_buckets is {buckets}: list them from short to long, each once'
      )

  @property
  def rewind(self) -> tuple[int, int] | None:
    """The k and m of `rewind:k,skip:m`."""
    pattern = r'rewind:(\d{1,9}),skip:(\d{1,9})'
    found = re.fullmatch(pattern, self.on_non_finite)
    return (int(found[1]), int(found[2])) if found else None


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  """How devices share the work; results are equal up to rounding.

  All devices that these numbers leave over have the whole parameters and
  batches of their own.

  Attributes:
    fsdp: Devices that hold the parameters together, each with batches of its
      own.
    tensor: Devices that compute one batch together.
  """

  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    """Checks the values."""
    require_positive(self, 'fsdp', 'tensor')
    require_at_most(self, 2**20, 'fsdp', 'tensor')
