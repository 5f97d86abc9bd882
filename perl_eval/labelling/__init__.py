"""A page on which people label answers blind, and what they said as records.

`run` serves the page until it is stopped; `export` writes the labels, for `agree` or for other tools.
"""

from perl_eval.labelling.export import export
from perl_eval.labelling.serve import run

__all__ = ["export", "run"]
