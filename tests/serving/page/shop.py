"""A stand-in for the server: a small shop that answers in the documented form.

`python -m tests.serving.page.shop` serves it on port 8765, to look at the page.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import math
from pathlib import Path
import threading
from urllib.parse import parse_qs, unquote, urlsplit

FILES = Path(__file__).parents[3] / 'tiger_jax' / 'serving' / 'page'
TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}
HOSTILE = '<img src=x onerror="window.attacked = 1"><b>bold</b> \u202eevil'
# The titles of the items with each pair of first codes.
GROUPS = {
  (3, 1): ('Kettleby Gooseneck Kettle, Sea Glass', 'Ninth Cup Kettle, Plum'),
  (3, 7): ('Ninth Cup Burr Grinder, Slate Blue', 'Kettleby Burr Grinder, Plum'),
  (11, 2): (
    "Maison Vell Chef's Knife 20 cm, Sand",
    "Larkspur Chef's Knife 20 cm, Slate Blue",
    "Butterfield Heritage Chef's Knife 20 cm with a Walnut Handle and a Sheath"
    ' of Vegetable-Tanned Leather, Moss Green',
  ),
  (11, 30): ('Stonehearth Walnut Cutting Board, Ivory',),
  (19, 9): ('Copperlane Padded Riding Gloves, Moss Green',),
  (28, 7): ('Switchback Road Helmet, Plum', 'Velora Road Helmet, Mustard'),
  (28, 15): (HOSTILE, ''),
}


def make_items():
  """Returns the catalog: a map from item ids to titles and codes."""
  items = {}
  for prefix, titles in GROUPS.items():
    for place, title in enumerate(titles):
      item_id = f'P{len(items):04}'
      items[item_id] = (title, (*prefix, place * 5, 0))
  return items


class Shop(ThreadingHTTPServer):
  """A server of the page and of a small catalog.

  Attributes:
    items: Maps item ids to titles and codes.
    removed: The same for items that may only be in histories.
    model, catalog, demo: What `GET /v1/model` says.
    failures: Answers to the next requests for recommendations, as triples of
      status, headers and body, before the usual answers.
    gates: Maps a history, as a tuple of ids, to an event. The answer to this
      history waits for the event.
    requests: The bodies of all requests for recommendations.
    additions: The bodies of all requests to add an item.
  """

  daemon_threads = True

  def __init__(self, port=0):
    super().__init__(('127.0.0.1', port), Handler)
    self.url = f'http://127.0.0.1:{self.server_port}/'
    self.reset()

  def reset(self):
    """Restores the first catalog and forgets all requests."""
    self.items, self.removed = make_items(), {}
    self.model, self.catalog, self.demo = '3f9ac1d2', 1, True
    self.failures, self.gates = [], {}
    self.requests, self.additions = [], []

  @property
  def versions(self):
    return {'model': self.model, 'catalog': self.catalog}

  def described(self, item_id):
    title, codes = self.items[item_id]
    return {'item_id': item_id, 'title': title, 'semantic_id': list(codes)}

  def similar(self, item_id):
    codes = self.items[item_id][1]
    counts = {x: shared(codes, y) for x, (_, y) in self.items.items()}
    near = sorted(set(self.items) - {item_id}, key=lambda x: (-counts[x], x))
    return [
      {
        **self.described(x),
        'num_shared': counts[x],
        'similarity': counts[x] / len(codes),
      }
      for x in near[:10]
    ]

  def recommend(self, body):
    """Scores all items by the codes that they share with the history."""
    history, options = body['history'], body.get('options', {})
    readable = self.items | self.removed
    known = [x for x in history if x in readable]
    weights = {
      x: math.exp(sum(shared(codes, readable[y][1]) for y in known))
      for x, (_, codes) in self.items.items()
    }
    total = sum(weights.values())
    ranked = sorted(weights, key=lambda x: -weights[x])
    if 'temperature' in options:  # A rotation stands for the draw.
      start = (options['seed'] + 3) % len(ranked)
      ranked = ranked[start:] + ranked[:start]
    if 'allow' in options:
      ranked = [x for x in ranked if x in options['allow']]
    if options.get('exclude_seen'):
      ranked = [x for x in ranked if x not in history]
    return {
      'items': [
        {
          **self.described(x),
          'score': math.log(weights[x] / total),
          'proven': bool(options.get('exact')) or place < 3,
        }
        for place, x in enumerate(ranked[: body['k']])
      ],
      'unknown': [x for x in history if x not in readable],
      'fallback': None if known else 'popular',
    }

  def add(self, body):
    """Adds an item beside the first one."""
    codes = self.items['P0000'][1]
    self.items[body['id']] = (body['title'], (*codes[:3], self.catalog))
    self.catalog += 1


def shared(a, b):
  """Returns the number of equal first codes."""
  count = 0
  while count < len(a) and a[count] == b[count]:
    count += 1
  return count


class Handler(BaseHTTPRequestHandler):
  """Answers one connection."""

  server: Shop

  def log_message(self, *args):
    pass

  def do_GET(self):
    url = urlsplit(self.path)
    shop = self.server
    if url.path == '/v1/model':
      self._answer({
        'name': 'tiger on synthetic',
        **shop.versions,
        'num_items': len(shop.items),
        'level_sizes': [32, 32, 32, 3],
        'max_history': 4,
        'max_k': 20,
        'demo': shop.demo,
      })  # fmt: skip
    elif url.path == '/v1/items':
      query = parse_qs(url.query)
      text = query['q'][0].lower()
      found = [
        shop.described(x)
        for x, (title, _) in shop.items.items()
        if text in title.lower() or x.lower().startswith(text)
      ]
      self._answer({'items': found[: int(query['k'][0])], **shop.versions})
    elif url.path.startswith('/v1/items/'):
      item_id = unquote(url.path.removeprefix('/v1/items/'))
      if item_id not in shop.items:
        self._refuse(404, 'unknown_item', f'no item {item_id!r}')
        return
      similar = shop.similar(item_id)
      item = shop.described(item_id)
      self._answer({**item, 'similar': similar, **shop.versions})
    else:
      name = url.path.removeprefix('/page/')
      path = FILES / ('index.html' if url.path == '/' else name)
      if path.parent != FILES or not path.is_file():
        self._refuse(404, 'not_found', 'no such page')
        return
      self._send(200, path.read_bytes(), TYPES[path.suffix], {})

  def do_POST(self):
    shop = self.server
    body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
    if self.path == '/v1/items':
      shop.additions.append(body)
      if body['id'] in shop.items:
        self._refuse(409, 'conflict', f'{body["id"]} exists already')
        return
      shop.add(body)
      self._answer({'items': [shop.described(body['id'])], **shop.versions})
      return
    shop.requests.append(body)
    if shop.failures:
      status, headers, answer = shop.failures.pop(0)
      self._send(status, answer.encode(), 'application/json', headers)
      return
    if gate := shop.gates.get(tuple(body['history'])):
      gate.wait(10)
    self._answer({**shop.recommend(body), **shop.versions})

  def _answer(self, body):
    self._send(200, json.dumps(body).encode(), 'application/json', {})

  def _refuse(self, status, code, message):
    body = json.dumps({'code': code, 'message': message})
    self._send(status, body.encode(), 'application/json', {})

  def _send(self, status, data, content_type, headers):
    self.send_response(status)
    headers = {
      'Content-Type': content_type,
      'Content-Length': str(len(data)),
      'Content-Security-Policy': (
        "default-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'"
      ),
      'X-Content-Type-Options': 'nosniff',
      **headers,
    }
    for name, value in headers.items():
      self.send_header(name, value)
    self.end_headers()
    try:
      self.wfile.write(data)
    except (BrokenPipeError, ConnectionResetError):
      pass  # The page no longer wants this answer.


def serve(port=0):
  """Starts a shop in a thread and returns it."""
  shop = Shop(port)
  threading.Thread(target=shop.serve_forever, daemon=True).start()
  return shop


if __name__ == '__main__':
  Shop(8765).serve_forever()
