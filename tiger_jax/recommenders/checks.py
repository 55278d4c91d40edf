"""Finds contradictory settings, and settings that a run ignores."""

from collections.abc import Iterable, Iterator

import jax

from tiger_jax.config import Config
from tiger_jax.errors import UsageError
from tiger_jax.recommenders import registry
from tiger_jax.semantic_ids.quantizers import registry as quantizers

# The fields that only trained quantizers read.
_QUANTIZER_TRAINING = (
  'latent_dim', 'hidden_dims', 'beta', 'batch_size', 'epochs', 'kmeans_init',
  'restart_epochs', 'optimizer',
)  # fmt: skip
# The only encoder that reads each of these fields of the embedding section.
_ENCODER_OF_FIELD = {
  'model': 'sentence-transformers',
  'dim': 'tfidf-svd',
  'path': 'precomputed',
  'ids_path': 'precomputed',
}
# The dataset fields that apply only to datasets in files.
_FILE_FIELDS = ('drop_short_users', 'allow_missing_metadata', 'keep_repeats')
# The model fields that only generative models read.
_GENERATIVE_FIELDS = (
  'num_decoder_layers', 'num_user_tokens', 'causal_encoder', 'tied_heads',
  'softmax', 'recency_bias', 'prefix_embeddings', 'prefix_dropout',
  'prefix_heads', 'history_bias',
)  # fmt: skip


def check(config: Config, mode: str = 'evaluate') -> None:
  """Raises UsageError if no run can have these settings.

  Args:
    config: The settings of the run.
    mode: The mode of the command line.
  """
  # Imported here, because serving does not need the readers of raw data.
  from tiger_jax.data import loading

  problems: list[str] = []
  for check_section in (
    lambda: loading.check_name(config.dataset),
    lambda: registry.entry(config.model),
    lambda: quantizers.check(config.semantic_ids),
  ):
    try:
      check_section()
    except UsageError as error:
      problems.append(str(error))
  problems = problems or contradictions(config, mode)
  if problems:
    raise UsageError('; '.join(problems))


def check_devices(config: Config) -> None:
  """Raises UsageError if the config does not fit the number of devices."""
  c, num_devices = config.parallel, len(jax.devices())
  if num_devices % (c.fsdp * c.tensor):
    raise UsageError(
      f'config.parallel.fsdp x tensor is {c.fsdp} x {c.tensor}, which does not '
      f'divide the number of devices, {num_devices}: lower fsdp or tensor, or '
      'train on more devices'
    )
  batch_size, num_shards = config.train.batch_size, num_devices // c.tensor
  if batch_size % num_shards:
    nearest = max(1, batch_size // num_shards) * num_shards
    raise UsageError(
      f'config.train.batch_size is {batch_size}, which {num_shards} devices '
      f'cannot share evenly: try {nearest}'
    )


def contradictions(config: Config, mode: str = 'evaluate') -> list[str]:
  """Returns a sentence for each contradiction in the settings, see `check`."""
  ids, train = quantizers.with_sizes(config.semantic_ids), config.train
  model = registry.entry(config.model)
  sentences = []
  warmup = train.optimizer.warmup_steps
  warms_up = train.optimizer.recipe != 'adagrad' and model.is_trained
  if warms_up and warmup > train.steps:
    sentences.append(
      f'config.train.optimizer.warmup_steps is {warmup}, more than the '
      f'{train.steps} training steps (config.train.steps): lower warmup_steps'
    )
  if train.rewind:
    num_back, num_skipped = train.rewind
    if num_back >= train.steps or not num_skipped:
      sentences.append(
        f'config.train.on_non_finite is {train.on_non_finite!r}: rewind fewer '
        f'than {train.steps} steps (config.train.steps), and skip at least one '
        'batch'
      )
  c = config.model
  is_one_pass = c.name == 'tiger' and c.causal_encoder
  if train.packed and (not is_one_pass or c.num_user_tokens):
    sentences.append(
      'config.train.packed is True, but packed batches need the model tiger '
      'with config.model.causal_encoder=True and config.model.num_user_tokens=0'
      ': set these fields, or set config.train.packed to False'
    )
  if config.evaluation.ensemble and model.is_generative and train.replicas < 2:
    sentences.append(
      'config.evaluation.ensemble is True, but config.train.replicas is 1: '
      'train at least 2 replicas, or set config.evaluation.ensemble to False'
    )
  if 'semantic_ids' not in model.needs and mode != 'semantic_ids':
    return sentences
  if ids.shared_with and config.dataset.unseen_share:
    sentences.append(
      'config.dataset.unseen_share and config.semantic_ids.shared_with are '
      'both set: choose one of them'
    )
  if ids.shared_with and config.embedding.encoder == 'tfidf-svd':
    sentences.append(
      'config.semantic_ids.shared_with needs one embedding space for all '
      'shops, but tfidf-svd makes a separate space for each shop: choose '
      'another config.embedding.encoder'
    )
  is_other = model.is_generative and config.model.name != 'tiger'
  if config.model.softmax == 'trie' and is_other:
    sentences.append(
      "config.model.softmax is 'trie', which only the model tiger supports: "
      'choose all_codes'
    )
  largest = max(ids.codebook_sizes)
  is_trained = quantizers.entry(ids).is_trained
  is_first_batch = is_trained and ids.kmeans_init == 'first_batch'
  if is_first_batch and largest > ids.batch_size:
    sentences.append(
      f'config.semantic_ids.codebook_sizes has a level of {largest} codes, and '
      "config.semantic_ids.kmeans_init is 'first_batch', but the first batch "
      f'has {ids.batch_size} items: raise config.semantic_ids.batch_size to '
      f'{largest}'
    )
  return sentences


def missing_paths(config: Config, mode: str = 'evaluate') -> list[str]:
  """Returns a sentence for each required path that is not set, see `check`."""
  sentences = []
  if config.dataset.name == 'files' and not config.dataset.source_dir:
    sentences.append(
      'config.dataset.source_dir is empty: name the folder that holds your '
      'interactions and items'
    )
  c = config.embedding
  needs = registry.entry(config.model).needs
  embeds = needs or mode in ('embed', 'semantic_ids')
  if embeds and c.encoder == 'precomputed':
    if not c.path or not c.ids_path:
      sentences.append(
        'config.embedding.path and config.embedding.ids_path must both be set '
        'for the encoder precomputed: set path to a .npy file of shape [items, '
        'dim], and ids_path to a JSON list of the item ids in the same order'
      )
  return sentences


def unread(config: Config, fields: Iterable[str]) -> list[str]:
  """Returns a sentence for each field that a run ignores.

  Args:
    config: The settings of the run.
    fields: Names such as `train.steps`.
  """
  reasons = dict(_unread(config))
  sentences = []
  for field in fields:
    parents = [x for x in reasons if f'{field}.'.startswith(f'{x}.')]
    if parents:
      sentences.append(
        f'config.{field} is ignored, because {reasons[parents[0]]}: remove it'
      )
  return sentences


def _unread(config: Config) -> Iterator[tuple[str, str]]:
  """Yields each ignored field or section, and the reason."""
  dataset, model = config.dataset, registry.entry(config.model)
  reason = f'config.dataset.name is {dataset.name!r}'
  if dataset.name == 'synthetic':
    yield 'dataset.source_dir', reason
    for field in _FILE_FIELDS:
      yield f'dataset.{field}', reason
  else:
    yield 'dataset.synthetic_users', reason
  reason = f'config.model.name is {config.model.name!r}'
  if not model.needs:
    yield 'embedding', reason
  if 'semantic_ids' not in model.needs:
    yield 'semantic_ids', reason
  if not model.is_trained:
    yield 'train.steps', reason
    yield 'train.optimizer', reason
  if model.is_generative:
    yield 'model.loss', reason
    yield 'evaluation.search', reason
    if not config.model.prefix_embeddings:
      yield 'model.prefix_dropout', 'config.model.prefix_embeddings is 0'
    if not config.evaluation.transition_weight:
      reason = 'config.evaluation.transition_weight is 0'
      yield 'evaluation.transition_kappa', reason
  else:
    yield 'evaluation.num_beams', reason
    yield 'evaluation.transition_weight', reason
    yield 'evaluation.transition_kappa', reason
    yield 'evaluation.ensemble', reason
    for field in _GENERATIVE_FIELDS:
      yield f'model.{field}', reason
  encoder = config.embedding.encoder
  for field, required in _ENCODER_OF_FIELD.items():
    if encoder != required:
      yield f'embedding.{field}', f'config.embedding.encoder is {encoder!r}'
  if not quantizers.entry(config.semantic_ids).is_trained:
    quantizer = config.semantic_ids.quantizer
    for field in _QUANTIZER_TRAINING:
      yield (
        f'semantic_ids.{field}',
        f'config.semantic_ids.quantizer is {quantizer!r}',
      )
  for section, optimizer in (
    ('train', config.train.optimizer),
    ('semantic_ids', config.semantic_ids.optimizer),
  ):
    reason = f'config.{section}.optimizer.recipe is {optimizer.recipe!r}'
    if optimizer.recipe != 'adamw':
      yield f'{section}.optimizer.weight_decay', reason
    if optimizer.recipe == 'adagrad':
      yield f'{section}.optimizer.warmup_steps', reason
