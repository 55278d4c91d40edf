"""DSI (Tay et al., 2022): a network that memorizes the IDs of its items."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.interfaces import Codes
from tiger_jax.models.tiger import Tiger


class Dsi(Tiger):
  """TIGER that also generates the ID of an item from the item's text.

  The encoder reads the text vector as one token. Retrieval from a history is
  the same as in TIGER. In the DSI paper, a document ID is a path in a tree of
  k-means clusters. The quantizer `hierarchical_kmeans` builds such IDs.
  """

  def setup(self):
    """Adds the projection from a text vector to a token."""
    super().setup()
    self.text = nn.Dense(self.config.d_model, use_bias=False)

  def index(
    self,
    codes: Codes,
    items: Int[Array, ' n'],
    vectors: Float[Array, 'n dim'],
    deterministic: bool = True,
  ) -> list[Float[Array, 'n _v']]:
    """Returns the logits of each item's codes, given the item's text vector.

    There is one float32 array per level. The logits of a level also depend on
    the item's codes at the earlier levels.
    """
    mask = jnp.ones((len(items), 1, 1), bool)
    tokens = self.text(vectors).astype(jnp.dtype(self.config.dtype))
    x = self.encoder(tokens[:, None], mask, deterministic)
    cross = self.decoder.cross_keys_values(x)
    logits = self._teacher_forced_logits(
      codes[items][:, None], cross, mask, None, deterministic
    )
    return [x[:, 0] for x in logits]
