"""The RQ-VAE and its training in PyTorch, written to be fast on a CPU.

The same network, losses and optimizer as `tiger_jax`: what it is given is
standardised already, which `tiger_jax` does in every step, and the optimizer
is the fused one.
"""

from collections.abc import Sequence
import math

import numpy as np
import torch
from torch import nn


class RqVae(nn.Module):
  """Section 3.1 of the paper: encoder, residual quantizer, decoder."""

  def __init__(
    self,
    encoder: Sequence[tuple[np.ndarray, np.ndarray]],
    decoder: Sequence[tuple[np.ndarray, np.ndarray]],
    codebooks: Sequence[np.ndarray],
    beta: float,
  ):
    """Takes over weights.

    Args:
      encoder: A kernel `[in, out]` and a bias for every layer.
      decoder: The same.
      codebooks: One per level, `[codes, latent_dim]`.
      beta: Weight of the commitment loss.
    """
    super().__init__()
    self.encoder = _mlp(encoder)
    self.decoder = _mlp(decoder)
    self.codebooks = nn.ParameterList(
      [nn.Parameter(torch.tensor(x)) for x in codebooks]
    )
    self.beta = beta

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the loss of standardised embeddings `[b, dim]`."""
    z = self.encoder(x)
    residual, quantization = z, x.new_zeros(())
    for codebook in self.codebooks:
      with torch.no_grad():
        squares = (codebook * codebook).sum(dim=1)
        scores = torch.addmm(squares, residual, codebook.T, alpha=-2)
        codes = scores.argmin(dim=1)
      chosen = nn.functional.embedding(codes, codebook)
      codebook_loss = (residual.detach() - chosen).square().sum()
      commitment = (residual - chosen.detach()).square().sum()
      quantization = quantization + codebook_loss + self.beta * commitment
      residual = residual - chosen.detach()
    x_hat = self.decoder(z - residual.detach())
    return ((x - x_hat).square().sum() + quantization) / len(x)


class Trainer:
  """AdamW with global-norm clipping and cosine decay, compiled.

  Attributes:
    model: What is trained.
  """

  def __init__(
    self,
    model: RqVae,
    *,
    learning_rate: float,
    weight_decay: float,
    clip_norm: float,
    num_steps: int,
  ):
    """Compiles nothing yet: the first step does.

    Args:
      model: What is trained.
      learning_rate: The first rate.
      weight_decay: Decoupled decay, of all parameters.
      clip_norm: Gradients are scaled down to this global norm.
      num_steps: Where the rate has decayed to zero.
    """
    self.model = model
    self._parameters = list(model.parameters())
    self._clip_norm = clip_norm
    self._loss = torch.compile(
      model, fullgraph=True, mode='max-autotune-no-cudagraphs'
    )
    self._optimizer = torch.optim.AdamW(
      self._parameters,
      lr=learning_rate,
      weight_decay=weight_decay,
      fused=True,
    )
    self._schedule = torch.optim.lr_scheduler.LambdaLR(
      self._optimizer,
      lambda step: 0.5 * (1 + math.cos(math.pi * step / num_steps)),
    )

  def gradients(self, x: torch.Tensor) -> list[np.ndarray]:
    """Returns the gradients of the loss, in the order of the parameters."""
    gradients = torch.autograd.grad(self._loss(x), self._parameters)
    return [gradient.numpy() for gradient in gradients]

  def step(self, x: torch.Tensor) -> torch.Tensor:
    """Takes a step on standardised embeddings; returns the loss."""
    loss = self._loss(x)
    loss.backward()
    nn.utils.clip_grad_norm_(self._parameters, self._clip_norm, foreach=True)
    self._optimizer.step()
    self._schedule.step()
    self._optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _mlp(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> nn.Sequential:
  modules: list[nn.Module] = []
  for kernel, bias in layers:
    linear = nn.Linear(*kernel.shape)
    linear.weight.data = torch.tensor(kernel.T).contiguous()
    linear.bias.data = torch.tensor(bias)
    modules += [linear, nn.ReLU()]
  return nn.Sequential(*modules[:-1])
