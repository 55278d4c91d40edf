"""DSI (Tay et al., 2022): a network that is the index of its documents."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tiger_jax.interfaces import Codes
from tiger_jax.models.tiger import Tiger


class Dsi(Tiger):
  """Generates the ID of an item from the item's own text, too.

  The text is a vector, which the encoder reads as a token. Retrieval, whose
  query is a history, is TIGER's; the docids of the paper are paths in a tree of
  k-means, as the quantizer `hierarchical_kmeans` makes them.
  """

  def setup(self):
    """Makes the map from a text to a token, and what TIGER has."""
    super().setup()
    self.text = nn.Dense(self.config.d_model, use_bias=False)

  def index(
    self,
    codes: Codes,
    items: Int[Array, ' n'],
    vectors: Float[Array, 'n dim'],
    deterministic: bool = True,
  ) -> list[Float[Array, 'n _v']]:
    """Scores the codes of items from their text, each given those before it.

    Returns float32 logits over each level's codes.
    """
    mask = jnp.ones((len(items), 1, 1), bool)
    tokens = self.text(vectors).astype(jnp.dtype(self.config.dtype))
    x = self.encoder(tokens[:, None], mask, deterministic)
    cross = self.decoder.cross_keys_values(x)
    logits = self._teach(codes[items][:, None], cross, mask, deterministic)
    return [x[:, 0] for x in logits]
