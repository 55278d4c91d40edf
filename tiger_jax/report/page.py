"""Renders the report of a finished run as one HTML page."""

import jinja2

from tiger_jax.recommenders import registry
from tiger_jax.report import sections, user_sections
from tiger_jax.report.finished_run import FinishedRun

_TEMPLATE = 'report.html.jinja'


def render(run: FinishedRun) -> str:
  """Returns the page, which loads no other files.

  Text of the shop, such as titles, is escaped.
  """
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('tiger_jax', 'report'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  users = run.users
  by_group = diversity = shoppers = None
  if users is not None:
    by_group = user_sections.by_group(run, users)
    diversity = user_sections.diversity(run, users)
    shoppers = user_sections.shoppers(run, users)
  return environment.get_template(_TEMPLATE).render(
    run=run,
    model=registry.title(run.results['model']),
    settings=sections.settings(run),
    funnel=sections.funnel(run),
    ids=sections.semantic_ids(run),
    training=sections.training(run),
    is_trained=registry.entry(run.config.model).is_trained,
    metrics=user_sections.metrics(run),
    by_group=by_group,
    diversity=diversity,
    shoppers=shoppers,
    time=sections.time(run),
    environment=sections.environment(run),
  )
