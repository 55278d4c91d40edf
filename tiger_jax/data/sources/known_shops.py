"""Describes the official files of the Amazon, Steam and Yelp datasets.

Amazon: Ni et al., Justifying Recommendations using Distantly-Labeled Reviews,
2019; Hou et al., Bridging Language and Items for Retrieval, 2024. Steam: Kang
and McAuley, Self-Attentive Sequential Recommendation, 2018.
"""

from collections.abc import Mapping
from typing import Any

from tiger_jax.data.sources.json_shops import Shop
from tiger_jax.data.sources.official_files import Official

_MCAULEY = 'https://mcauleylab.ucsd.edu/public_datasets/data'
_2018_PAGE = 'https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/'
_2023_PAGE = 'https://amazon-reviews-2023.github.io/'
_STEAM_PAGE = 'https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data'
_YELP_PAGE = 'https://business.yelp.com/data/resources/open-dataset/'

# The categories of 2018 and 2023.
_COMMON = (
  'All_Beauty', 'Appliances', 'Arts_Crafts_and_Sewing', 'Automotive', 'Books',
  'CDs_and_Vinyl', 'Cell_Phones_and_Accessories', 'Clothing_Shoes_and_Jewelry',
  'Digital_Music', 'Electronics', 'Gift_Cards', 'Grocery_and_Gourmet_Food',
  'Home_and_Kitchen', 'Industrial_and_Scientific', 'Kindle_Store',
  'Magazine_Subscriptions', 'Movies_and_TV', 'Musical_Instruments',
  'Office_Products', 'Patio_Lawn_and_Garden', 'Pet_Supplies', 'Software',
  'Sports_and_Outdoors', 'Tools_and_Home_Improvement', 'Toys_and_Games',
  'Video_Games',
)  # fmt: skip
_ONLY_2018 = ('AMAZON_FASHION', 'Luxury_Beauty', 'Prime_Pantry')
_ONLY_2023 = (
  'Amazon_Fashion', 'Baby_Products', 'Beauty_and_Personal_Care',
  'Handmade_Products', 'Health_and_Household', 'Health_and_Personal_Care',
  'Subscription_Boxes', 'Unknown',
)  # fmt: skip


def _amazon2018_files(category: str) -> Official:
  names = f'{category}_5.json.gz', f'meta_{category}.json.gz'
  site = f'{_MCAULEY}/amazon_v2'
  return Official(
    dataset=f'amazon2018/{category}',
    names=names,
    page=_2018_PAGE,
    urls=(
      f'{site}/categoryFilesSmall/{names[0]}',
      f'{site}/metaFiles2/{names[1]}',
    ),
  )


def _amazon2018_texts(values: Mapping[Any, Any]) -> dict[str, Any]:
  title, price = values.get('title'), values.get('price')
  return {
    # Some titles and prices are scripts or styles from a web page.
    'title': None if _contains(title, 'getTime') else title,
    'price': None if _contains(price, '{') else price,
    'brand': values.get('brand'),
    'categories': values.get('category'),
    'description': values.get('description'),
  }


def _amazon2023_files(category: str) -> Official:
  names = f'{category}.jsonl.gz', f'meta_{category}.jsonl.gz'
  site = f'{_MCAULEY}/amazon_2023/raw'
  return Official(
    dataset=f'amazon2023/{category}',
    names=names,
    page=_2023_PAGE,
    urls=(
      f'{site}/review_categories/{names[0]}',
      f'{site}/meta_categories/{names[1]}',
    ),
  )


def _amazon2023_texts(values: Mapping[Any, Any]) -> dict[str, Any]:
  return {
    'title': values.get('title'),
    'price': values.get('price'),
    'brand': values.get('store'),
    'categories': values.get('categories'),
    'description': _joined(values.get('features'), values.get('description')),
  }


def _steam_files(unused_category: str) -> Official:
  names = 'steam_reviews.json.gz', 'steam_games.json.gz'
  return Official(
    dataset='steam',
    names=names,
    page=_STEAM_PAGE,
    urls=tuple(f'{_MCAULEY}/steam/{name}' for name in names),
  )


def _steam_texts(values: Mapping[Any, Any]) -> dict[str, Any]:
  genres = _joined(values.get('genres'), values.get('tags'))
  return {
    'title': values.get('app_name') or values.get('title'),
    'price': values.get('price'),
    'brand': values.get('developer') or values.get('publisher'),
    'categories': _side_by_side(genres),
  }


def _yelp_files(unused_category: str) -> Official:
  return Official(
    dataset='yelp',
    names=(
      'yelp_academic_dataset_review.json',
      'yelp_academic_dataset_business.json',
    ),
    page=_YELP_PAGE,
    archives=(
      'yelp_dataset.tar',
      'Yelp JSON/yelp_dataset.tar',
      'Yelp-JSON.zip',
      'yelp_dataset.tgz',
    ),  # fmt: skip
  )


def _yelp_texts(values: Mapping[Any, Any]) -> dict[str, Any]:
  categories = values.get('categories')
  if isinstance(categories, str):
    categories = _side_by_side(categories.split(', '))
  place = [
    x for x in map(values.get, ('city', 'state')) if isinstance(x, str) and x
  ]
  return {
    'title': values.get('name'),
    'categories': categories,
    'description': ', '.join(place),
  }


def _contains(value: Any, part: str) -> bool:
  return isinstance(value, str) and part in value


def _joined(*values: Any) -> list[Any]:
  """Returns lists or single values as one list, without repeated texts."""
  joined, texts = [], set()
  for value in values:
    for x in value if isinstance(value, list) else [value]:
      if x is None or (isinstance(x, str) and x in texts):
        continue
      joined.append(x)
      if isinstance(x, str):
        texts.add(x)
  return joined


def _side_by_side(names: Any) -> Any:
  """Returns a path for each name. A plain list of names would be one path."""
  if not isinstance(names, list):
    return names
  return [[name] if isinstance(name, str) else name for name in names]


AMAZON_2018 = Shop(
  official=_amazon2018_files,
  user='reviewerID',
  item='asin',
  rating='overall',
  time='unixReviewTime',
  id='asin',
  texts=_amazon2018_texts,
  only_bought=True,
  categories=tuple(sorted(_COMMON + _ONLY_2018)),
)
AMAZON_2023 = Shop(
  official=_amazon2023_files,
  user='user_id',
  item='parent_asin',
  rating='rating',
  time='timestamp',
  id='parent_asin',
  texts=_amazon2023_texts,
  only_bought=True,
  categories=tuple(sorted(_COMMON + _ONLY_2023)),
)
STEAM = Shop(
  official=_steam_files,
  user='username',
  item='product_id',
  rating='',
  time='date',
  id='id',
  texts=_steam_texts,
  names_are_free=True,
  # A few games have no id.
  bad_share=0.001,
)
YELP = Shop(
  official=_yelp_files,
  user='user_id',
  item='business_id',
  rating='stars',
  time='date',
  id='business_id',
  texts=_yelp_texts,
)
