"""How an RQ-VAE or a VQ-VAE learns."""

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

# For each codebook, the codes that it gave, and the vectors that they code.
Uses = list[tuple[Int[Array, ' n'], Float[Array, 'n z']]]


class Params(NamedTuple):
  """What training changes.

  `idle` counts the batches since each code of each codebook was last chosen, as
  long as dead codes are restarted.
  """

  model: RqVae | VqVae
  idle: tuple[Float[Array, ' v'], ...]


class Seen(NamedTuple):
  """What `loss` saw of a batch, and the counts before the optimizer's step."""

  uses: Uses
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
  """Trains an RQ-VAE or a VQ-VAE on the items of one catalogue.

  A batch is what `ItemBatches` stacks: rows of items, or their embeddings.
  `tables` has the items if the device can hold them.
  """

  def __init__(self, kind: Any, config: SemanticIdsConfig, items: ItemBatches):
    """Measures the embeddings."""
    self._kind = kind
    self._config = config
    self._items = items
    mean, std = item_batches.statistics(items.embeddings)
    self.tables = {'mean': mean, 'std': std}
    if items.resident:
      self.tables['items'] = np.asarray(items.embeddings, np.float32)

  def init(self, rng: jax.Array) -> Params:
    """Returns a random network, with codebooks fitted to its latent vectors."""
    config = self._config
    sizes = config.codebook_sizes
    rng_network, rng_codebooks = jax.random.split(rng)
    network = autoencoder.init(
      rng_network,
      config.hidden_dims,
      self._kind.latent_dim(config.latent_dim, len(sizes)),
      self.tables['mean'],
      self.tables['std'],
    )
    # Departs from the paper: it fits the codebooks to the first batch, which
    # has only four items a code.
    items = item_batches.sample(self._items.embeddings, kmeans.MAX_ITEMS)
    if config.kmeans_init == 'first_batch':
      items = self._items[0]
    encode = jax.jit(lambda network, x: network.encode(x))
    z = item_batches.map_items(functools.partial(encode, network), items)
    codebooks = self._kind.fit_codebooks(rng_codebooks, jnp.asarray(z), sizes)
    return Params(
      self._kind(network, codebooks),
      tuple(jnp.zeros(len(codebook)) for codebook in codebooks),
    )

  def loss(
    self,
    params: Params,
    tables: dict[str, Float[Array, '...']],
    batch: Int[Array, ' b'] | Float[Array, 'b dim'],
    rng: jax.Array,
  ) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], Seen]:
    """Computes the loss of a batch: rows of items, or their embeddings.

    The metrics are `reconstruction` and `quantization` (squared errors per
    item) and `batch_usage` (the share of codes that the batch chose, in the
    codebook where it is smallest). `rng` is not used.
    """
    if jnp.issubdtype(batch.dtype, jnp.integer):
      batch = tables['items'][batch]
    terms, uses = losses(params.model, batch)
    usage = [
      _chosen(codes, len(idle)).mean()
      for (codes, _), idle in zip(uses, params.idle, strict=True)
    ]
    metrics = {
      'reconstruction': terms.reconstruction,
      'quantization': terms.codebook,
      'batch_usage': jnp.stack(usage).min(),
    }
    commitment = self._config.beta * terms.commitment
    loss = terms.reconstruction + terms.codebook + commitment
    return loss, metrics, Seen(uses, params.idle)

  def after_update(
    self,
    params: Params,
    tables: dict[str, Float[Array, '...']],
    seen: Seen,
    step: Int[Array, ''],
    rng: jax.Array,
  ) -> Params:
    """Restarts dead codes, once an epoch for the first `restart_epochs`.

    A code that no item chose for an epoch becomes what the codebook was to code
    of a random item of the batch. `mean` and `std` are set back to those in
    `tables`.
    """
    # Departs from the paper: it has no restarts.
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
    # Weight decay must not touch what is not trained.
    network = params.model.autoencoder._replace(
      mean=tables['mean'], std=tables['std']
    )
    return params._replace(model=params.model._replace(autoencoder=network))

  def _restart(self, params, seen, step, rng):
    model, steps_per_epoch = params.model, self._items.steps_per_epoch
    epoch_ends = (step + 1) % steps_per_epoch == 0
    codebooks, counts = [], []
    for i, (codes, vectors) in enumerate(seen.uses):
      # As they were before the optimizer's weight decay.
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
) -> tuple[Losses, Uses]:
  """Returns the terms of the loss, without `beta`, and the use of codes."""
  network = model.autoencoder
  z = network.encode(x)
  found = model.quantize(z)
  # Straight through: the decoder reads the codes, and its gradient passes to
  # the encoder as if there were no quantizer.
  x_hat = network.decode(z + lax.stop_gradient(found.quantized - z))
  uses = model.uses(found)

  def distance(a, b):
    return jnp.sum((a - b) ** 2) / len(x)

  def total(stop_vectors, stop_codebooks):
    terms = [
      distance(stop_vectors(vectors), stop_codebooks(codebook)[codes])
      for codebook, (codes, vectors) in zip(model.codebooks, uses, strict=True)
    ]
    return sum(terms[1:], terms[0])

  def keep(x):
    return x

  # Summed over dimensions, as the paper writes it. A mean, which several
  # implementations take, lets the other terms outweigh the reconstruction.
  terms = Losses(
    reconstruction=distance(network.standardise(x), x_hat),
    codebook=total(lax.stop_gradient, keep),
    commitment=total(keep, lax.stop_gradient),
  )
  return terms, uses


def _chosen(codes: Int[Array, ' n'], size: int) -> Float[Array, ' v']:
  """Marks the codes that occur with 1, the others with 0."""
  return jnp.zeros(size).at[codes].set(1)
