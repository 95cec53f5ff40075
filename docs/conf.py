"""Sphinx configuration; builds without network and with warnings as errors."""

import sys
from pathlib import Path

import cbrl_bayes

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "cbrl_bayes"
author = "The cbrl_bayes developers"
copyright = author  # noqa: A001
version = release = cbrl_bayes.__version__

extensions = [
    "mathml",  # extensions/mathml.py: pages fetch nothing, so no MathJax
    "myst_nb",  # Markdown, and the executed notebook
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "py:obj"

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook is committed with its outputs; a slow test runs it again
nb_ipywidgets_js: dict[str, dict] = {}  # would be fetched from elsewhere; the notebook has none

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_context = {"public": cbrl_bayes.__all__}  # the template of a room leaves them out
autodoc_typehints = "none"  # types are in the docstrings
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"cbrl_bayes {release.split('+')[0]}"
