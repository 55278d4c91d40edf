"""Trains the RQ-VAE and the VQ-VAE."""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from tiger_jax.config import SemanticIdsConfig
from tiger_jax.semantic_ids import item_batches
from tiger_jax.semantic_ids.item_batches import ItemBatches
from tiger_jax.semantic_ids.quantizers import autoencoder, kmeans
from tiger_jax.semantic_ids.quantizers.rq_vae import RqVae
from tiger_jax.semantic_ids.quantizers.vq_vae import VqVae

# For each codebook, the codes it assigned and the vectors they quantize.
Assignments = list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]


class Params(NamedTuple):
  """The state that training changes.

  Attributes:
    model: The quantizer.
    idle: Number of batches since each code of each codebook was last chosen;
      not updated after the restart epochs.
  """

  model: RqVae | VqVae
  idle: tuple[Float[Array, ' v'], ...]


class Seen(NamedTuple):
  """The output of `loss` for `after_update`.

  Attributes:
    assignments: The codes of the batch.
    idle: `Params.idle` before the optimizer's step.
  """

  assignments: Assignments
  idle: tuple[Float[Array, ' v'], ...]


class Losses(NamedTuple):
  """The terms of the loss, each a mean over the batch.

  Attributes:
    reconstruction: `||x - x_hat||^2`; moves the encoder and the decoder.
    codebook: `sum_d ||sg[r_d] - e_d||^2`; moves the codebooks.
    commitment: `sum_d ||r_d - sg[e_d]||^2`; moves the encoder.
  """

  reconstruction: Float[Array, '']
  codebook: Float[Array, '']
  commitment: Float[Array, '']


class AutoencoderTask:
  """Trains an RQ-VAE or a VQ-VAE on the items of one catalog.

  A batch is one of `ItemBatches.stack`: item rows or embeddings.

  Attributes:
    tables: The statistics of the embeddings, and the embeddings themselves if
      the device can hold them.
  """

  def __init__(
    self, model_class: Any, config: SemanticIdsConfig, items: ItemBatches
  ):
    """Computes the statistics of the embeddings."""
    self._model_class = model_class
    self._config = config
    self._items = items
    mean, std = item_batches.statistics(items.embeddings)
    self.tables = {'mean': mean, 'std': std}
    if items.resident:
      self.tables['items'] = np.asarray(items.embeddings, np.float32)

  def init(self, rng: jax.Array) -> Params:
    """Initializes the network, and fits codebooks to its latent vectors."""
    config = self._config
    sizes = config.codebook_sizes
    rng_network, rng_codebooks = jax.random.split(rng)
    network = autoencoder.init(
      rng_network,
      config.hidden_dims,
      self._model_class.latent_dim(config.latent_dim, len(sizes)),
      self.tables['mean'],
      self.tables['std'],
    )
    # Departs from the paper: the paper fits the codebooks to the first batch,
    # which has only four items per code.
    items = item_batches.sample(self._items.embeddings, kmeans.MAX_ITEMS)
    if config.kmeans_init == 'first_batch':
      items = self._items[0]
    encode = jax.jit(lambda network, x: network.encode(x))
    z = item_batches.map_items(functools.partial(encode, network), items)
    codebooks = self._model_class.fit_codebooks(
      rng_codebooks, jnp.asarray(z), sizes
    )
    return Params(
      self._model_class(network, codebooks),
      tuple(jnp.zeros(len(codebook)) for codebook in codebooks),
    )

  def loss(
    self,
    params: Params,
    tables: dict[str, Float[Array, '...']],
    batch: Int[Array, ' b'] | Float[Array, 'b dim'],
    rng: jax.Array,
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], Seen]:
    """Computes the loss of a batch of item rows or embeddings.

    The metrics `reconstruction` and `quantization` are squared errors per item.
    `batch_usage` is the share of codes that the batch chose, in the codebook
    with the smallest share. `rng` is not used.
    """
    if jnp.issubdtype(batch.dtype, jnp.integer):
      batch = tables['items'][batch]
    terms, assignments = losses(params.model, batch)
    usage = [
      _chosen(codes, len(idle)).mean()
      for (codes, _), idle in zip(assignments, params.idle, strict=True)
    ]
    metrics = {
      'reconstruction': terms.reconstruction,
      'quantization': terms.codebook,
      'batch_usage': jnp.stack(usage).min(),
    }
    commitment = self._config.beta * terms.commitment
    loss = terms.reconstruction + terms.codebook + commitment
    return loss, metrics, Seen(assignments, params.idle)

  def after_update(
    self,
    params: Params,
    tables: dict[str, Float[Array, '...']],
    seen: Seen,
    step: Int[Array, ''],
    rng: jax.Array,
  ) -> Params:
    """Restarts dead codes after each of the first `restart_epochs` epochs.

    A code is dead if no item chose it for an epoch. Its vector is replaced by a
    random one of the vectors that the codebook quantizes in the batch. `mean`
    and `std` are reset to those in `tables`.
    """
    # Departs from the paper: the paper has no restarts.
    if self._config.restart_epochs:
      params = lax.cond(
        step < self._config.restart_epochs * self._items.steps_per_epoch,
        self._restart,
        lambda params, *_: params,
        params,
        seen,
        step,
        rng,
      )
    # Undo the weight decay of `mean` and `std`, which are not trained.
    network = params.model.autoencoder._replace(
      mean=tables['mean'], std=tables['std']
    )
    return params._replace(model=params.model._replace(autoencoder=network))

  def _restart(self, params, seen, step, rng):
    model, steps_per_epoch = params.model, self._items.steps_per_epoch
    epoch_ends = (step + 1) % steps_per_epoch == 0
    codebooks, counts = [], []
    for i, (codes, vectors) in enumerate(seen.assignments):
      # Weight decay has changed `params.idle`, but not `seen.idle`.
      idle = seen.idle[i] + 1
      idle = jnp.where(_chosen(codes, len(idle)), 0, idle)
      dead = (idle >= steps_per_epoch) & epoch_ends
      rows = jax.random.permutation(jax.random.fold_in(rng, i), len(vectors))
      fresh = vectors[rows[jnp.arange(len(dead)) % len(rows)]]
      codebooks.append(jnp.where(dead[:, None], fresh, model.codebooks[i]))
      counts.append(jnp.where(dead, 0, idle))
    return Params(model._replace(codebooks=tuple(codebooks)), tuple(counts))


def losses(
  model: RqVae | VqVae, x: Float[Array, 'b dim']
) -> tuple[Losses, Assignments]:
  """Returns the unweighted terms of the loss, and the assigned codes."""
  network = model.autoencoder
  z = network.encode(x)
  quantized = model.quantize(z)
  # Straight-through estimator: the decoder reads the quantized vector, and its
  # gradient passes to the encoder unchanged.
  x_hat = network.decode(z + lax.stop_gradient(quantized.quantized - z))
  assignments = model.assignments(quantized)

  def distance(a, b):
    return jnp.sum((a - b) ** 2) / len(x)

  def total(stop_vectors, stop_codebooks):
    terms = [
      distance(stop_vectors(vectors), stop_codebooks(codebook)[codes])
      for codebook, (codes, vectors) in zip(
        model.codebooks, assignments, strict=True
      )
    ]
    return sum(terms[1:], terms[0])

  def keep(x):
    return x

  # The paper sums the squared errors over the dimensions. If the reconstruction
  # were a mean, as in several implementations, the other terms would outweigh
  # it.
  terms = Losses(
    reconstruction=distance(network.standardize(x), x_hat),
    codebook=total(lax.stop_gradient, keep),
    commitment=total(keep, lax.stop_gradient),
  )
  return terms, assignments


def _chosen(codes: Int[Array, ' n'], size: int) -> Float[Array, ' v']:
  """Returns 1 for each code that occurs, and 0 for the others."""
  return jnp.zeros(size).at[codes].set(1)
