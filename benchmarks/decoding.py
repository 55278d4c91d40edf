"""Benchmarks of decoding: masks, other decoders, whole requests, updates.

  python benchmarks/decoding.py --quick
  python benchmarks/decoding.py --static=STATIC --flax=FLAX

STATIC is a checkout of youtube/static-constraint-decoding at c24f9dc. FLAX is
the file examples/wmt/decode.py of google/flax at 18f8f311. `pip install -e
'.[bench]'` installs PyTorch and transformers. If --workdir names a run of
configs/beauty.py, its items and users are used; otherwise they are random. If
the peer of a section is absent, the output says so. Before the timing, the
results of both sides are compared. If they differ, the exit code is 1. The
output has the form of the sections of `benchmarks/RESULTS.md`. All measurements
are also written to the file --json.
"""

from collections.abc import Callable, Sequence
import importlib.util
import itertools
import json
from pathlib import Path
import sys
import time
from typing import Any

# Finds the packages if this file is run as a script.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import app, flags, logging

from benchmarks import certificate, changes, masks, measuring, requests, t5

_SECTIONS = (
  'masks',
  'tries',
  'updates',
  'flax',
  't5',
  'top_k',
  'certificate',
  'sid_gr',
)
_NO_STATIC = 'STATIC is absent: set --static to a checkout.'
_SHAPES = ((256, 4), (2048, 8))
_BEAMS = (10, 20, 50)
_BATCHES = ((1, 10), (2, 70), (32, 20), (16, 200))

_QUICK = flags.DEFINE_bool(
  'quick', False, 'Whether to measure only a few sizes, in about five minutes.'
)
_SECTION = flags.DEFINE_multi_enum(
  'section', list(_SECTIONS), list(_SECTIONS), 'The sections to measure.'
)
_STATIC = flags.DEFINE_string('static', None, 'A checkout of STATIC.')
_FLAX = flags.DEFINE_string(
  'flax', None, "The path of Flax's examples/wmt/decode.py."
)
_ITEMS = flags.DEFINE_multi_integer(
  'items', [10**4, 10**5, 10**6, 10**7], 'The catalog sizes of section masks.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'A run, for the sections flax, t5 and certificate.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 30, 'The number of timed rounds.')
_THREADS = flags.DEFINE_integer('threads', 2, 'The number of cores to use.')
_JSON = flags.DEFINE_string(
  'json', 'runs/benchmarks/decoding.jsonl', 'The file for all measurements.'
)


def main(argv: Sequence[str]) -> None:
  """Prints the selected sections."""
  if len(argv) > 1:
    raise app.UsageError(
      f'unexpected argument {argv[1]!r}: flags begin with --'
    )
  logging.set_verbosity(logging.ERROR)  # JAX warns about missing accelerators.
  measuring.use_cores(_THREADS.value)
  path = Path(_JSON.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  failed = False
  with path.open('w') as file:

    def record(figures: dict[str, Any]) -> None:
      file.write(json.dumps(figures) + '\n')
      file.flush()

    print(measuring.environment(*_peers()), flush=True)
    for section in _SECTION.value:
      print(f'\n### {section}\n', flush=True)
      start = time.perf_counter()
      try:
        print(_measure(section, record))
      except measuring.Mismatch as error:
        failed = True
        print(f'DIFFERENT: {error}')
      print(f'\n{time.perf_counter() - start:.0f} s', flush=True)
  if failed:
    sys.exit(1)


def _measure(section: str, record: Callable[[dict[str, Any]], None]) -> str:
  quick, num_rounds = _QUICK.value, _ROUNDS.value
  static = Path(_STATIC.value) if _STATIC.value else None
  if section == 'masks':
    items = [10**4, 10**6] if quick else _ITEMS.value
    shapes = [
      masks.Shape(*sizes, num_items, skew)
      for sizes in _SHAPES
      for num_items in items
      for skew in (False, True)
    ]
    batches = _BATCHES[:3] if quick else _BATCHES
    note = '' if static else f'\n\n{_NO_STATIC}'
    return masks.measure(shapes, batches, num_rounds, static, record) + note
  if section == 'tries':
    if not static:
      return _NO_STATIC
    items = [10**4] if quick else [10**4, 10**5, 10**6]
    shapes = [masks.Shape(*x, n, False) for x in _SHAPES for n in items]
    rounds = 5 if quick else num_rounds
    return masks.measure_tries(shapes, _BATCHES[1:2], rounds, static, record)
  if section == 'updates':
    shapes = _SHAPES[:1] if quick else _SHAPES
    return changes.measure(shapes, num_rounds, record)
  workdir = Path(_WORKDIR.value) if _WORKDIR.value else None
  if section == 'flax':
    if not _FLAX.value:
      return "Flax's beam search is absent: set --flax to its file."
    settings = [(16, 20)] if quick else list(itertools.product((1, 16), _BEAMS))
    rounds = 5 if quick else num_rounds
    file = Path(_FLAX.value)
    return requests.measure_flax(file, workdir, settings, rounds, record)
  if section == 't5':
    if not all(map(importlib.util.find_spec, ('torch', 'transformers'))):
      return "T5 is absent: pip install -e '.[bench]'"
    beams = _BEAMS[1:2] if quick else _BEAMS
    rounds = 2 if quick else num_rounds
    return t5.measure(workdir, beams, rounds, _THREADS.value, record)
  if section == 'top_k':
    return changes.measure_top_k(num_rounds, record)
  if section == 'certificate':
    if not workdir or quick:
      return 'Not measured: set --workdir to a trained run, and omit --quick.'
    return certificate.measure(workdir, (10, 20, 50, 200), record)
  if not measuring.on_accelerator():
    return 'Not measured: sid_gr needs a GPU or TPU.'
  return requests.measure_sid_gr(num_rounds, record)


def _peers() -> list[str]:
  names = ('torch', 'transformers', 'flax')
  return [name for name in names if importlib.util.find_spec(name)]


if __name__ == '__main__':
  app.run(main)
