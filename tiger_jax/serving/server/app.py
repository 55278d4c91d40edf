"""The endpoints of the public port."""

from collections.abc import Awaitable, Callable
import functools
import importlib.resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

import tiger_jax
from tiger_jax.errors import UsageError
from tiger_jax.serving.server import schemas
from tiger_jax.serving.server.failures import Failure
from tiger_jax.serving.server.gate import Endpoint
from tiger_jax.serving.server.metrics import Metrics
from tiger_jax.serving.server.state import State

_HTTP_CODES = {404: 'not_found', 405: 'method_not_allowed'}
_HTTP_MESSAGES = {
  404: 'there is no such endpoint: see /openapi.json',
  405: 'the endpoint does not allow this method: see /openapi.json',
}
# The types of the files of the page.
_TYPES = {
  'css': 'text/css; charset=utf-8',
  'html': 'text/html; charset=utf-8',
  'ico': 'image/x-icon',
  'js': 'text/javascript; charset=utf-8',
  'mjs': 'text/javascript; charset=utf-8',
  'svg': 'image/svg+xml',
}
_ItemCount = Annotated[int, Query(ge=1, le=100)]


def public(state: State) -> FastAPI:
  """Returns the application of the public port."""
  app = application('tiger_jax', state.metrics)

  bodies = {
    '/v1/recommend': (schemas.RecommendAnswer, schemas.RecommendBody),
    '/v1/recommend:batch': (
      schemas.RecommendBatchAnswer, schemas.RecommendBatchBody
    ),
  }  # fmt: skip
  for path, endpoint in searches(state).items():
    app.post(path, **described(*bodies[path]))(endpoint)

  @app.get('/v1/items', **described(schemas.ItemsAnswer))
  def search(
    q: Annotated[str, Query(max_length=200)] = '', k: _ItemCount = 20
  ) -> Response:
    """Returns the items whose title or id matches a text."""
    served = state.models.current
    items = [x._asdict() for x in served.shop.search_titles(q, k)]
    return schemas.respond({'items': items} | served.versions)

  @app.get('/v1/items/{item_id:path}', **described(schemas.ItemDetails))
  def item(item_id: str, k: _ItemCount = 10) -> Response:
    """Returns an item and the items similar to it."""
    served = state.models.current
    try:
      details = served.shop.item(item_id)._asdict()
    except UsageError as error:
      raise Failure('unknown_item', str(error)) from error
    similar = [x._asdict() for x in served.shop.similar_items(item_id, k)]
    return schemas.respond(details | {'similar': similar} | served.versions)

  @app.get('/v1/model', **described(schemas.ModelAnswer))
  async def model() -> Response:
    """Returns the served model and its limits."""
    return schemas.respond(state.describe())

  @app.post(
    '/v1/items', **described(schemas.ItemsAnswer, schemas.DescribedItemBody)
  )
  async def add_item(request: Request) -> Response:
    """Adds an item, if the server was started with --serve_demo."""
    if not state.settings.demo:
      raise Failure(
        'forbidden', 'items cannot be added: start the server with --serve_demo'
      )
    body = schemas.parse(schemas.DescribedItemBody, await request.body())
    return await state.change(lambda: state.add_items([body]))

  add_probes(app, state)
  _add_page(app)
  return app


def searches(state: State) -> dict[str, Endpoint]:
  """Returns the endpoints that search, by their paths."""

  async def recommend(request: Request) -> Response:
    """Returns the items that are most likely to come next."""
    body = schemas.parse(schemas.RecommendBody, await request.body())
    answer = await state.recommend(body, [body.history], request.state.start)
    (items,) = answer.lists
    return schemas.respond(items | answer.versions)

  async def recommend_batch(request: Request) -> Response:
    """Returns recommendations for several histories."""
    body = schemas.parse(schemas.RecommendBatchBody, await request.body())
    answer = await state.recommend(body, body.histories, request.state.start)
    return schemas.respond({'lists': answer.lists} | answer.versions)

  return {'/v1/recommend': recommend, '/v1/recommend:batch': recommend_batch}


def application(title: str, metrics: Metrics) -> FastAPI:
  """Returns an application without endpoints that sends errors as JSON."""
  app = FastAPI(
    title=title,
    version=tiger_jax.__version__,
    docs_url=None,
    redoc_url=None,
    # The response of a redirect would not be JSON.
    redirect_slashes=False,
  )

  def respond(failure: Failure) -> Response:
    metrics.errors.labels(failure.code).inc()
    return failure.response()

  @app.exception_handler(Failure)
  async def failed(unused_request: Request, failure: Failure) -> Response:
    return respond(failure)

  @app.exception_handler(RequestValidationError)
  async def invalid(
    unused_request: Request, error: RequestValidationError
  ) -> Response:
    texts = [
      schemas.field_error(x['loc'][-1:], x['msg']) for x in error.errors()
    ]
    return respond(Failure('invalid_request', '; '.join(texts)))

  @app.exception_handler(UsageError)
  async def unusable(unused_request: Request, error: UsageError) -> Response:
    return respond(Failure('invalid_request', str(error)))

  @app.exception_handler(HTTPException)
  async def refused(unused_request: Request, error: HTTPException) -> Response:
    code = _HTTP_CODES.get(error.status_code, 'invalid_request')
    message = _HTTP_MESSAGES.get(error.status_code, 'the request is not valid')
    response = respond(Failure(code, message))
    if error.headers and 'allow' in error.headers:
      response.headers['allow'] = error.headers['allow']
    return response

  @app.exception_handler(Exception)
  async def broken(
    unused_request: Request, unused_error: Exception
  ) -> Response:
    return respond(
      Failure('internal', 'the server failed: see the log of the server')
    )

  app.openapi = functools.cache(functools.partial(_openapi, app.openapi))
  return app


def described(
  answer: type, body: type | None = None, is_required: bool = True
) -> dict[str, Any]:
  """Returns the route arguments that describe it in `/openapi.json`."""
  responses: dict[int | str, Any] = {
    200: {'model': answer},
    'default': {'model': schemas.ErrorAnswer, 'description': 'An error.'},
  }
  extra = {}
  if body is not None:
    reference = {'$ref': f'#/components/schemas/{body.__name__}'}
    extra['requestBody'] = {
      'required': is_required,
      'content': {'application/json': {'schema': reference}},
    }
  return {'responses': responses, 'openapi_extra': extra}


def _openapi(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
  """Returns the OpenAPI document with the schemas of the request bodies."""
  document = make()
  names = {
    x['requestBody']['content']['application/json']['schema']['$ref']
    for path in document['paths'].values()
    for x in path.values()
    if 'requestBody' in x
  }
  bodies = [getattr(schemas, x.rpartition('/')[2]) for x in sorted(names)]
  _, definitions = models_json_schema(
    [(body, 'validation') for body in bodies],
    ref_template='#/components/schemas/{model}',
  )
  known = document.setdefault('components', {}).setdefault('schemas', {})
  known.update(definitions.get('$defs', {}))
  return document


def add_probes(app: FastAPI, state: State) -> None:
  """Adds the endpoints for monitoring."""

  @app.get('/livez', response_class=PlainTextResponse)
  async def livez() -> Response:
    """Reports that the process is running."""
    return PlainTextResponse('ok\n')

  @app.get(
    '/readyz',
    response_class=PlainTextResponse,
    responses={503: {'model': schemas.ErrorAnswer}},
  )
  async def readyz() -> Response:
    """Reports whether the server accepts requests."""
    if state.is_draining:
      raise Failure('draining', 'the server is draining: use another server')
    return PlainTextResponse('ok\n')

  @app.get('/metrics', response_class=PlainTextResponse)
  async def metrics() -> Response:
    """Returns the metrics in the format of Prometheus."""
    return PlainTextResponse(state.metrics.text())


def _add_page(app: FastAPI) -> None:
  """Adds the files of the page. Each file is read only once."""
  folder = importlib.resources.files('tiger_jax.serving') / 'page'
  if not folder.is_dir():
    return

  def serve(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def respond() -> Response:
      return Response(content, media_type=kind)

    return respond

  for file in folder.iterdir():
    kind = _TYPES.get(file.name.rpartition('.')[2])
    if kind is None:
      continue
    path = '/' if file.name == 'index.html' else f'/page/{file.name}'
    app.get(path, include_in_schema=False)(serve(file.read_bytes(), kind))
