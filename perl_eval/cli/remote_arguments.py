"""Addresses among the words of a command: inputs come into the cache before the verb, its output goes out after it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import typer

from perl_eval.errors import UserError

__all__ = ["at_hand"]

_WORD = re.compile(r"(?P<lead>(?:--[a-z-]+=)?(?:(?:reward|local):)?)(?P<address>(?:hf|s3|gs|memory)://.+)", re.S)
_OUT = "--out"
# Files and folders that verbs write to as they go.
_KEPT_OPEN = ("--ledger", "--cache-dir")


@contextmanager
def at_hand(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield a command's words with local paths in place of addresses; when the block ends well, the output is sent.

    Raises:
        UserError: An address cannot be read or written, or stands where a file is kept open; or the output holds rows
            that may not be sent there.
    """
    found: list[str] = []
    sent: list[str] = []
    with ExitStack() as stack:
        for place, word in enumerate(words):
            match = _WORD.fullmatch(word)
            if match is None:
                found.append(word)
                continue
            from perl_eval.cli.hub_terms import refuse_by_terms
            from perl_eval.storage import remote

            lead, address = match["lead"], match["address"]
            option = lead.rstrip("=") if lead.startswith("--") else words[place - 1] if place else ""
            if option in _KEPT_OPEN:
                raise UserError(f"{option} {address} is written to while the verb runs", "give a local path")
            if option == _OUT:
                if address.startswith("hf://") and words[0] == "build":
                    raise UserError(
                        "a built data set is not sent to hf:// directly", "give --push-to-hub, which checks the terms"
                    )
                # read once the verb has run, when all words are there
                inputs = (Path(one.rpartition("=")[2]) for one in found)
                held = remote.staged(address, partial(refuse_by_terms, address, inputs=inputs))
                found.append(f"{lead}{stack.enter_context(held)}")
                sent.append(address)
            else:
                found.append(f"{lead}{remote.fetch(address)}")
        yield found
    for address in sent:
        typer.echo(address)
