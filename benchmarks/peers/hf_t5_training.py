"""Trains TIGER as a Hugging Face T5 in PyTorch.

The weights and the vocabulary are those of `HfTiger`. The tokens of the
histories are computed in advance, and padded to the longest history of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from typing import Any

from jaxtyping import Int
import numpy as np
import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5Attention

from benchmarks import measuring
from benchmarks.peers.hf_t5 import HfTiger
from tiger_jax.config import Config, OptimizerConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Tiger

_LossFn = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class HfTrainer(HfTiger):
  """Runs training steps on a CPU: forward, backward, clipping, AdamW.

  Attributes:
    shares: The share of each batch in an epoch, by the number of the batch.
    targets: The number of target items per batch.
    steps: The number of steps of `take`.
    not_compiled: The reason why the network is not compiled; '' if it is.
  """

  def __init__(
    self,
    model: Tiger,
    params: Any,
    codes: Int[np.ndarray, 'items l'],
    optimizer: OptimizerConfig,
    batches: Sequence[Batch],
    *,
    compiled: bool = True,
  ):
    """Copies the weights.

    Args:
      model: The network. The T5 has the same dropout.
      params: The parameters of the network.
      codes: The Semantic ID of every item.
      optimizer: The learning rate (constant here), the weight decay and the
        clipping norm.
      batches: The training batches. Every row has a target.
      compiled: Whether `torch.compile` compiles the forward and backward
        passes, in the first step.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # Prevents PyTorch from loading programs that another process compiled.
    torch.compiler.config.force_disable_caches = True
    super().__init__(model, params, codes, model.level_sizes)
    for module in self.network.modules():
      if isinstance(module, nn.Dropout):
        module.p = model.config.dropout
      elif isinstance(module, T5Attention):
        module.dropout = model.config.dropout
    self.network.train()
    self.targets, self.steps = len(batches[0].target), 1
    self.shares = {i: 1 / len(batches) for i in range(len(batches))}
    self._batches = [
      [
        torch.from_numpy(x.astype(np.int64))
        for x in (*self._encoder_inputs(batch), self._tokens[batch.target])
      ]
      for batch in batches
    ]
    self._parameters = list(self.network.parameters())
    self._clip_norm = optimizer.clip_norm
    self._optimizer = torch.optim.AdamW(
      self._parameters,
      lr=optimizer.learning_rate,
      weight_decay=optimizer.weight_decay,
      fused=True,
    )
    self.not_compiled = '' if compiled else 'not asked for'
    self._loss = torch.compile(self._eager_loss) if compiled else None

  def take(self, number: int) -> dict[str, float]:
    """Runs a step, and returns the loss and the gradient norm.

    If the network cannot be compiled, this and later steps are not compiled.

    Args:
      number: The number of the batch.
    """
    if self._loss:
      try:
        return self._step(self._loss, number)
      # Dynamo and Inductor raise RuntimeError, for example if there is no C++
      # compiler.
      except RuntimeError as error:
        self.not_compiled = str(error).strip().split('\n')[0]
        self._loss = None
        self._optimizer.zero_grad(set_to_none=True)
    return self._step(self._eager_loss, number)

  def _step(self, loss_fn: _LossFn, number: int) -> dict[str, float]:
    loss = loss_fn(*self._batches[number])
    loss.backward()
    norm = nn.utils.clip_grad_norm_(
      self._parameters, self._clip_norm, foreach=True
    )
    self._optimizer.step()
    self._optimizer.zero_grad(set_to_none=True)
    return {'loss': loss.item(), 'gradient_norm': norm.item()}

  def _eager_loss(
    self, inputs: torch.Tensor, mask: torch.Tensor, targets: torch.Tensor
  ) -> torch.Tensor:
    start = torch.full_like(
      targets[:, :1], self.network.config.decoder_start_token_id
    )
    outputs = self.network(
      input_ids=inputs,
      attention_mask=mask,
      decoder_input_ids=torch.cat([start, targets[:, :-1]], 1),
      use_cache=False,
    )
    # The heads return log-probabilities.
    return -outputs.logits.gather(-1, targets[..., None]).mean()


def measure(
  configs: Mapping[str, Config],
  codes: Int[np.ndarray, 'items l'],
  make_ours: Callable[[Config], Any],
  time_fn: Callable[[Mapping[str, Any]], Any],
) -> str:
  """Compares our training with the T5.

  The T5 trains on batches of mixed lengths, padded to the longest history. Our
  batches have histories of similar length, except in the row "ours, the batches
  of T5".

  Args:
    configs: The configs to train, by name.
    codes: The Semantic ID of every item.
    make_ours: Creates a `benchmarks.training.Ours`.
    time_fn: Times the sides, see `benchmarks.training.time_steps`.

  Returns:
    A Markdown table, and notes.

  Raises:
    measuring.Mismatch: The two sides compute different values.
  """

  def pair(config: Config, compiled: bool) -> tuple[Any, HfTrainer]:
    ours = make_ours(config)
    first_batches = [ours.batch(0), ours.batch(1)]
    return ours, HfTrainer(
      ours.network, ours.state.params, codes, config.train.optimizer,
      first_batches, compiled=compiled,
    )  # fmt: skip

  rows, notes = [], []
  for name, config in configs.items():
    mixed = _change(
      config, 'train', length_buckets=(config.model.max_history,),
      steps_per_call=1,
      # T5 trains at a constant rate.
      optimizer=dataclasses.replace(config.train.optimizer, warmup_steps=0),
    )  # fmt: skip
    exact = _change(mixed, 'model', dropout=0.0)
    notes.append(f'- {name}: {check(*pair(exact, compiled=False))}')
    same, theirs = pair(mixed, compiled=True)
    one_pass = _change(config, 'model', causal_encoder=True)
    sides = {
      'ours': make_ours(config),
      'ours, one pass per user': make_ours(one_pass),
      'ours, the batches of T5': same,
      'T5': theirs,
    }
    seconds, first = time_fn(sides)
    if theirs.not_compiled:
      notes.append(f'- {name}: T5 is NOT compiled: {theirs.not_compiled}')
    speed = {x: sides[x].targets / seconds[x] for x in sides}
    rows += [
      [
        f'{name}, {x}', measuring.spread(speed[x] / speed['T5']),
        f'{np.median(speed[x]):.0f}', f'{1000 * np.median(seconds[x]):.0f}',
        f'{first[x]:.1f}',
      ]
      for x in sides
    ]  # fmt: skip
  header = ['', 'speed relative to T5', 'targets/s', 'ms per step',
            'first calls with compilation, s']  # fmt: skip
  return '\n'.join([measuring.table(header, rows), '', *notes])


def check(ours: Any, theirs: HfTrainer) -> str:
  """Compares two steps on a batch, with the same weights and no dropout.

  Args:
    ours: Our trainer, with batches of one width.
    theirs: The peer, with the same first batch.

  Returns:
    A sentence with the differences.

  Raises:
    measuring.Mismatch: The differences are larger than rounding errors.
  """
  (width,) = ours.shares
  # The second loss depends on the update of the first step.
  metrics = [(ours.take(width), theirs.take(0)) for _ in range(2)]
  losses, norms = (
    [abs(float(a[name]) / b[name] - 1) for a, b in metrics]
    for name in ('loss', 'gradient_norm')
  )
  text = (
    f'without dropout, the losses of two steps differ by {losses[0]:.0e} and '
    f'{losses[1]:.0e}, and the first gradient norms by {norms[0]:.0e}'
  )
  if losses[0] > 1e-4 or losses[1] > 1e-3 or norms[0] > 1e-3:
    raise measuring.Mismatch(f'T5 and ours: {text}')
  return text


def _change(config: Config, section: str, **values: Any) -> Config:
  changed = dataclasses.replace(getattr(config, section), **values)
  return dataclasses.replace(config, **{section: changed})
