"""Sphinx configuration; builds without network and with warnings as errors."""

import cbrl_bayes

project = "cbrl_bayes"
author = "The cbrl_bayes developers"
copyright = author  # noqa: A001
version = release = cbrl_bayes.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # types are in the docstrings
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"cbrl_bayes {release}"
