"""Training of TIGER as a T5 of Hugging Face, as PyTorch does it.

Weights and vocabulary are those of `HfTiger`. Histories come as tokens, looked
up beforehand, and padded to the longest of their batch.
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
  """Takes training steps on a CPU: forward, backward, clipping, AdamW.

  Attributes:
    shares: How often each batch comes, by its number.
    targets: Items that a batch predicts.
    steps: Steps that `take` takes.
    not_compiled: Why the network is not compiled; empty where it is.
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
    """Takes over weights.

    Args:
      model: The network; the T5 has the same dropout.
      params: Its parameters.
      codes: The Semantic ID of every item.
      optimizer: The rate, which stays as it is, the decay and the norm.
      batches: What to train on; every row has a target.
      compiled: Whether `torch.compile` is to compile forward and backward,
        which the first step does.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # What another process has compiled would be read from the disk.
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
    """Takes a step; returns the loss and the norm of its gradient.

    Where the network cannot be compiled, it is not from then on.

    Args:
      number: Which batch.
    """
    if self._loss:
      try:
        return self._step(self._loss, number)
      # What Dynamo and Inductor raise, and compilers of C++ that are missing.
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
    found = self.network(
      input_ids=inputs,
      attention_mask=mask,
      decoder_input_ids=torch.cat([start, targets[:, :-1]], 1),
      use_cache=False,
    )
    # The heads have normalised them already, each level by itself.
    return -found.logits.gather(-1, targets[..., None]).mean()


def measure(
  configs: Mapping[str, Config],
  codes: Int[np.ndarray, 'items l'],
  make_ours: Callable[[Config], Any],
  time_fn: Callable[[Mapping[str, Any]], Any],
) -> str:
  """Compares training of ours and of the T5.

  Batches of the T5 hold examples as they come, and are padded to the longest;
  those of ours hold histories of like length, except where both are given the
  same.

  Args:
    configs: What to train, by name.
    codes: The Semantic ID of every item.
    make_ours: Makes `benchmarks.training.Ours`.
    time_fn: What `benchmarks.training.time_steps` returns, of sides by name.

  Returns:
    Markdown.

  Raises:
    measuring.Different: See `check`.
  """

  def pair(config: Config, compiled: bool) -> tuple[Any, HfTrainer]:
    ours = make_ours(config)
    two = [ours.batch(0), ours.batch(1)]
    return ours, HfTrainer(
      ours.task.model, ours.state.params, codes, config.train.optimizer, two,
      compiled=compiled,
    )  # fmt: skip

  rows, notes = [], []
  for name, config in configs.items():
    mixed = _change(
      config, 'train', length_buckets=(config.model.max_history,),
      steps_per_call=1,
      # Theirs is constant.
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
  header = ['', 'speed, T5 = 1', 'targets/s', 'ms a step', 'first steps, s']
  return '\n'.join([measuring.table(header, rows), '', *notes])


def check(ours: Any, theirs: HfTrainer) -> str:
  """Compares two steps on a batch, from the same weights without dropout.

  Args:
    ours: Takes the steps, as `theirs` does, in its only shape.
    theirs: The peer; its first batch is that of ours.

  Returns:
    How much they differ.

  Raises:
    measuring.Different: It is more than rounding.
  """
  (width,) = ours.shares
  # The second loss shows what the first step did to the weights.
  found = [(ours.take(width), theirs.take(0)) for _ in range(2)]
  losses, norms = (
    [abs(float(a[name]) / b[name] - 1) for a, b in found]
    for name in ('loss', 'gradient_norm')
  )
  told = (
    f'without dropout the losses of two steps differ by {losses[0]:.0e} and '
    f"{losses[1]:.0e}, the first gradients' norms by {norms[0]:.0e}"
  )
  if losses[0] > 1e-4 or losses[1] > 1e-3 or norms[0] > 1e-3:
    raise measuring.Different(f'T5 and ours: {told}')
  return told


def _change(config: Config, section: str, **values: Any) -> Config:
  changed = dataclasses.replace(getattr(config, section), **values)
  return dataclasses.replace(config, **{section: changed})
