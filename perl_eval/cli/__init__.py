"""The command line: one command a verb. Heavy packages load only when a verb needs them."""

from __future__ import annotations

from perl_eval.cli.program import main, whole_program

__all__ = ["main", "whole_program"]
