"""Tests the report of a small run, also with odd titles and missing data."""

import dataclasses
import html
import json
import re
import shlex

import numpy as np
import pytest

from tests.report.reports import Page
from tiger_jax.config import Config, command_line
from tiger_jax.report import page, sections, user_sections
from tiger_jax.report.finished_run import FinishedRun
from tiger_jax.stages.report import read_run

SECTIONS = [
  'run', 'data', 'ids', 'training', 'metrics', 'groups', 'diversity',
  'shoppers', 'time', 'environment',
]  # fmt: skip
# Texts that a shop may have as a title.
HOSTILE = (
  '<script>alert(1)</script>',
  '</svg></title><img src=x onerror=alert(1)>',
  '"><svg onload=alert(1)>',
  "{{ 7 * 7 }} {% raw %} $x$ & 'quoted'",
  'Supercalifragilistic' * 100,
  '\N{RIGHT-TO-LEFT OVERRIDE}\x1b[2J\ud800 <!--',
)


@pytest.fixture(name='run', scope='module')
def _run(trained):
  return read_run(trained)


@pytest.fixture(name='source', scope='module')
def _source(run):
  return page.render(run)


def with_model(run: FinishedRun, name: str) -> FinishedRun:
  """Returns the run with model `name` in its config and results."""
  model = dataclasses.replace(run.config.model, name=name)
  return dataclasses.replace(
    run,
    config=dataclasses.replace(run.config, model=model),
    results=run.results | {'model': name},
    ids=None,
  )


def with_texts(run: FinishedRun, texts: tuple[str, ...]) -> FinishedRun:
  """Returns the run with `texts` as titles, categories and user ids."""
  dataset = run.dataset
  repeated = tuple(texts[i % len(texts)] for i in range(dataset.num_items))
  fields = dataset.items.fields | {'title': repeated, 'categories': repeated}
  user_ids = tuple(
    f'{texts[i % len(texts)]}{i}' for i in range(dataset.num_users)
  )
  items = dataclasses.replace(dataset.items, fields=fields)
  changed = dataclasses.replace(dataset, items=items, user_ids=user_ids)
  return dataclasses.replace(run, dataset=changed)


def test_the_run_has_written_its_report(trained, source):
  assert (trained / 'report.html').read_text(encoding='utf-8') == source
  assert len(source) < 3_000_000


def test_sections_are_in_order(source):
  parsed = Page(source)
  assert parsed.sections == SECTIONS
  links = [dict(x)['href'] for name, x in parsed.elements if name == 'a']
  assert [x[1:] for x in links if x[0] == '#'] == SECTIONS
  assert 'missing' not in [dict(x).get('class') for _, x in parsed.elements]


def test_nothing_is_loaded_from_elsewhere(source):
  for name, attributes in Page(source).elements:
    assert name not in ('link', 'img', 'iframe', 'object', 'base')
    for key, value in attributes:
      assert key not in ('src', 'srcset', 'action', 'data', 'poster'), name
      assert 'url(' not in (value or '').replace('url(#', '')
  assert '@import' not in source and '@font-face' not in source


def test_ids_of_the_page_are_unique(source):
  ids = [
    value for _, x in Page(source).elements for key, value in x if key == 'id'
  ]
  assert len(set(ids)) == len(ids)


def test_the_headline_and_the_table_show_the_metrics(run, source):
  text = Page(source).text
  test = run.results['metrics']['test']
  assert f'For {test["recall@10"]:.1%} of the test users' in text
  table = user_sections.metrics(run)
  assert [x['name'] for x in table['rows']] == [
    'TIGER', 'TIGER, without items of the history', 'popularity', 'transitions',
  ]  # fmt: skip
  for row, values in zip(
    table['rows'],
    (
      test,
      run.results['metrics']['test_masked'],
      run.results['baselines']['popularity']['test'],
      run.results['baselines']['transitions']['test'],
    ),
    strict=True,
  ):
    for name, value, (low, high) in zip(
      table['columns'], row['values'], row['intervals'], strict=True
    ):
      assert value == values[name]
      # The interval is a bootstrap over users, and the value is the mean.
      assert low <= value <= high
      assert (
        f'{value:.4f}' in text and f'{low:.4f}\N{EN DASH}{high:.4f}' in text
      )
  assert table['rows'][0]['intervals'] != table['rows'][2]['intervals']


def test_metrics_of_the_saved_ranks_equal_the_results(run):
  for field, values in (
    ('rank', run.results['metrics']['test']),
    ('rank_masked', run.results['metrics']['test_masked']),
    ('rank_popularity', run.results['baselines']['popularity']['test']),
    ('rank_transitions', run.results['baselines']['transitions']['test']),
  ):
    means = user_sections.user_values(getattr(run.users, field)).mean(axis=0)
    names = ('recall@5', 'ndcg@5', 'recall@10', 'ndcg@10')
    assert means == pytest.approx([values[x] for x in names])


def test_metrics_of_groups_equal_a_loop_over_users(run):
  dataset, users = run.dataset, run.users
  pairs, bought = set(), {}
  for user in range(dataset.num_users):
    seen = dataset.history_of(user)[:-2].tolist()
    pairs |= set(zip(seen, seen[1:], strict=False))
    for item in seen:
      bought[item] = bought.get(item, 0) + 1
  hits: dict[str, list[bool]] = {}
  for place, user in enumerate(users.user.tolist()):
    *history, target = dataset.history_of(user).tolist()
    count = bought.get(target, 0)
    for name in (
      'up to 5 items' if len(history) <= 5 else '6 to 10 items',
      'bought up to 5 times' if count <= 5 else 'bought 6 to 20 times',
      'pair seen in training' if (history[-1], target) in pairs else 'new pair',
    ):
      hits.setdefault(name, []).append(target in users.items[0, place])
  blocks = user_sections.by_group(run, users)
  rows = {row['name']: row for block in blocks for row in block['rows']}
  assert rows.keys() == hits.keys()
  for name, values in hits.items():
    assert rows[name]['users'] == len(values)
    assert rows[name]['value'] == pytest.approx(np.mean(values))


def test_the_page_shows_the_funnel_and_the_changed_settings(run, source):
  text = Page(source).text
  assert f'{run.dataset.num_items:,} items' in text
  funnel = sections.funnel(run)
  assert [x[0] for x in funnel['rows']] == ['purchases', 'users', 'items']
  counted = run.results['dataset']['counts']
  assert funnel['rows'][0][1] == counted['events']['read']
  settings = sections.settings(run)
  changed = dict(settings['changed'])
  assert changed['train.steps'] == '20' and 'seed' not in changed
  # A whole path would name folders of the machine.
  assert changed['dataset.source_dir'] == '.../shop'
  assert '--config.train.steps=20' in settings['words']
  assert '--config.dataset.source_dir=PATH' in settings['words']
  assert str(run.config.dataset.source_dir) not in source


def test_a_command_copied_from_the_page_has_the_same_config(run):
  dataset = dataclasses.replace(run.config.dataset, source_dir='x')
  ids = dataclasses.replace(run.config.semantic_ids, shared_with=('x', 'x'))
  config = dataclasses.replace(run.config, dataset=dataset, semantic_ids=ids)
  source = page.render(dataclasses.replace(run, config=config, users=None))
  assert source.count('Replace <code>PATH</code> with the path') > 1
  texts = re.findall('<pre>(.*?)</pre>', source.replace('PATH', 'x'), re.DOTALL)
  first, *others = (
    command_line.parse(shlex.split(html.unescape(re.sub('<.+?>', '', x)))[2:])
    for x in texts
  )
  assert first.config == config and others
  for x in others:
    assert (x.config, x.mode, x.workdir) == (config, 'evaluate', run.workdir)


def test_only_the_last_name_of_a_path_is_shown():
  shown = sections._shown
  assert shown('embedding.path', '/home/me/vectors.npy') == '.../vectors.npy'
  assert shown('embedding.model', '~/models/mine/') == '.../mine'
  assert shown('embedding.model', 'group/model') == 'group/model'
  workdirs = ('/home/me/a', 'b/c')
  assert shown('semantic_ids.shared_with', workdirs) == '.../a, .../c'
  assert shown('semantic_ids.shared_with', ()) == '()'


def test_reasons_of_dropped_lines_are_shown(run):
  counts = {
    'events': {'read': 9, 'used': 7, 'dropped': {'<b>repeated</b>': 2}},
    'users': {'read': 3, 'used': 3, 'dropped': {}},
    'items': {'read': 5, 'used': 6, 'never_bought': 1, 'repeated': 2},
    'notes': ['a <i>note</i>'],
  }
  dataset = run.results['dataset'] | {'counts': counts}
  changed = dataclasses.replace(run, results=run.results | {'dataset': dataset})
  text = Page(page.render(changed)).text
  assert '2 <b>repeated</b>' in text and 'a <i>note</i>' in text
  assert '1 more known from purchases only; 2 were repeated' in text


def test_curves_merge_the_lines_of_a_step(run, monkeypatch):
  drawn = {}
  monkeypatch.setattr(
    sections.charts, 'curve', lambda title, _, lines: drawn.update(lines)
  )
  log = [
    {'stage': 'train', 'step': 5, 'loss': 3.0},
    {'stage': 'semantic_ids', 'step': 5, 'loss': 9.0},
    {'stage': 'train', 'step': 10, 'loss': 2.0},
    {'stage': 'train', 'step': 10, 'ndcg@10': 0.2, 'recall@10': 0.3},
    {'stage': 'train', 'step': 15, 'ndcg@10': 0.1, 'loss': 1.0},
    {'stage': 'train', 'step': 15, 'loss': 1.5},
  ]
  training = sections.training(dataclasses.replace(run, log=log))
  assert drawn['loss'] == [(5, 3.0), (10, 2.0), (15, 1.5)]
  assert drawn['ndcg@10'] == [(10, 0.2), (15, 0.1)]
  assert training['best_step'] == 10


def test_the_goodput_is_summed_over_all_lines(run):
  goodput = [
    {'seconds': {'step': 3.0, 'compile': 1.0, 'wall': 4.0}},
    {'seconds': {'step': 5.0, 'other': 1.0, 'wall': 6.0}},
    {'seconds': 'damaged'},
  ]
  time = sections.time(dataclasses.replace(run, goodput=goodput))
  assert time['goodput'] == pytest.approx(0.8)
  assert [x[:2] for x in time['phases']] == [
    ('training steps', 8.0), ('compilation', 1.0), ('other work', 1.0),
  ]  # fmt: skip


def test_the_hit_of_a_shopper_is_marked(run):
  entries = user_sections.shoppers(run, run.users)
  assert len(entries) == 10
  for entry in entries:
    marks = [is_hit for _, is_hit in entry['listed']]
    assert sum(marks) == (entry['rank'] > 0)
    if entry['rank']:
      assert marks.index(True) == entry['rank'] - 1
      assert entry['listed'][entry['rank'] - 1][0] == entry['next']


def test_titles_are_escaped(run):
  source = page.render(with_texts(run, HOSTILE))
  parsed = Page(source)
  plain = Page(page.render(run))
  for name in ('script', 'svg', 'img', 'title', 'style'):
    if name in ('svg', 'title'):  # The titles change the number of tips.
      assert parsed.count(name) <= plain.count(name) + 200
    else:
      assert parsed.count(name) == plain.count(name)
  for _, attributes in parsed.elements:
    assert not any(key.startswith('on') for key, _ in attributes)
  assert '<script>alert(1)</script>' in parsed.text
  assert '{{ 7 * 7 }}' in parsed.text and '49 {% raw %}' not in parsed.text
  assert 'Supercalifragilistic' * 7 not in source and '\x1b' not in source
  source.encode('utf-8')
  assert len(source) < 3_000_000


def test_missing_data_of_an_older_version_is_named(run):
  results = {k: v for k, v in run.results.items() if k != 'command'}
  results['dataset'] = {
    k: v for k, v in results['dataset'].items() if k != 'counts'
  }
  old = dataclasses.replace(
    run, results=results, users=None, log=[], goodput=[]
  )
  parsed = Page(page.render(old))
  assert parsed.sections == SECTIONS
  text = parsed.text
  assert 'The command is not known' in text
  assert "call tiger_jax.run(config, 'NEW_FOLDER') in Python" in text
  assert 'CONFIG' not in text and 'call tiger_jax.run with its' in text
  for sentence in (
    'Confidence intervals need', 'Metrics of groups need',
    'Measures of diversity need', 'Lists of shoppers need',
  ):  # fmt: skip
    assert sentence in text
  assert f'remove the folder {run.workdir}/evaluation' in text
  assert f'--workdir={run.workdir} --mode=evaluate' in text
  assert 'did not count the lines of the raw files' in text
  assert '--mode=data' in text and '--mode=train' in text
  assert 'The log of the training is missing' in text
  assert f'{run.results["metrics"]["test"]["ndcg@10"]:.4f}' in text


@pytest.mark.parametrize('name', ['sasrec', 'popularity'])
def test_a_model_without_ids_has_no_section_of_ids(run, name):
  parsed = Page(page.render(with_model(run, name)))
  assert 'ids' not in parsed.sections
  assert ('training' in parsed.sections) == (name == 'sasrec')
  assert ('Goodput of the training' in parsed.text) == (name == 'sasrec')


def test_the_page_of_a_dataset_in_the_paper_shows_the_paper_results(run):
  name = 'amazon2014/Toys_and_Games'
  dataset = dataclasses.replace(run.config.dataset, name=name)
  config = dataclasses.replace(run.config, dataset=dataset)
  text = Page(page.render(dataclasses.replace(run, config=config))).text
  assert re.search(r'TIGER, in the paper 0\.0521 0\.0371 0\.0712 0\.0432', text)
  assert 'SASRec, in the paper' in text and 'arXiv 2305.05065' in text
  assert 'in the paper' not in Page(page.render(run)).text


def test_replicas_are_averaged(run):
  users = run.users
  empty = np.zeros_like(users.rank)
  both = dataclasses.replace(
    users,
    items=np.concatenate([users.items, users.items]),
    rank=np.concatenate([users.rank, empty]),
    rank_masked=np.concatenate([users.rank_masked, empty]),
  )
  one = user_sections.user_values(users.rank)
  np.testing.assert_allclose(user_sections.user_values(both.rank), one / 2)
  assert page.render(dataclasses.replace(run, users=both))


def test_the_page_says_that_all_settings_have_their_defaults(run):
  config = dataclasses.replace(run, config=Config())
  assert sections.settings(config)['changed'] == []
  assert 'All settings have their defaults.' in Page(page.render(config)).text


def test_results_name_the_command(trained):
  results = json.loads((trained / 'results.json').read_text())
  assert results['command'].startswith('python -m tiger_jax.main --config=')
  assert 'source_dir' not in results['command']
