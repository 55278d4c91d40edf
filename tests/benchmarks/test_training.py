"""Tests that our training steps equal those of T5, and tests the tables."""

import types

import numpy as np
import pytest

from benchmarks import measuring, training
from tiger_jax.config import Config, ModelConfig, OptimizerConfig, TrainConfig
from tiger_jax.data import splits
from tiger_jax.data.sources import synthetic
from tiger_jax.models.targets import next_items
from tiger_jax.semantic_ids.ids import SemanticIds

CONFIG = Config(
  model=ModelConfig(
    max_history=6,
    d_model=8,
    num_heads=2,
    head_dim=3,
    mlp_dim=12,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout=0.1,
  ),
  train=TrainConfig(
    batch_size=8,
    length_buckets=(6,),
    optimizer=OptimizerConfig(weight_decay=0.1),
  ),
)


@pytest.fixture(scope='module')
def setup():
  dataset = synthetic.make(40, seed=0)
  sizes = (8, 9, 10)
  numbers = np.random.default_rng(0).permutation(np.prod(sizes))
  codes = np.stack(np.unravel_index(numbers, sizes), 1)[: dataset.num_items]
  ids = SemanticIds(codes.astype(np.int32), sizes, 3, {})
  return training.Setup(dataset, ids, {'tiny': CONFIG}, num_rounds=2)


@pytest.fixture
def peer():
  for name in ('torch', 'transformers'):
    pytest.importorskip(name, reason=f'needs {name}: pip install {name}')
  from benchmarks.peers import hf_t5_training

  return hf_t5_training


def _rows(table):
  """Maps the first cell of each row of a table to the other cells."""
  lines = [x.strip('| ').split(' | ') for x in table.split('\n') if '|' in x]
  header, dashes, *rows = lines
  assert {len(row) for row in rows} == {len(dashes)}
  return {name: row for name, *row in rows}


def _pair(peer, setup, config):
  """Returns our trainer and that of the peer, with the same weights."""
  ours = training.Ours(setup, config)
  return ours, peer.HfTrainer(
    ours.network,
    ours.state.params,
    setup.ids.codes,
    config.train.optimizer,
    [ours.batch(0)],
    compiled=False,
  )


def test_both_sides_compute_the_same_losses_and_gradients(peer, setup):
  sides = _pair(peer, setup, training.change(CONFIG, 'model', dropout=0.0))
  a, b = sides[0].take(6), sides[1].take(0)
  np.testing.assert_allclose(a['loss'], b['loss'], rtol=1e-5)
  np.testing.assert_allclose(a['gradient_norm'], b['gradient_norm'], rtol=1e-4)
  # `check` compares two steps of both sides, which must start at the same step.
  text = peer.check(*sides)
  assert text.startswith('without dropout, the losses of two steps differ by')
  sides[1].take(0)
  with pytest.raises(measuring.Mismatch, match='T5 and ours: without'):
    peer.check(*sides)


def test_the_peer_has_the_same_dropout(peer, setup):
  _, theirs = _pair(peer, setup, CONFIG)
  rates = {x.p for x in theirs.network.modules() if hasattr(x, 'p')}
  rates |= {x.dropout for x in theirs.network.modules()
            if isinstance(x, peer.T5Attention)}  # fmt: skip
  assert theirs.network.training
  assert rates == {0.1}


def test_t5_runs_uncompiled_if_it_cannot_be_compiled(peer, setup, monkeypatch):
  def fail(*unused):
    raise RuntimeError('no compiler\nat all')

  monkeypatch.setattr(peer.torch, 'compile', lambda loss_fn: fail)
  output = training.t5(setup)
  rows = _rows(output.split('\n\n')[0])
  assert list(rows) == [
    'tiny, ours',
    'tiny, ours, one pass per user',
    'tiny, ours, the batches of T5',
    'tiny, T5',
  ]
  assert rows['tiny, T5'][0] == '1.00 (1.00 to 1.00)'
  assert '- tiny: T5 is NOT compiled: no compiler' in output.split('\n')
  assert '- tiny: without dropout, the losses of two steps differ' in output


def test_without_torch_the_section_is_skipped(setup):
  assert (
    training.t5(setup, peers=['no_such_package'])
    == "skipped: pip install -e '.[bench]'"
  )


def test_step_times_are_weighted_by_the_shares_of_an_epoch(monkeypatch):
  class Side:
    shares = {'short': 0.75, 'long': 0.25}
    steps = 2

    def __init__(self):
      self.taken = []

    def take(self, key):
      self.taken.append(key)

  def in_turns(calls, num_rounds):
    for call in calls.values():
      call(0)
    return {(name, key): np.array([4.0, 8]) if key == 'short' else np.ones(2)
            for name, key in calls}  # fmt: skip

  monkeypatch.setattr(measuring, 'in_turns', in_turns)
  side = Side()
  seconds, first = training.time_steps({'a': side}, 2)
  assert side.taken == 2 * ['short', 'long']
  np.testing.assert_allclose(seconds['a'], [1.625, 3.125])
  assert first['a'] >= 0


def test_take_trains_on_every_batch_of_a_stack(setup):
  config = training.change(CONFIG, 'train', steps_per_call=3)
  ours = training.Ours(setup, config, steps_per_call=1)
  assert (ours.shares, ours.targets, ours.steps) == ({6: 1.0}, 8, 3)
  metrics = ours.take(6)
  assert metrics['loss'].shape == metrics['gradient_norm'].shape == ()
  assert ours.state.step == 3
  # The peer copies the weights of this network.
  assert ours.network.config == config.model
  assert ours.network.level_sizes == setup.ids.level_sizes


def test_shares_are_the_fractions_of_batches_with_each_width(setup):
  ours = training.Ours(
    setup, training.change(CONFIG, 'train', length_buckets=(3, 6))
  )
  assert {x: y.width for x, y in ours.stacks.items()} == {3: 3, 6: 6}
  lengths = splits.history_lengths(splits.split(setup.dataset, 'train'))
  assert ours.shares[3] == pytest.approx((lengths <= 3).mean(), abs=0.05)
  assert sum(ours.shares.values()) == pytest.approx(1)


def test_one_pass_per_user_counts_every_target(setup):
  config = training.change(CONFIG, 'model', causal_encoder=True)
  ours = training.Ours(setup, config)
  source = setup.session(config).batches
  counts = [
    int((next_items(ours.batch(call)) >= 0).sum())
    for call in range(source.steps_per_epoch)
  ]
  assert ours.targets == np.mean(counts) > 8


@pytest.mark.parametrize('section', ['replicas', 'precision', 'scan'])
def test_the_table_has_the_ratio_and_the_step_times(
  setup, monkeypatch, section
):
  sides = []

  def make_side(setup, config, steps_per_call):
    sides.append((config, steps_per_call))
    return types.SimpleNamespace(shares={6: 1.0}, steps=4, take=int)

  seconds = {(0, 6): np.array([0.2, 0.4, 0.8]), (1, 6): np.full(3, 0.4)}
  monkeypatch.setattr(training, 'Ours', make_side)
  monkeypatch.setattr(
    measuring,
    'in_turns',
    lambda calls, _: dict(zip(calls, seconds.values(), strict=True)),
  )
  measure, *_ = training.SECTIONS[section]
  table = measure(setup)
  a, b = training._SIDES[section](CONFIG).items()
  header = f'|  | {a[0]} / {b[0]} | {a[0]}, ms per step | {b[0]}'
  assert table.startswith(header)
  assert _rows(table)['tiny'] == [
    '1.000 (0.750 to 1.500)',
    '100.0 (75.0 to 150.0)',
    '100.0 (100.0 to 100.0)',
  ]
  assert sides == [a[1], b[1]]


def test_the_sides_of_a_comparison_differ_in_one_setting():
  sides = {x: list(y(CONFIG).values()) for x, y in training._SIDES.items()}
  assert list(sides) == ['replicas', 'precision', 'scan']
  (four, _), (one, _) = sides['replicas']
  assert (four.train.replicas, one) == (4, CONFIG)
  (bfloat16, _), (float32, _) = sides['precision']
  assert (bfloat16.model.dtype, float32) == ('bfloat16', CONFIG)
  (config, steps_per_call), other = sides['scan']
  assert (steps_per_call, other) == (8, (config, 1))
  assert config.train.steps_per_call == 8


def test_saving_has_a_row_for_each_config(setup):
  (row,) = _rows(training.saving(setup)).items()
  assert row[0].startswith('tiny, 0 MB')
  assert 0 < float(row[1][2].split()[0]) < 10


def test_the_wait_for_input_is_a_share_of_the_time(setup, capsys):
  output = training.wait_for_input(setup, steps_per_round=5)
  row = _rows(output)['tiny, 10 steps']
  assert 0 < float(row[0].rstrip('%')) < 100
  assert not capsys.readouterr().out


def test_synthetic_histories_are_as_long_as_those_of_beauty():
  dataset, ids = training.synthetic()
  assert (dataset.num_users, dataset.num_items) == (22_363, 12_101)
  assert len(ids.codes) == dataset.num_items
  assert dataset.history.max() < dataset.num_items
  lengths = np.diff(dataset.offsets)
  assert lengths.min() == 5
  # The histories of Beauty have a mean length of 8.9 and a median of 6.
  assert abs(lengths.mean() - 8.9) < 0.4
  assert np.median(lengths) == 6


def test_arguments_override_the_defaults():
  options = training.parse([])
  assert (options.quick, options.rounds, options.workdir) == (False, 10, None)
  assert options.section == list(training.SECTIONS)
  options = training.parse(['--quick', '--workdir=runs/a', '--section=t5'])
  assert (options.quick, options.rounds) == (True, 3)
  assert options.section == ['t5']
  assert str(options.workdir) == 'runs/a'
  assert training.parse(['--quick', '--rounds=7']).rounds == 7
  with pytest.raises(SystemExit):
    training.parse(['--section=none'])
