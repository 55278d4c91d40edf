"""The endpoints of the admin port."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tiger_jax.serving.server import schemas
from tiger_jax.serving.server.app import add_probes, application, described
from tiger_jax.serving.server.models import Served
from tiger_jax.serving.server.state import State


def admin(state: State) -> FastAPI:
  """Returns the application of the admin port."""
  app = application('tiger_jax admin', state.metrics)
  models = state.models

  @app.post(
    '/admin/items', **described(schemas.ItemsAnswer, schemas.AddItemsBody)
  )
  async def add_items(request: Request) -> Response:
    """Adds items, which are recommended from then on."""
    body = schemas.parse(schemas.AddItemsBody, await request.body())
    return await run_in_threadpool(state.add_items, body.items)

  @app.delete(
    '/admin/items', **described(schemas.ChangeAnswer, schemas.RemoveItemsBody)
  )
  async def remove_items(request: Request) -> Response:
    """Removes items, which are not recommended from then on."""
    body = schemas.parse(schemas.RemoveItemsBody, await request.body())
    served, _ = await run_in_threadpool(
      models.change, 'remove', lambda shop: shop.remove_items(body.ids)
    )
    return schemas.respond(_changed(served))

  @app.post(
    '/admin/titles', **described(schemas.ChangeAnswer, schemas.TitlesBody)
  )
  async def update_titles(request: Request) -> Response:
    """Changes the titles of items."""
    body = schemas.parse(schemas.TitlesBody, await request.body())
    served, _ = await run_in_threadpool(
      models.change, 'titles', lambda shop: shop.update_titles(body.titles)
    )
    return schemas.respond(_changed(served))

  @app.post(
    '/admin/reload', **described(schemas.ChangeAnswer, schemas.ReloadBody)
  )
  async def reload(request: Request) -> Response:
    """Loads a model by its name in the folder of models."""
    body = schemas.parse(schemas.ReloadBody, await request.body())
    served = await run_in_threadpool(models.reload, body.model)
    return schemas.respond(_changed(served))

  @app.post('/admin/rollback', **described(schemas.ChangeAnswer))
  async def rollback() -> Response:
    """Returns to the model and the catalog before the last change."""
    return schemas.respond(_changed(await run_in_threadpool(models.rollback)))

  @app.post('/admin/drain', **described(schemas.DrainAnswer))
  async def drain() -> Response:
    """Refuses new requests, and answers those that wait."""
    state.is_draining = True
    waiting = state.fast.num_queued + state.slow.num_queued
    return schemas.respond({'draining': True, 'waiting': waiting})

  add_probes(app, state)
  return app


def _changed(served: Served) -> dict[str, Any]:
  num_items = served.shop.num_items
  return {'name': served.name, 'num_items': num_items} | served.versions
