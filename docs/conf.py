"""Sphinx settings; `make docs` builds the site in docs/_build."""

from pathlib import Path
import sys

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT)]

from docs import api_pages, repository_links  # noqa: E402
from tiger_jax import __version__  # noqa: E402

project = 'tiger_jax'
author = 'The tiger_jax Authors'
project_copyright = author
version = release = __version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build', 'images', 'jupyter_execute']
nitpicky = True
# Sphinx links each type in a signature. It cannot find the types of other
# libraries, because the build is offline.
nitpick_ignore_regex = [
  (r'py:.*', r'(?!tiger_jax\.).*\..*'),
  (r'py:.*', r"Array|ndarray|'.*'"),
  # The types of the fields of HTTP bodies.
  (r'py:.*', r'(Field|None)\w+|(Min|Max)Len|PydanticUndefined'),
  (r'py:.*', r'tiger_jax\.serving\.server\.schemas\._\w+'),
]
# A name in single backticks is code, as in Markdown.
default_role = 'code'

nb_execution_mode = 'off'
myst_heading_anchors = 4
myst_enable_extensions = ['colon_fence']

# Beam needs an environment of its own.
autodoc_mock_imports = ['apache_beam']
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints = 'signature'
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = 'sphinx_book_theme'
html_title = 'tiger_jax'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
  'use_download_button': False,
  'use_fullscreen_button': False,
  'show_toc_level': 2,
}


def setup(app):
  """Registers the Sphinx extensions of this repository."""
  api_pages.setup(app)
  repository_links.setup(app)
