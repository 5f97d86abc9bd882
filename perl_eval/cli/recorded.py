"""The verb recorded."""

from __future__ import annotations

from perl_eval.cli.console import done
from perl_eval.cli.shared_options import Data, Out

__all__ = ["recorded"]


def recorded(data: Data, out: Out, split: str = "test") -> None:
    """Rated rows to completions and human labels, so that a judge can be held against people."""
    from perl_eval.sources import recorded as verb

    done(verb.run(data, out, split=split))
