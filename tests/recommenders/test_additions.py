"""A new model or quantizer needs only a class and a registry entry."""

from typing import NamedTuple

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tiger_jax import cli
from tiger_jax.config import command_line
from tiger_jax.models.baselines.item_model import ItemModel, embedding
from tiger_jax.pipeline import Pipeline
from tiger_jax.recommenders import registry
from tiger_jax.report.terminal import show_results
from tiger_jax.semantic_ids.quantizers import registry as quantizers


class NextOfLast(ItemModel):
  """A query is a learned vector of the last item plus projected features."""

  def setup(self):
    super().setup()
    self.last = embedding(self.num_items, self.config.d_model)
    self.project = nn.Dense(self.config.d_model)

  def queries(self, features, batch, deterministic):
    rows = jnp.maximum(batch.history, 0)
    return self.last(rows) + self.project(features[rows])


class Signs(NamedTuple):
  """A quantizer whose two codes each hold three signs of the embedding."""

  median: np.ndarray
  numbers: tuple[np.ndarray, ...]

  @property
  def level_sizes(self):
    return tuple(len(x) for x in self.numbers)

  def codes(self, x):
    is_above = (x > self.median[None])[:, :6].astype(jnp.int32)
    powers = jnp.array([1, 2, 4])[None]
    return jnp.stack(
      [(is_above[:, :3] * powers).sum(1), (is_above[:, 3:] * powers).sum(1)], 1
    )

  def distances(self, x, codes, level):
    item_codes = self.codes(x)[:, level, None]
    return jnp.bitwise_count(item_codes ^ self.numbers[level][None]).astype(
      float
    )

  def reconstruct(self, codes):
    return None


def fit_signs(rng, embeddings, sizes):
  median = jnp.asarray(np.median(embeddings, axis=0))
  return Signs(median, tuple(jnp.arange(size) for size in sizes))


@pytest.fixture(name='shop', scope='module')
def _shop(tmp_path_factory):
  return small.make(tmp_path_factory.mktemp('shop'))


def run(shop, workdir, *flags):
  """Runs a command as `main` does, and returns the results."""
  command = command_line.parse([
    'tiger-jax', *small.FLAGS, f'--config.dataset.source_dir={shop}',
    f'--workdir={workdir}', '--mode=evaluate', *flags,
  ])  # fmt: skip
  cli.run(command)
  return Pipeline(command.config, workdir).results


def test_a_new_baseline_runs(shop, tmp_path, monkeypatch, capsys):
  entry = registry.Entry(
    'Next of last',
    f'{__name__}:NextOfLast',
    ('embeddings',),
    'tiger_jax.recommenders.inputs:vectors',
  )
  monkeypatch.setitem(registry.MODELS, 'next_of_last', entry)
  results = run(shop, tmp_path / 'run', '--config.model.name=next_of_last')
  assert results['model'] == 'next_of_last'
  # In the small shop, the next item mostly depends on the last one.
  assert results['metrics']['test']['recall@10'] > 0
  assert 'Next of last test masked' in show_results(results)
  assert 'Next of last test masked' in capsys.readouterr().out


def test_a_new_quantizer_runs(shop, tmp_path, monkeypatch):
  entry = quantizers.Entry(
    Signs, (8, 8), fit_signs, needs_an_item_per_code=False
  )
  monkeypatch.setitem(quantizers.QUANTIZERS, 'signs', entry)
  results = run(
    shop,
    tmp_path / 'run',
    '--config.semantic_ids.quantizer=signs',
    '--config.semantic_ids.codebook_sizes=()',
  )
  assert len(results['semantic_ids']['collision_rate']) == 2
  assert set(results['metrics']['test']) >= {'recall@10', 'sid_recall@10'}
  assert 'TIGER test' in show_results(results)
