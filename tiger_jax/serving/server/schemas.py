"""The JSON of requests and responses."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import (
  BaseModel,
  BeforeValidator,
  ConfigDict,
  FailFast,
  Field,
  ValidationError,
  model_validator,
)
from pydantic_core import from_json, to_json
from starlette.responses import Response

from tiger_jax.errors import UsageError
from tiger_jax.serving.options import Options
from tiger_jax.serving.server.failures import Failure

ItemId = Annotated[str, Field(min_length=1, max_length=1024)]


class _FirstError(FailFast):
  """Stops at the first error of a list, instead of collecting all errors."""

  # A union of annotated types needs a hash, which FailFast does not have.
  __hash__ = object.__hash__


ItemIds = Annotated[list[ItemId], _FirstError()]
# The maximum number of errors in a message, and the maximum length of a field
# name.
_NUM_ERRORS = 3
_NAME_LENGTH = 60
_DEFAULT_OPTIONS = Options()
_Kind = TypeVar('_Kind', bound=BaseModel)


def _texts(value: Any) -> Any:
  """Raises ValueError if a value of a mapping is not text."""
  if isinstance(value, dict) and not all(
    isinstance(x, str) for x in value.values()
  ):
    raise ValueError('each value must be text')
  return value


Texts = Annotated[dict[str, str], BeforeValidator(_texts)]


class _Request(BaseModel):
  """The base class of all requests."""

  model_config = ConfigDict(extra='forbid', strict=True, allow_inf_nan=False)

  @model_validator(mode='before')
  @classmethod
  def _check_size(cls, value: Any) -> Any:
    """Refuses too many fields, because pydantic is slow to report them."""
    if isinstance(value, dict) and len(value) > len(cls.model_fields):
      names = ', '.join(cls.model_fields)
      raise ValueError(f'too many fields: send only {names}')
    return value


class OptionsBody(_Request):
  """The options of a recommendation."""

  exclude_seen: bool = False
  deny: ItemIds = []
  allow: ItemIds | None = None
  temperature: float | None = Field(None, ge=1e-3, le=1e3)
  drawn_levels: int | None = Field(None, ge=1, le=64)
  seed: int = Field(0, ge=0, le=2**32 - 1)
  exact: bool = False
  transition_weight: float | None = Field(None, ge=0, le=1)
  transition_kappa: float | None = Field(None, ge=0, le=1e9)

  def options(self) -> Options:
    """Converts the options to those of the Python API."""
    if not self.model_fields_set:
      return _DEFAULT_OPTIONS
    try:
      return Options(**dict(self))
    except UsageError as error:
      raise Failure('invalid_request', f'options: {error}') from error


class _Recommend(_Request):
  """The common fields of a request for recommendations."""

  k: int = Field(10, ge=1, description='The number of items.')
  strict: bool = Field(
    True, description='Whether an unknown item id is an error.'
  )
  # Pydantic would make a deep copy of a default value for each request.
  options: OptionsBody = Field(default_factory=OptionsBody)
  timeout_ms: int | None = Field(
    None, ge=1, le=60_000, description='The deadline, from the first byte.'
  )


class RecommendBody(_Recommend):
  """A request for one history."""

  history: ItemIds = Field(description='Item ids, oldest first.')


class RecommendBatchBody(_Recommend):
  """A request for several histories."""

  histories: Annotated[list[ItemIds], _FirstError()] = Field(
    min_length=1, description='Item ids of each history, oldest first.'
  )


class DescribedItemBody(_Request):
  """A new item that is described by text."""

  id: ItemId
  title: str = Field(min_length=1, max_length=10_000)
  text: Texts | None = None


class NewItemBody(DescribedItemBody):
  """A new item that is described by text or by a vector."""

  vector: Annotated[list[float], _FirstError()] | None = Field(
    None, max_length=2**16
  )


class AddItemsBody(_Request):
  """New items."""

  items: Annotated[list[NewItemBody], _FirstError()] = Field(
    min_length=1, max_length=1000
  )


class RemoveItemsBody(_Request):
  """Items to remove."""

  ids: ItemIds = Field(min_length=1, max_length=10_000)


class TitlesBody(_Request):
  """New titles by item id."""

  titles: Texts = Field(min_length=1, max_length=10_000)


class ReloadBody(_Request):
  """The name of a model in the folder of models."""

  model: str = Field(min_length=1, max_length=100)


class DrainBody(_Request):
  """Whether the server refuses new requests."""

  draining: bool = True


class ItemAnswer(BaseModel):
  """An item."""

  item_id: str
  title: str
  semantic_id: list[int]


class RecommendedItem(ItemAnswer):
  """A recommended item."""

  score: float | None
  proven: bool


class ListAnswer(BaseModel):
  """The recommendations for one history."""

  items: list[RecommendedItem]
  unknown: list[str]
  fallback: str | None


class Versions(BaseModel):
  """The versions of the model and the catalog that produced a response."""

  model: str
  catalog: int


class RecommendAnswer(ListAnswer, Versions):
  """The response to a request for one history."""


class RecommendBatchAnswer(Versions):
  """The response to a request for several histories."""

  lists: list[ListAnswer]


class SimilarItemAnswer(ItemAnswer):
  """An item similar to another one."""

  num_shared: int
  similarity: float | None


class ItemDetails(ItemAnswer, Versions):
  """An item and the items similar to it."""

  similar: list[SimilarItemAnswer]


class ItemsAnswer(Versions):
  """A list of items."""

  items: list[ItemAnswer]


class ModelAnswer(Versions):
  """The served model."""

  name: str
  num_items: int
  level_sizes: list[int]
  max_history: int
  max_k: int
  demo: bool


class ChangeAnswer(Versions):
  """The model and the catalog after a change."""

  name: str
  num_items: int


class DrainAnswer(BaseModel):
  """Whether the server is draining, and the number of queued histories."""

  draining: bool
  waiting: int


class ErrorAnswer(BaseModel):
  """An error."""

  code: str
  message: str


def parse(kind: type[_Kind], body: bytes) -> _Kind:
  """Parses the body of a request.

  Args:
    kind: The class of the request.
    body: JSON.

  Raises:
    Failure: The body is not JSON, is nested too deeply, or has other fields or
      types than the class.
  """
  try:
    values = from_json(body, allow_inf_nan=False)
  except ValueError as error:
    raise Failure(
      'invalid_json', f'the body is not JSON ({error}): send a JSON object'
    ) from error
  try:
    return kind.model_validate(values)
  except ValidationError as error:
    raise _invalid(error) from error


def respond(content: dict[str, Any]) -> Response:
  """Returns the HTTP response with a JSON object."""
  return Response(
    to_json(content, inf_nan_mode='null'), media_type='application/json'
  )


def _invalid(error: ValidationError) -> Failure:
  """Returns the failure for invalid fields, without their values."""
  errors = error.errors(
    include_url=False, include_context=False, include_input=False
  )
  texts = [field_error(x['loc'], x['msg']) for x in errors[:_NUM_ERRORS]]
  if rest := len(errors[_NUM_ERRORS:]):
    texts.append(f'and {rest} more errors')
  return Failure('invalid_request', '; '.join(texts))


def field_error(place: Sequence[Any], message: str) -> str:
  """Returns the error message for a field. Long field names are truncated.

  Args:
    place: The names and indices that lead to the field.
    message: The description of the error.
  """
  names = [str(x)[:_NAME_LENGTH] for x in place]
  message = message.removeprefix('Value error, ')
  if message.startswith('Input should be a valid dictionary or instance of'):
    message = 'Input should be a JSON object'
  return f'{".".join(names) or "the body"}: {message}'
