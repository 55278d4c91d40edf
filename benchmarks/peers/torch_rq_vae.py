"""The RQ-VAE and its training in PyTorch, written to be fast on a CPU.

The network, the losses and the optimizer are those of `tiger_jax`, except for
two differences. The input is standardized before the training, while
`tiger_jax` standardizes it in every step. The optimizer is fused.
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
    """Copies the weights.

    Args:
      encoder: A kernel `[in, out]` and a bias for every layer.
      decoder: A kernel and a bias for every layer.
      codebooks: A codebook `[codes, latent_dim]` for every level.
      beta: The weight of the commitment loss.
    """
    super().__init__()
    self.encoder = _mlp(encoder)
    self.decoder = _mlp(decoder)
    self.codebooks = nn.ParameterList(
      [nn.Parameter(torch.tensor(x)) for x in codebooks]
    )
    self.beta = beta

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the loss of standardized embeddings `[b, dim]`."""
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
  """Trains an `RqVae` with AdamW, gradient clipping and cosine decay.

  Attributes:
    model: The network.
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
    """Creates the optimizer. The first step compiles the network.

    Args:
      model: The network.
      learning_rate: The initial learning rate.
      weight_decay: The decoupled weight decay of all parameters.
      clip_norm: The maximum global norm of the gradients.
      num_steps: The number of steps until the rate is zero.
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
    """Runs a step on standardized embeddings, and returns the loss."""
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
