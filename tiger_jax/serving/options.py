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

  Ids are text, or integers if the ids of the shop are integers. Pass them in a
  list, a set, a column of an array or table, or any other iterable.

  Attributes:
    exclude_seen: Whether to exclude all items of the history.
    deny: Ids of items to exclude.
    allow: Ids of the items that may be recommended; None allows all items.
    temperature: The sampling temperature. Items are drawn at random, with more
      variety at a higher temperature, and returned in the order of the draw.
      As with `exact`, the search adds beams until the items are proven. None
      returns the most probable items.
    drawn_levels: The number of leading codes of each Semantic ID that are
      drawn at random; None draws all codes.
    seed: The random seed of the draw. Results are reproducible for the same
      history, temperature, k and seed.
    exact: Whether to add beams, up to 4,096, until it is proven that no other
      item ranks above the returned ones. `Recommendation.proven` reports
      whether the proof succeeded for an item.
    transition_weight: The share of the transition counts in the ranking, from 0
      (TIGER alone) to 1; None uses the value of the run.
    transition_kappa: Lowers the share if the last item of the history has few
      transitions. With n transitions, the share is `transition_weight` times
      n / (n + transition_kappa). With 0, the share does not depend on n. None
      uses the value of the run.
  """

  exclude_seen: bool = False
  deny: Iterable[Any] = ()
  allow: Iterable[Any] | None = None
  temperature: float | None = None
  drawn_levels: int | None = None
  seed: int = 0
  exact: bool = False
  transition_weight: float | None = None
  transition_kappa: float | None = None

  def __post_init__(self):
    """Checks the values, and converts each to the type of its field."""
    values: dict[str, Any] = {
      'exclude_seen': arguments.switch(self.exclude_seen, 'exclude_seen'),
      'deny': tuple(arguments.item_ids(self.deny, 'deny', ordered=False)),
      'seed': arguments.whole_number(self.seed, 'seed', 0, 2**32 - 1),
      'exact': arguments.switch(self.exact, 'exact'),
    }
    if self.allow is not None:
      ids = arguments.item_ids(self.allow, 'allow', ordered=False)
      values['allow'] = tuple(ids)
    if self.drawn_levels is not None:
      values['drawn_levels'] = arguments.whole_number(
        self.drawn_levels, 'drawn_levels', 1
      )
    for name, most in (('transition_weight', 1), ('transition_kappa', 1e9)):
      if (value := getattr(self, name)) is not None:
        values[name] = arguments.real_number(value, name, 0, most)
    if self.temperature is not None:
      values['temperature'] = arguments.real_number(
        self.temperature, 'temperature', 1e-3, 1e3
      )
    elif self.drawn_levels is not None or values['seed']:
      raise UsageError(
        'drawn_levels and seed are for random draws: set a temperature too'
      )
    for name, value in values.items():
      object.__setattr__(self, name, value)
