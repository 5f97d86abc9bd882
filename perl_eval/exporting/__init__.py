"""The verb export: what perl-eval holds, or reads, to the files that other tools read."""

from __future__ import annotations

from perl_eval.exporting.layouts import Layout, Tally
from perl_eval.exporting.taken import EXPORTS, layout_named, run, told

__all__ = ["EXPORTS", "Layout", "Tally", "layout_named", "run", "told"]
