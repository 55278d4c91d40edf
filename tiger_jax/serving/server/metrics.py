"""The metrics of the server, in the format of Prometheus."""

from prometheus_client import (
  CollectorRegistry,
  Counter,
  Gauge,
  Histogram,
  generate_latest,
)

# In seconds, from the time of a GPU search to the largest deadline.
_SECONDS = (
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60,
)  # fmt: skip
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
  """The counters of one server."""

  def __init__(self):
    """Creates all metrics in a new registry."""
    registry = self._registry = CollectorRegistry()
    self.requests = Counter(
      'tiger_jax_requests',
      'Requests by endpoint and HTTP status.',
      ('endpoint', 'status'),
      registry=registry,
    )
    self.seconds = Histogram(
      'tiger_jax_request_seconds',
      'Time from the first byte of a request to the end of its response.',
      ('endpoint',),
      buckets=_SECONDS,
      registry=registry,
    )
    self.waited = Histogram(
      'tiger_jax_queue_seconds',
      'Time that a request waited for a search.',
      ('lane',),
      buckets=_SECONDS,
      registry=registry,
    )
    self.batch = Histogram(
      'tiger_jax_batch_histories',
      'Histories in one search.',
      ('lane',),
      buckets=_SIZES,
      registry=registry,
    )
    self.queued = Gauge(
      'tiger_jax_queued_histories',
      'Histories in the queue.',
      ('lane',),
      registry=registry,
    )
    self.errors = Counter(
      'tiger_jax_errors',
      'Error responses by their code, such as queue_full or deadline.',
      ('code',),
      registry=registry,
    )
    self.fallbacks = Counter(
      'tiger_jax_fallbacks',
      'Lists of popular items, for empty histories.',
      registry=registry,
    )
    self.changes = Counter(
      'tiger_jax_changes',
      'Changes to the model or the catalog.',
      ('change', 'outcome'),
      registry=registry,
    )
    self.catalog = Gauge(
      'tiger_jax_catalog_version', 'Version of the catalog.', registry=registry
    )
    self.items = Gauge(
      'tiger_jax_items', 'Items that can be recommended.', registry=registry
    )

  def text(self) -> bytes:
    """Returns all metrics as text."""
    return generate_latest(self._registry)
