"""Tests of the checks after the data stage."""

import pytest

from tests.walks import make_dataset
from tiger_jax.config.config_dict import from_json
from tiger_jax.errors import DataError
from tiger_jax.stages.first_checks import check_sizes

# Each user has one training event, because the last two events are held out. A
# transition needs two training events.
SHORT = make_dataset([[0, 1, 2], [3, 1, 0]] * 4, 9)
# One user has two training events.
LONGER = make_dataset([[0, 1, 2], [3, 1, 0, 2]], 9)


def config(weight, model='tiger'):
  return from_json(
    {
      'semantic_ids': {'quantizer': 'random', 'codebook_sizes': [3, 3]},
      'evaluation': {'transition_weight': weight},
      'model': {'name': model},
    }
  )


@pytest.mark.parametrize('mode', ['train', 'evaluate'])
def test_a_mixture_without_transitions_is_refused(mode):
  with pytest.raises(DataError, match='transition_weight to 0'):
    check_sizes(config(0.5), SHORT, mode, is_training=False)
  check_sizes(config(0.5), LONGER, mode, is_training=False)


@pytest.mark.parametrize('mode', ['data', 'embed', 'semantic_ids', 'bench'])
def test_modes_without_a_search_need_no_transitions(mode):
  check_sizes(config(0.5), SHORT, mode, is_training=False)


@pytest.mark.parametrize(
  'settings', [config(0.0), config(0.5, 'popularity'), config(0.5, 'sasrec')]
)
def test_only_a_mixture_needs_transitions(settings):
  check_sizes(settings, SHORT, 'evaluate', is_training=False)
