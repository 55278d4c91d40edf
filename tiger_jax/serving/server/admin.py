"""The endpoints of the admin port."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from tiger_jax.serving.recommender import Recommender
from tiger_jax.serving.server import edits, schemas
from tiger_jax.serving.server.app import add_probes, application, described
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.models import Served
from tiger_jax.serving.server.state import State


def admin(state: State) -> FastAPI:
  """Returns the application of the admin port."""
  app = application('tiger_jax admin', state.metrics)
  models = state.models

  def change(kind: str, edit: Callable[[Recommender], Any]) -> Response:
    served, _ = models.change(kind, edit)
    return schemas.respond(_changed(served))

  # The body may be large, so it is parsed in the thread that makes changes.
  @app.post(
    '/admin/items', **described(schemas.ItemsAnswer, schemas.AddItemsBody)
  )
  async def add_items(request: Request) -> Response:
    """Adds items to the catalog."""
    body = await request.body()
    return await state.change(
      lambda: state.add_items(schemas.parse(schemas.AddItemsBody, body).items)
    )

  @app.delete(
    '/admin/items', **described(schemas.ChangeAnswer, schemas.RemoveItemsBody)
  )
  async def remove_items(request: Request) -> Response:
    """Removes items from the catalog."""
    body = await request.body()

    def remove() -> Response:
      ids = schemas.parse(schemas.RemoveItemsBody, body).ids
      return change('remove', lambda shop: edits.remove_items(shop, ids))

    return await state.change(remove)

  @app.post(
    '/admin/titles', **described(schemas.ChangeAnswer, schemas.TitlesBody)
  )
  async def update_titles(request: Request) -> Response:
    """Changes the titles of items."""
    body = await request.body()

    def update() -> Response:
      titles = schemas.parse(schemas.TitlesBody, body).titles
      return change('titles', lambda shop: edits.update_titles(shop, titles))

    return await state.change(update)

  @app.post(
    '/admin/reload', **described(schemas.ChangeAnswer, schemas.ReloadBody)
  )
  async def reload(request: Request) -> Response:
    """Loads a model by its name in the folder of models."""
    body = schemas.parse(schemas.ReloadBody, await request.body())
    return await state.change(
      lambda: schemas.respond(_changed(models.reload(body.model)))
    )

  @app.post('/admin/rollback', **described(schemas.ChangeAnswer))
  async def rollback() -> Response:
    """Restores the model and the catalog from before the last change."""
    return await state.change(
      lambda: schemas.respond(_changed(models.rollback()))
    )

  @app.post(
    '/admin/drain',
    **described(schemas.DrainAnswer, schemas.DrainBody, is_required=False),
  )
  async def drain(request: Request) -> Response:
    """Stops or resumes accepting requests. Queued requests are answered."""
    data = await request.body()
    body = schemas.parse(schemas.DrainBody, data or b'{}')
    if state.is_stopping and not body.draining:
      raise Failure('conflict', 'the server is stopping: start a new server')
    state.is_draining = body.draining
    waiting = state.fast.num_queued + state.slow.num_queued
    return schemas.respond({'draining': body.draining, 'waiting': waiting})

  add_probes(app, state)
  return app


def _changed(served: Served) -> dict[str, Any]:
  num_items = served.shop.num_items
  return {'name': served.name, 'num_items': num_items} | served.versions
