"""Packages that a trainer imports and that its losses do not use, as empty modules where they are not installed."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["absent_as_empty"]


class _Nothing:
    """What an empty module has under every name: a class, a base of classes, a decorator; called, it does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return self


class _EmptyModule(types.ModuleType):
    """A module in which every name is a class of its own that does nothing."""

    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Nothing,), {})


class _EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module under each of some names, and under all names below them.

    Args:
        names: Top-level packages that are not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, or None for names that are not ours."""
        if fullname.partition(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return an empty module."""
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute nothing."""


@contextmanager
def absent_as_empty(*names: str) -> Iterator[None]:
    """Let packages that are not installed be imported as empty ones, for as long as the block lasts.

    Args:
        names: Top-level packages; those that are installed are imported as they are.
    """
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    finder = _EmptyModules(absent)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
            del sys.modules[name]
