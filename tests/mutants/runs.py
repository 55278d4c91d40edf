"""Faults of the runs: their start, their checks and their end."""

from tests.mutants.mutant import Mutant

MUTANTS = (
  Mutant(
    'the transition weight of a request is ignored',
    'tiger_jax/serving/snapshot.py',
    'return self.retriever.with_mixture(self.model.mixtures.of(options))',
    'return self.retriever',
    'tests/serving/test_options.py::'
    'test_options_replace_the_mixture_of_the_run',
  ),
  Mutant(
    'a weight in the options resets the kappa of the run',
    'tiger_jax/serving/model.py',
    'dataclasses.replace(config, transition_weight=weight)',
    'type(config)(transition_weight=weight)',
    'tests/serving/test_options.py::'
    'test_options_replace_the_mixture_of_the_run',
  ),
  Mutant(
    'a mixture without transitions is refused only after training',
    'tiger_jax/stages/first_checks.py',
    "if mixes and mode in ('train', 'evaluate'):",
    "if mixes and mode == 'bench':",
    'tests/stages/test_first_checks.py::'
    'test_a_mixture_without_transitions_is_refused',
  ),
  Mutant(
    'a model without a mixture needs transitions',
    'tiger_jax/stages/first_checks.py',
    'mixes = config.evaluation.transition_weight and model.is_generative',
    'mixes = config.evaluation.transition_weight',
    'tests/stages/test_first_checks.py::test_only_a_mixture_needs_transitions',
  ),
  Mutant(
    'the path of the checkpoints is not checked before a run',
    'tiger_jax/stages/first_checks.py',
    '  checkpoint_folder.check_path(workdir.absolute())',
    '  workdir.absolute()',
    'tests/test_pipeline.py::'
    'test_a_run_from_python_refuses_a_workdir_that_orbax_cannot_use',
  ),
  Mutant(
    'the devices are not checked until training starts',
    'tiger_jax/pipeline.py',
    '    if is_training:\n      checks.check_devices(self.config)',
    '    pass',
    'tests/test_pipeline.py::'
    'test_a_run_from_python_is_refused_before_the_data_stage',
  ),
  Mutant(
    'the size of the dataset is not checked until training starts',
    'tiger_jax/stages/first_checks.py',
    'training_batches(config, dataset) if is_training else None',
    'None',
    'tests/test_pipeline.py::'
    'test_a_run_from_python_is_refused_after_the_data_stage',
  ),
  Mutant(
    'the item lists of a retriever have any type',
    'tiger_jax/interfaces.py',
    'k: int, lists: ItemLists | None = None',
    'k: int, lists: Any = None',
    'tests/retrieval/test_items.py::'
    'test_every_retriever_has_the_signature_of_the_protocol',
  ),
  Mutant(
    'a class has the name of an interface',
    'tiger_jax/serving/recommendation.py',
    'class RecommendationList(',
    'class Recommendations(',
    'tests/test_imports.py::test_no_other_class_has_the_name_of_an_interface',
  ),
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
  Mutant(
    'a refused run does not remove its empty folder',
    'tiger_jax/storage/artifacts.py',
    '            folder.rmdir()',
    '            pass',
    'tests/storage/test_locks.py::test_a_refused_run_leaves_no_files_or_folders',
  ),
  Mutant(
    'a refused run removes a lock of an earlier command',
    'tiger_jax/storage/artifacts.py',
    'if lock in created and os.listdir(workdir) == [LOCK]:',
    'if os.listdir(workdir) == [LOCK]:',
    'tests/storage/test_locks.py::'
    'test_a_run_that_fails_after_a_stage_keeps_its_folder_and_lock',
  ),
  Mutant(
    'a lock of a removed file is used',
    'tiger_jax/storage/artifacts.py',
    'if not os.fstat(file.fileno()).st_nlink:',
    'if False:',
    'tests/storage/test_locks.py::'
    'test_a_lock_that_another_process_removed_is_refused',
  ),
)
