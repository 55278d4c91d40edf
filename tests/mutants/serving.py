"""Faults of serving: catalogs, bundles, similar items and exports."""

from tests.mutants.mutant import Mutant

_FILES = 'tiger_jax/serving/bundle_files.py'
_EXPORT = 'tiger_jax/serving/export.py'
_BUNDLES = 'tests/security/test_bundles.py'
_PROGRAMS = 'tests/serving/export/test_programs.py'

MUTANTS = (
  Mutant(
    'the texts of new items belong to the first rows',
    'tiger_jax/serving/text_index.py',
    'len(self._order) + other._order',
    'other._order',
    'tests/serving/test_browse.py::test_searches_equal_brute_force',
  ),
  Mutant(
    'lines end too late in an extended index',
    'tiger_jax/serving/text_index.py',
    'len(self._text) - 1 + other._ends',
    'len(self._text) + 9 + other._ends',
    'tests/serving/test_browse.py::test_searches_equal_brute_force',
  ),
  Mutant(
    'an answer names the first catalog',
    'tiger_jax/serving/search.py',
    'entry.catalog_version = snapshot.catalog_version',
    'entry.catalog_version = 1',
    'tests/serving/test_swaps.py',
  ),
  Mutant(
    'a bundle is used without its sha256',
    _FILES,
    'if hashlib.sha256(data).hexdigest() != digest:',
    'if False:',
    f'{_BUNDLES}::test_every_damaged_file_is_named',
  ),
  Mutant(
    'a bundle may hold links',
    _FILES,
    'os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK',
    'os.O_RDONLY | os.O_NONBLOCK',
    f'{_BUNDLES}::test_every_damaged_file_is_named',
  ),
  Mutant(
    'a manifest may name other folders',
    _FILES,
    '_NAME.fullmatch(name)',
    '_NAME.match(name)',
    f'{_BUNDLES}::test_names_outside_of_the_folder_are_refused',
  ),
  Mutant(
    'a bundle names a local folder as its text model',
    'tiger_jax/serving/bundle_config.py',
    ' and not os.path.exists(folder)',
    '',
    f'{_BUNDLES}::test_hostile_configs_are_refused',
  ),
  Mutant(
    'a bundle chooses the text model',
    'tiger_jax/serving/model.py',
    "model=self.text_model or ''",
    'model=self.text_model or recorded.model',
    'tests/serving/test_bundle.py::test_only_the_user_chooses_the_text_model',
  ),
  Mutant(
    'similarity comes before the shared prefix',
    'tiger_jax/serving/browse.py',
    'np.lexsort((rows, -cosine, -num_shared))',
    'np.lexsort((rows, -num_shared, -cosine))',
    'tests/serving/test_browse.py::test_similar_items_equal_brute_force',
  ),
  Mutant(
    'a search of titles needs only one of the words',
    'tiger_jax/serving/text_index.py',
    'if begin <= min(places):',
    'if begin <= max(places):',
    'tests/serving/test_browse.py::test_searches_equal_brute_force',
  ),
  Mutant(
    'a new item takes the highest collision code',
    'tiger_jax/semantic_ids/new_ids.py',
    'jnp.broadcast_to(self.collision_codes[None], shape)',
    'jnp.broadcast_to(-self.collision_codes[None], shape)',
    'tests/semantic_ids/test_new_ids.py',
  ),
  Mutant(
    'more items are proven than returned',
    _EXPORT,
    'jnp.minimum(beams.exact_k, k)',
    'beams.exact_k',
    f'{_PROGRAMS}::test_programs_equal_the_recommender',
  ),
  Mutant(
    'an export holds the parameters in its programs',
    _EXPORT,
    "tree['params'], Batch(",
    'snapshot.model.params, Batch(',
    f'{_PROGRAMS}::test_new_arrays_need_no_new_programs',
  ),
  Mutant(
    'the build date of the installed jaxlib is ignored',
    _EXPORT,
    'x <= tuple(version[: len(x)])',
    'x < tuple(version[: len(x)])',
    f'{_PROGRAMS}::test_the_date_is_six_months_after_the_build_of_jaxlib',
  ),
  Mutant(
    'transposed arrays are saved in a wrong order',
    _EXPORT,
    "np.asarray(array, order='C')",
    'np.asarray(array)',
    f'{_PROGRAMS}::test_transposed_arrays_keep_their_values',
  ),
)
