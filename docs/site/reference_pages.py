"""Reference pages that are written from the program itself when the site is built: verbs, formats, figures, Python.

They lie in ``docs/reference/`` while Sphinx reads them and are not kept: what they say is the code's own text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from concept_pictures import draw_all
from typer.main import get_command

__all__ = ["setup", "write_pages"]


def setup(app: Any) -> Mapping[str, bool]:
    """Let Sphinx write the pages before it looks for any."""
    app.connect("config-inited", lambda app, _: write_pages(Path(app.srcdir) / "reference"))
    return {"parallel_read_safe": True}


def write_pages(folder: Path) -> None:
    """Write every page of the reference.

    Args:
        folder: Where to; it is made.
    """
    pages = {"verbs": _verbs(), "formats": _formats(), "figures": _figures(), "python": _python()}
    folder.mkdir(exist_ok=True)
    draw_all(folder / "pictures")
    for name, text in pages.items():
        page = folder / f"{name}.md"
        if not page.is_file() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")


def _verbs() -> str:
    """Return what each verb does and takes, as its help says."""
    from perl_eval.cli import whole_program
    from perl_eval.cli.examples import commands

    parts = ["# Commands\n\nWhat `perl-eval VERB --help` says, of every verb.\n"]
    for name, command in _leaves(get_command(whole_program()), ()):
        examples = "\n".join(commands(name))
        parts += [f"## {name}\n", f"{_cell(command.help or '')}\n", *_parameters(name, command)]
        parts += [f"```bash\n{examples}\n```\n"]
    return "\n".join(parts)


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        if getattr(inner, "commands", None):
            yield from _leaves(inner, (*path, name))
        else:
            yield " ".join((*path, name)), inner


def _parameters(name: str, command: Any) -> Iterator[str]:
    words = [f"perl-eval {name}"]
    rows = []
    for one in command.params:
        if getattr(one, "hidden", False) or one.name == "help":
            continue
        is_argument = one.param_type_name == "argument"
        called = one.name.upper() if is_argument else ", ".join([*one.opts, *one.secondary_opts])
        if is_argument:
            words.append(called if one.required else f"[{called}]")
        elif one.required:
            words.append(f"{one.opts[0]} {one.name.upper()}")
        rows.append(f"| `{called}` | {_default(one)} | {_cell(one.help or '')} |")
    yield f"```text\n{' '.join(words)}\n```\n"
    if rows:
        yield "\n".join(["| option | default | what |", "|---|---|---|", *rows, ""])


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default() if callable(parameter.default) else parameter.default
    return "" if value in (None, "", (), [], False) else f"`{value}`"


def _formats() -> str:
    """Return the formats of other tools that are read, by what they give."""
    from perl_eval.sources.recognition import CALLED, FORMATS

    parts = ["# File formats that are read\n\nTold by content; `--format NAME` says one. More in [](../formats.md).\n"]
    for kind, called in CALLED.items():
        rows = [f"| `{one.name}` | {_cell(one.what)} |" for one in FORMATS if one.gives is kind]
        parts += [f"## {called.capitalize()}\n", "| name | what |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _figures() -> str:
    """Return the name of every figure and what it means."""
    from perl_eval.metrics.glossary import CONFORMANCE, CURVES, MEANINGS, POSTERIOR

    parts = ["# Figures\n\nEvery figure that a verb writes, by its name.\n"]
    told = {"Estimates": MEANINGS, "Of the posterior": POSTERIOR, "Of training": CURVES, "Of losses": CONFORMANCE}
    for title, meanings in told.items():
        rows = [f"| {_cell(name)} | {_cell(str(meaning))} |" for name, meaning in sorted(meanings.items())]
        parts += [f"## {title}\n", "| figure | what it is |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _python() -> str:
    """Return the page of what the root exports, for autodoc to fill."""
    import perl_eval

    verbs, others = [], []
    for name in perl_eval.__all__:
        if name.startswith("__"):
            continue
        value = getattr(perl_eval, name)
        kind = "autofunction" if inspect.isroutine(value) else "autoclass" if inspect.isclass(value) else "autodata"
        (verbs if kind == "autofunction" else others).append(f"```{{eval-rst}}\n.. {kind}:: perl_eval.{name}\n```\n")
    return "\n".join(["# Python\n\n## Functions\n", *verbs, "## Classes\n", *others])


def _cell(text: str) -> str:
    """Return text for one cell of a table: on one line, with nothing that Markdown would read as more than text."""
    line = " ".join(re.sub(r"\[/?[a-z ]+\]", "", text).split())
    return line.replace("|", "\\|").replace("<", "&lt;").replace("{", "&#123;").replace("$", "\\$")
