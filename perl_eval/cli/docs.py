"""The verb docs."""

from __future__ import annotations

from typing import Annotated

import typer

from perl_eval.cli.console import say

__all__ = ["docs"]


def docs(
    page: Annotated[
        str, typer.Argument(help="A page, such as judging, or a part of one: judging#providers. None: list them.")
    ] = "",
) -> None:
    """Print a page of the documentation, as it came with this version; no network is needed."""
    from perl_eval.cli.doc_pages import names, page_text, title_of

    if page:
        say(page_text(page).rstrip("\n"), lines=True)
        return
    pages = list(names())
    width = max(map(len, pages)) + 2
    for name in pages:
        say(f"{name:<{width}}{title_of(name)}")
