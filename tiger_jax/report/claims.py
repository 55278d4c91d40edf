"""The paper's claims, compared with the records of experiments on Beauty."""

from collections.abc import Sequence
import math
from typing import Any, NamedTuple

from tiger_jax.report.records import masked_metrics

# The number of test users of Amazon Beauty, and of those whose target is unseen
# in the experiment `cold_start`.
_USERS = 22_363
_UNSEEN_USERS = 1_248
_HOLDS, _DOES_NOT_HOLD = 'holds here', 'does not hold here'

HEADING = """## The paper's claims

The claims of the paper, tested on Beauty. A row without numbers of the paper is
a comparison of our own. The numbers are recall@10, unless the claim names
another metric. Claims about unseen items are tested on the users whose target
is unseen, the claim about entropy on 4,096 users, and all other claims on all
users. The row "TIGER, two cores" has a bidirectional encoder, as in the paper,
and none of the settings of the ablation table. The other TIGER models are those
of configs/beauty.py:cpu, with the changes of each experiment: invalid_ids has a
softmax over all codes and no history bias, and layers has 1 to 3 layers instead
of 3 to 5. The model of cold_start was trained with a softmax over the IDs of
the training items. In cold_start, the prefix rule can return the target of only
a quarter of the users.

A claim about the order of two or more rows **holds here** if each row is better
than the next by more than two standard errors. It **does not hold here** if a
row is worse than the next by more than two standard errors. Otherwise, it is
**not shown**. The standard error is computed as if the rows had different
users. It does not cover the differences between training seeds, and most rows
have one seed. For an entropy, only the sign of the difference counts. Claims
with "at most" or "less than a tenth" are tested without a standard error. The
limit of a tenth is our choice.

The last two columns are for lists without items of the history. The paper's
number of SASRec is of such lists. Our SASRec with the paper's loss is weaker
than the paper's: its other settings were chosen for cross-entropy. Table 2 with
the training of the paper was only tested at a reduced size (table2_cpu).

The paper's claim about memory is a matter of counting. For Beauty, "TIGER, two
cores" has an embedding for each of 780 codes, and SASRec has one for each of
12,101 items. TIGER with our training has 33,024 more embeddings of prefixes.
This number does not depend on the catalog, and is smaller than the number of
items only in large catalogs.
"""


class Claim(NamedTuple):
  """A claim of the paper.

  Attributes:
    text: The claim.
    paper: The numbers of the paper.
    experiment: The experiment that tests the claim.
    rows: The rows of the experiment. The claim says that each is better than
      the next, unless there is a limit or a spread.
    metric: The metric of the rows.
    num_users: The number of users of which the metric is a share; None if it is
      not a share.
    limit: If given, the claim says that the values are at most this number.
    spread: If given, the claim says that the largest value is at most
      `1 + spread` times the smallest.
  """

  text: str
  paper: str
  experiment: str
  rows: tuple[str, ...]
  metric: str = 'recall@10'
  num_users: int | None = _USERS
  limit: float | None = None
  spread: float | None = None


CLAIMS = (
  Claim(
    "TIGER is better than SASRec, trained with the paper's loss (Table 1)",
    '.0648, .0605',
    'table1',
    ('TIGER, two cores', 'SASRec, BCE'),
  ),
  Claim(
    'TIGER is better than SASRec with cross-entropy',
    '',
    'table1',
    ('TIGER, two cores', 'SASRec, cross-entropy'),
  ),
  Claim(
    'TIGER with our training is better than SASRec with cross-entropy',
    '',
    'table1',
    ('TIGER, our training', 'SASRec, cross-entropy'),
  ),
  Claim(
    'an ensemble with transitions is better than SASRec with cross-entropy',
    '',
    'table1',
    ('TIGER, our training, ensemble, transitions', 'SASRec, cross-entropy'),
  ),
  Claim(
    'SASRec and TIGER together are better than SASRec',
    '',
    'ensemble_cpu_long',
    ('SASRec + TIGER', 'SASRec'),
  ),
  Claim(
    'IDs of an RQ-VAE are better than IDs of LSH (Table 2)',
    '.0648, .0533',
    'table2_cpu_long',
    ('RQ-VAE', 'LSH'),
  ),
  Claim(
    'IDs of LSH are better than random IDs (Table 2)',
    '.0533, .0434',
    'table2_cpu_long',
    ('LSH', 'random'),
  ),
  Claim(
    'TIGER finds more unseen items than Semantic-KNN (Figure 5, epsilon .1)',
    'a curve',
    'cold_start_cpu_long',
    ('prefix rule, epsilon 0.1', 'Semantic-KNN, epsilon 0.1'),
    num_users=_UNSEEN_USERS,
  ),
  Claim(
    'TIGER with exact scores finds more unseen items than Semantic-KNN',
    '',
    'cold_start_cpu_long',
    ('exact scores, epsilon 0.1', 'Semantic-KNN, epsilon 0.1'),
    num_users=_UNSEEN_USERS,
  ),
  Claim(
    'a higher temperature gives more diverse lists (entropy@10)',
    '1.38, 1.14, 0.76',
    'diversity_cpu_long',
    ('T=2.0', 'T=1.5', 'T=1.0'),
    metric='entropy@10',
    num_users=None,
  ),
  Claim(
    'at most 1.6% of the first ten generated IDs are invalid (Figure 6)',
    '.001 to .016',
    'invalid_ids_cpu_long',
    ('TIGER',),
    metric='invalid@10',
    limit=0.016,
  ),
  Claim(
    'the number of layers changes recall by less than a tenth',
    '.0670, .0648, .0660',
    'layers_cpu_long',
    ('1 layer', '2 layers', '3 layers'),
    spread=0.1,
  ),
  Claim(
    'user tokens improve recall@5',
    '.0454, .0446',
    'user_token_cpu_long',
    ('2000 user tokens', 'no user token'),
    metric='recall@5',
  ),
  Claim(
    'IDs of three shops change recall by less than a tenth',
    '.0631, .0648',
    'shared_ids_cpu_long',
    ('IDs of three shops', 'IDs of Beauty'),
    spread=0.1,
  ),
)


def make_claims(records: Sequence[dict[str, Any]]) -> str:
  """Returns a table in Markdown of the claims, and a list of the untested."""
  metrics = {
    (x['experiment'], x['run']): x['metrics']
    | {'test_masked': masked_metrics(x)}
    for x in records
    if x['dataset'] == 'beauty'
  }
  lines, missing = [], []
  for claim in CLAIMS:
    rows = [metrics.get((claim.experiment, name)) for name in claim.rows]
    if None in rows:
      missing.append(f'- {claim.text}: {claim.experiment}')
      continue
    here, masked = (_cells(claim, rows, x) for x in ('test', 'test_masked'))
    lines.append(f'| {claim.text} | {claim.paper} | {here} | {masked} |')
  if not lines:
    return ''
  header = '| claim | the paper | here | verdict | masked | verdict |'
  lines = [HEADING, header, '|---|---|---|---|---|---|', *lines, '']
  if missing:
    lines += ['Claims whose experiment has no records yet:', '', *missing, '']
  return '\n'.join(lines)


def _cells(claim: Claim, rows: Sequence[Any], split: str) -> str:
  """Returns the numbers and the verdict; empty cells if a row has no number."""
  values = [row.get(split, {}).get(claim.metric) for row in rows]
  if None in values:
    return ' | '
  texts = [f'{x:.4f}'.removeprefix('0') for x in values]
  here = ', '.join(map(': '.join, zip(claim.rows, texts, strict=True)))
  return f'{here} | {verdict(claim, values)}'


def verdict(claim: Claim, values: Sequence[float]) -> str:
  """Returns the verdict on a claim, given a value for each of its rows."""
  if claim.limit is not None:
    return _HOLDS if max(values) <= claim.limit else _DOES_NOT_HOLD
  if claim.spread is not None:
    is_narrow = max(values) <= (1 + claim.spread) * min(values)
    return _HOLDS if is_narrow else _DOES_NOT_HOLD
  pairs = list(zip(values, values[1:], strict=False))
  margins = [2 * _standard_error(*pair, claim.num_users) for pair in pairs]
  differences = [better - worse for better, worse in pairs]
  if any(x < -y for x, y in zip(differences, margins, strict=True)):
    return _DOES_NOT_HOLD
  if all(x > y for x, y in zip(differences, margins, strict=True)):
    return _HOLDS
  return 'not shown'


def _standard_error(a: float, b: float, num_users: int | None) -> float:
  """Returns the standard error of the difference of two independent shares."""
  if num_users is None:
    return 0.0
  return math.sqrt((a * (1 - a) + b * (1 - b)) / num_users)
