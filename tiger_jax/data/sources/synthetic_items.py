"""The catalog of the synthetic shop: five departments, thirty aisles.

Purchases depend only on three properties, which are all in the text of an item:
the category, the brand, and the model line (the first word of the title after
the brand).
"""

from typing import NamedTuple

import numpy as np

from tiger_jax.data.dataset import Items


class Aisle(NamedTuple):
  """An aisle: its name, its product, and the typical price in dollars."""

  name: str
  product: str
  price: float


# The companion of an aisle is the next aisle of its department; the companion
# of the last aisle is the first.
DEPARTMENTS: dict[str, dict[str, tuple[Aisle, ...]]] = {
  'Camping & Hiking': {
    'Sleeping Outdoors': (
      Aisle('Tents', 'Two-Person Tent', 189),
      Aisle('Sleeping Bags', 'Down Sleeping Bag', 129),
      Aisle('Sleeping Mats', 'Insulated Sleeping Mat', 74),
    ),
    'Camp Kitchen': (
      Aisle('Stoves', 'Gas Stove', 52),
      Aisle('Cook Sets', 'Titanium Cook Set', 44),
      Aisle('Bottles', 'Steel Bottle 750 ml', 24),
    ),
  },
  'Cycling': {
    'On the Rider': (
      Aisle('Helmets', 'Road Helmet', 84),
      Aisle('Gloves', 'Padded Riding Gloves', 29),
      Aisle('Jerseys', 'Wool Jersey', 66),
    ),
    'On the Bike': (
      Aisle('Lights', 'Rechargeable Light Set', 38),
      Aisle('Locks', 'Folding Lock', 57),
      Aisle('Pumps', 'Floor Pump', 41),
    ),
  },
  'Coffee & Tea': {
    'Brewing': (
      Aisle('Grinders', 'Burr Grinder', 98),
      Aisle('Drippers', 'Ceramic Dripper', 27),
      Aisle('Kettles', 'Gooseneck Kettle', 63),
    ),
    'Drinking': (
      Aisle('Beans', 'Whole Bean Coffee 500 g', 16),
      Aisle('Leaf Tea', 'Loose Leaf Tea 100 g', 12),
      Aisle('Mugs', 'Stoneware Mug', 18),
    ),
  },
  'Garden': {
    'Planting': (
      Aisle('Seeds', 'Heirloom Seed Box', 14),
      Aisle('Potting Soil', 'Peat-Free Potting Soil 20 l', 19),
      Aisle('Planters', 'Terracotta Planter', 33),
    ),
    'Tending': (
      Aisle('Watering Cans', 'Copper Watering Can', 46),
      Aisle('Pruners', 'Bypass Pruners', 36),
      Aisle('Garden Forks', 'Ash-Handled Fork', 54),
    ),
  },
  'Kitchen': {
    'Preparing': (
      Aisle('Knives', "Chef's Knife 20 cm", 92),
      Aisle('Boards', 'Walnut Cutting Board', 58),
      Aisle('Bowls', 'Nesting Bowl Set', 39),
    ),
    'Baking': (
      Aisle('Rolling Pins', 'French Rolling Pin', 22),
      Aisle('Loaf Tins', 'Carbon Steel Loaf Tin', 26),
      Aisle('Cooling Racks', 'Folding Cooling Rack', 21),
    ),
  },
}

BRANDS = {
  'Camping & Hiking': ('Norrfell', 'Brightpine', 'Kestrel & Co', 'Tarnway'),
  'Cycling': ('Velora', 'Switchback', 'Copperlane', 'Pedalcraft'),
  'Coffee & Tea': ('Morningside', 'Kettleby', 'Harbour Roast', 'Ninth Cup'),
  'Garden': ('Greenmantle', 'Oakhollow', 'Fernhill', 'Thistle & Bee'),
  'Kitchen': ('Larkspur', 'Stonehearth', 'Maison Vell', 'Butterfield'),
}

# The relative price and the relative popularity of each model line.
LINES = {
  'Essential': (0.6, 4.0),
  'Classic': (1.0, 8.0),
  'Select': (1.3, 2.0),
  'Signature': (1.8, 1.0),
  'Heritage': (2.6, 0.5),
}

COLORS = (
  'Moss Green', 'Slate Blue', 'Burnt Orange', 'Charcoal', 'Sand', 'Plum',
  'Mustard', 'Sea Glass', 'Brick Red', 'Ivory',
)  # fmt: skip


def stock(rng: np.random.Generator) -> Items:
  """Returns one item for each aisle, brand and model line, in random order.

  `rng` also draws colors and prices, which do not affect purchases.
  """
  texts = [
    _text(rng, brand, line, department, category, aisle)
    for department, categories in DEPARTMENTS.items()
    for category, aisles in categories.items()
    for aisle in aisles
    for brand in BRANDS[department]
    for line in LINES
  ]
  # Shuffled, so that the row of an item says nothing about the item.
  texts = [texts[index] for index in rng.permutation(len(texts))]
  return Items(
    ids=tuple(f'P{row:04d}' for row in range(len(texts))),
    fields={name: tuple(text[name] for text in texts) for name in texts[0]},
  )


def _text(
  rng: np.random.Generator,
  brand: str,
  line: str,
  department: str,
  category: str,
  aisle: Aisle,
) -> dict[str, str]:
  color = COLORS[rng.integers(len(COLORS))]
  price = aisle.price * LINES[line][0] * rng.uniform(0.9, 1.1)
  return {
    'title': f'{brand} {line} {aisle.product}, {color}',
    'price': f'{price:.2f}',
    'brand': brand,
    'categories': f'{department} > {category} > {aisle.name}',
    'description': '',
  }
