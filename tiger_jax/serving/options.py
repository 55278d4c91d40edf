"""The options of a recommendation."""

from collections.abc import Iterable
import dataclasses
from typing import Any

from tiger_jax.errors import UsageError
from tiger_jax.serving import arguments


@dataclasses.dataclass(frozen=True)
class Options:
  """The options of a recommendation.

  Example:
    >>> import tiger_jax
    >>> shop = tiger_jax.Recommender.from_workdir('runs/quickstart')
    >>> options = tiger_jax.Options(exclude_seen=True, deny=['P0038'])
    >>> items = shop.recommend(['P0012', 'P0345'], k=600, options=options)
    >>> {'P0012', 'P0345', 'P0038'} & {item.item_id for item in items}
    set()

  Ids are text, or integers if the ids of the shop are integers. A list, a set,
  a column of an array or table, or any other iterable may hold them.

  Attributes:
    exclude_seen: Exclude all items of the history.
    deny: Ids of items to exclude.
    allow: Ids of the only items to recommend; None for all.
    temperature: Draw the items at random, with more variety at a higher
      temperature, and return them in the order of the draw; None returns the
      most probable items. The search widens as for `exact`.
    drawn_levels: Draw only the first n codes of the Semantic IDs; None draws
      all codes.
    seed: The random seed of the draw. Results are reproducible for the same
      history, temperature, k and seed.
    exact: Widen the search, to 4,096 beams at most, until it is proven that no
      other item ranks above those returned. `Recommendation.proven` says
      whether this holds for an item.
  """

  exclude_seen: bool = False
  deny: Iterable[Any] = ()
  allow: Iterable[Any] | None = None
  temperature: float | None = None
  drawn_levels: int | None = None
  seed: int = 0
  exact: bool = False

  def __post_init__(self):
    """Checks the values, and converts each to one type."""
    kept: dict[str, Any] = {
      'exclude_seen': arguments.switch(self.exclude_seen, 'exclude_seen'),
      'deny': tuple(arguments.item_ids(self.deny, 'deny', ordered=False)),
      'seed': arguments.whole_number(self.seed, 'seed', 0, 2**32 - 1),
      'exact': arguments.switch(self.exact, 'exact'),
    }
    if self.allow is not None:
      ids = arguments.item_ids(self.allow, 'allow', ordered=False)
      kept['allow'] = tuple(ids)
    if self.drawn_levels is not None:
      kept['drawn_levels'] = arguments.whole_number(
        self.drawn_levels, 'drawn_levels', 1
      )
    if self.temperature is not None:
      kept['temperature'] = arguments.real_number(
        self.temperature, 'temperature', 1e-3, 1e3
      )
    elif self.drawn_levels is not None or kept['seed']:
      raise UsageError(
        'drawn_levels and seed are of a draw: set a temperature too'
      )
    for name, value in kept.items():
      object.__setattr__(self, name, value)
