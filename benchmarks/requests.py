"""Times whole requests, from histories to items, against other decoders."""

from collections.abc import Callable, Sequence
import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Int
import numpy as np

from benchmarks import measuring
from tiger_jax.catalog.catalog import Catalog
from tiger_jax.config import ModelConfig
from tiger_jax.interfaces import Batch
from tiger_jax.models.tiger import Encoded, Tiger
from tiger_jax.retrieval.beam_search import Beams, beam_search
from tiger_jax.retrieval.tiger import TigerRetriever
from tiger_jax.semantic_ids.ids import SemanticIds

# The number of requests, the number of history tokens, and the milliseconds
# that NVIDIA publishes for its recsys-examples on an H100 (eight layers of
# width 1,024, 200 beams).
_SID_GR = ((1, 256, 21.5), (16, 256, 23.0), (16, 2048, 80.0))
# Beauty: the number of items, and the level sizes of RQ-KMeans IDs.
_BEAUTY = 12_101, (256, 256, 256, 17)


class Shop(NamedTuple):
  """A network with random parameters, and its catalog.

  Attributes:
    retriever: The network and the catalog.
    params: The parameters of the network.
    codes: The Semantic ID of every item.
  """

  retriever: TigerRetriever
  params: Any
  codes: Int[np.ndarray, 'items l']

  def batch(self, batch_size: int, num_items: int) -> Batch:
    """Draws random histories of `num_items` items."""
    rng = np.random.default_rng(batch_size)
    history = rng.integers(0, len(self.codes), (batch_size, num_items))
    none = np.full(batch_size, -1, np.int32)
    return Batch(history.astype(np.int32), none, none)


def open_shop(config: ModelConfig, ids: SemanticIds) -> Shop:
  """Initializes a network for a catalog.

  Args:
    config: The sizes of the network.
    ids: The Semantic IDs of the catalog.
  """
  model = Tiger(config, ids.level_sizes)
  catalog = Catalog.from_codes(ids.codes, ids.level_sizes)
  row = jnp.zeros((1,), jnp.int32)
  history = jnp.zeros((1, config.max_history), jnp.int32)
  init = jax.jit(model.init)
  params = init(jax.random.key(0), catalog.codes, Batch(history, row, row))[
    'params'
  ]
  return Shop(TigerRetriever(model, catalog, 10), params, ids.codes)


def ids_of(workdir: Path | None) -> SemanticIds:
  """Returns the IDs of a run; if there is no run, random IDs like Beauty's."""
  if workdir:
    return SemanticIds.load(workdir / 'semantic_ids')
  return random_ids(*_BEAUTY)


def random_ids(num_items: int, level_sizes: tuple[int, ...]) -> SemanticIds:
  """Draws unique Semantic IDs from a uniform distribution.

  Args:
    num_items: The number of items.
    level_sizes: The number of codes at each level.
  """
  rng = np.random.default_rng(0)
  numbers = np.unique(rng.integers(0, math.prod(level_sizes), 2 * num_items))
  numbers = rng.permutation(numbers)[:num_items]
  codes = np.stack(np.unravel_index(numbers, level_sizes), 1).astype(np.int32)
  return SemanticIds(codes, level_sizes, len(level_sizes), {})


@functools.partial(jax.jit, static_argnums=0)
def _encode(model: Tiger, params: Any, codes: jax.Array, batch: Batch):
  with jax.default_matmul_precision('highest'):  # As the retriever does.
    return model.bind({'params': params}).encode(codes, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _decode(
  model: Tiger,
  num_beams: int,
  constrained: bool,
  params: Any,
  catalog: Catalog,
  encoded: Encoded,
) -> Beams:
  bound = model.bind({'params': params})
  batch_size = len(encoded.mask)
  with jax.default_matmul_precision('highest'):
    return beam_search(
      lambda level, previous, candidates, cache: bound.decode_step(
        level, previous, cache, encoded, candidates
      ),
      bound.empty_cache(batch_size),
      catalog,
      batch_size,
      num_beams,
      constrained=constrained,
      normalize_children=model.config.softmax == 'trie',
    )


def measure_flax(
  decode_file: Path,
  workdir: Path | None,
  settings: Sequence[tuple[int, int]],
  num_rounds: int,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times our search against Flax's beam search with the same weights.

  Args:
    decode_file: The file of Flax's beam search.
    workdir: The run whose catalog is used. If None, the catalog is random.
    settings: Pairs of the number of requests and the number of beams.
    num_rounds: The number of timed rounds.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  from benchmarks.peers.flax_beam_search import FlaxSearch

  shop = open_shop(ModelConfig(), ids_of(workdir))
  model, params = shop.retriever.model, shop.params
  codes, catalog = shop.retriever.codes, shop.retriever.catalog
  peer = FlaxSearch(decode_file, model, params, codes)
  rows = []
  for batch_size, num_beams in settings:
    batch = shop.batch(batch_size, model.config.max_history)
    encoded = _encode(model, params, codes, batch)
    history = peer.encode(batch)

    def decode(constrained, m=num_beams, encoded=encoded):
      return _decode(model, m, constrained, params, catalog, encoded)

    def request(m=num_beams, batch=batch):
      wide = TigerRetriever(model, catalog, m)
      return wide.search(params, batch, 1)

    theirs = peer.decode(history, num_beams)
    ours = decode(False)
    difference = compare(ours.codes, theirs[0], ours.scores, theirs[1])
    seconds = measuring.in_turns(
      measuring.blocking(
        {
          'ours': functools.partial(decode, True),
          'ours, no mask': functools.partial(decode, False),
          'theirs': functools.partial(peer.decode, history, num_beams),
          'ours, request': request,
          'theirs, request': functools.partial(peer.search, batch, num_beams),
        }
      ),
      num_rounds,
      num_warm=1,
    )
    ratios = {
      'decoder': seconds['theirs'] / seconds['ours'],
      'decoder, no mask': seconds['theirs'] / seconds['ours, no mask'],
      'request': seconds['theirs, request'] / seconds['ours, request'],
    }
    rows.append(
      _row('Flax', batch_size, num_beams, seconds['ours'], ratios, record)
    )
    rows[-1].append(f'{difference:.0e}')
  header = ['Flax / ours', 'our decoder, ms', 'decoder', 'decoder, no mask',
            'whole request', 'scores differ by']  # fmt: skip
  return measuring.table(header, rows)


def measure_sid_gr(
  num_rounds: int,
  record: Callable[[dict[str, Any]], None],
) -> str:
  """Times whole requests at the sizes that NVIDIA publishes.

  The width is 1,024. The encoder and the decoder have eight layers each. There
  are four levels of 256 codes, 200 beams and a million items. NVIDIA's model
  has eight layers in total and no catalog, and it computes in bfloat16. Our
  search computes in float32.

  Args:
    num_rounds: The number of timed rounds.
    record: A function that stores a measurement.

  Returns:
    A Markdown table.
  """
  rows = []
  for batch_size, num_tokens, published in _SID_GR:
    config = ModelConfig(
      max_history=num_tokens // 4, d_model=1024, num_heads=16, head_dim=64,
      mlp_dim=4096, num_encoder_layers=8, num_decoder_layers=8,
    )  # fmt: skip
    shop = open_shop(config, random_ids(10**6, (256,) * 4))
    batch = shop.batch(batch_size, config.max_history)
    r = shop.retriever
    wide = TigerRetriever(r.model, r.catalog, 200)
    seconds = measuring.in_turns(
      measuring.blocking(
        {'ours': functools.partial(wide.search, shop.params, batch, 200)}
      ),
      num_rounds,
      num_warm=3,
    )['ours']
    record({'section': 'sid_gr', 'batch_size': batch_size,
            'num_tokens': num_tokens,
            'ms': measuring.percentiles(1000 * seconds)})  # fmt: skip
    rows.append([
      f'{batch_size} x {num_tokens} tokens',
      measuring.spread(1000 * seconds, ends=10), published,
      f'{1000 * np.median(seconds) / published:.2f}',
    ])  # fmt: skip
  header = ['', 'ours, ms', 'published for an H100, ms', 'ours / published']
  return measuring.table(header, rows)


def compare(ours, theirs, our_scores, their_scores) -> float:
  """Returns the largest difference of scores.

  Raises:
    measuring.Mismatch: The results differ in more than the order of near-ties.
  """
  measuring.compare('the peer', ours, theirs, our_scores)
  difference = float(np.abs(our_scores - their_scores).max())
  if difference > 1e-4:
    raise measuring.Mismatch(f'scores differ by {difference}')
  return difference


def _row(
  peer: str,
  batch_size: int,
  num_beams: int,
  seconds: np.ndarray,
  ratios: dict[str, np.ndarray],
  record: Callable[[dict[str, Any]], None],
) -> list[str]:
  percentiles = {name: measuring.percentiles(x) for name, x in ratios.items()}
  label = f'{batch_size} requests, {num_beams} beams'
  record({'section': peer, 'what': label, **percentiles})
  spreads = [measuring.spread(x, digits=1, ends=10) for x in ratios.values()]
  return [label, f'{1000 * np.median(seconds):.1f}', *spreads]
