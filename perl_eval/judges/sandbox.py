"""Jinja2 templates of judge prompts, compiled in jinja2's sandbox: they reach no file, no attribute and no code.

The sandbox bounds neither memory nor time; a template that this project did not write is compiled and rendered in a
process of its own, see `perl_eval.judges.sandbox_process`. This module loads jinja2 and nothing else, for that process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import jinja2
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox

__all__ = ["HOLE", "Compiled", "Sandboxed", "TemplateFailure"]

HOLE = "\x00"
"""Stands around the names of values where a prompt is rendered around holes; no template holds it."""
# Errors that a mistake in a template can raise while it renders.
_ERRORS = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


class TemplateFailure(Exception):
    """Why a template cannot be compiled or rendered; ``line`` if that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line = message, line


class Compiled(Protocol):
    """A compiled template, here or in another process.

    Attributes:
        blocks: The names of its blocks.
        uses: The variables that it uses.
        places: Whether it does nothing with its values but put them into their places, and branch on single ones.
    """

    blocks: Collection[str]
    uses: frozenset[str]
    places: bool

    def render(self, block: str, values: Mapping[str, object]) -> str:
        """Render a block.

        Raises:
            TemplateFailure: It fails on these values.
        """
        ...


class Sandboxed:
    """A template compiled in this process.

    Args:
        text: The template.

    Raises:
        TemplateFailure: It is none.
    """

    def __init__(self, text: str) -> None:
        # No autoescape: what comes out is text for a model, not HTML. No loader: a prompt includes no other file.
        environment = jinja2.sandbox.SandboxedEnvironment(
            undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
        )
        try:
            tree = environment.parse(text)
            self.uses = frozenset(jinja2.meta.find_undeclared_variables(tree))
            self._template = environment.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFailure(error.message or "is no template", error.lineno) from None
        except (RecursionError, MemoryError) as error:
            raise TemplateFailure(_short(error)) from None
        self.blocks: Collection[str] = frozenset(self._template.blocks)
        self.places = HOLE not in text and _only_places(tree)

    def render(self, block: str, values: Mapping[str, object]) -> str:
        """Render a block; see `Compiled`."""
        try:
            return "".join(self._template.blocks[block](self._template.new_context(dict(values)))).strip()
        except (*_ERRORS, RecursionError, MemoryError) as error:
            raise TemplateFailure(_short(error)) from None


def _short(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it takes more memory than a prompt may"
    return "it goes too deep" if isinstance(error, RecursionError) else str(error)


def _only_places(tree: jinja2.nodes.Template) -> bool:
    """Return whether the blocks of a prompt only place values, as they are, and branch on single ones."""

    def plain(node: jinja2.nodes.Node) -> bool:
        if isinstance(node, jinja2.nodes.Output):
            return all(isinstance(part, (jinja2.nodes.TemplateData, jinja2.nodes.Name)) for part in node.nodes)
        if isinstance(node, jinja2.nodes.If):
            test = node.test.node if isinstance(node.test, jinja2.nodes.Not) else node.test
            return isinstance(test, jinja2.nodes.Name) and all(map(plain, [*node.body, *node.elif_, *node.else_]))
        return False

    return all(plain(node) for block in tree.find_all(jinja2.nodes.Block) for node in block.body)
