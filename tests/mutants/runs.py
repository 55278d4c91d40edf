"""Faults of the runs: their start, their checks and their end."""

from tests.mutants.mutant import Mutant

MUTANTS = (
  Mutant(
    'a stopped run prints an error',
    'tiger_jax/runtime/console.py',
    "kind = '' if isinstance(error, Preempted) else 'error: '",
    "kind = 'error: '",
    'tests/test_main.py::test_a_stopped_run_prints_no_error',
  ),
  Mutant(
    'a stopped run names the last of its signals',
    'tiger_jax/runtime/preemption.py',
    'self.name = self.name or signal.Signals(number).name',
    'self.name = signal.Signals(number).name',
    'tests/runtime/test_preemption.py::test_sighup_is_recorded',
  ),
)
