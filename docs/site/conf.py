"""How Sphinx builds the site of the pages in docs/; `scripts/site` calls it, with warnings as errors."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

project = "perl-eval"
copyright = "the authors of perl-eval"  # a name that Sphinx reads
release = version = version_of("perl-eval")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "reference_pages",
]
root_doc = "index"
exclude_patterns = ["site", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"perl-eval {release}"
html_static_path: list[str] = []
html_show_sourcelink = False
myst_heading_anchors = 4
nb_execution_mode = "force"  # notebooks are run when the site is built, and an error ends the build
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_execution_excludepatterns: list[str] = []
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.header"]  # pages may begin at any level
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_mock_imports: list[str] = []
napoleon_google_docstring = True
napoleon_numpy_docstring = False
nitpicky = False
default_role = "code"  # single backquotes in docstrings are code
