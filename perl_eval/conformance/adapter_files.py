"""Adapters that users bring: Python files with a function ``estimators() -> list[Estimator]``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from perl_eval.checks import existing
from perl_eval.conformance.batch import Estimator
from perl_eval.conformance.objective_list import known_objective
from perl_eval.errors import UserError

__all__ = ["checked", "read_adapter"]


def read_adapter(path: Path) -> list[Estimator]:
    """Run an adapter file and return its estimators.

    Files beside it can be imported from it.

    Args:
        path: A Python file. It is run as it is.

    Raises:
        UserError: There is no such file, it has no function ``estimators``, or a package that it needs is missing.
    """
    file = existing(path)
    spec = importlib.util.spec_from_file_location(f"perl_eval_adapter_{file.stem}", file)
    if file.suffix != ".py" or spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    beside = str(file.resolve().parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
        give = getattr(module, "estimators", None)
        if give is None:
            raise UserError(f"{path} has no function `estimators`", "define estimators() -> list[Estimator]")
        found = give()
    except ModuleNotFoundError as error:
        raise UserError(f"{path} needs the package {error.name}", f"install {error.name}") from None
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}", "correct the file") from None
    finally:
        sys.path.remove(beside)
    if not isinstance(found, list) or not all(isinstance(one, Estimator) for one in found):
        raise UserError(f"estimators() of {path} gives no list of Estimator", "return perl_eval.conformance.Estimator")
    return found


def checked(found: Sequence[Estimator]) -> list[Estimator]:
    """Return estimators whose names are distinct and whose objectives are known.

    Raises:
        UserError: Two have one name, an objective is not known, or there is none.
    """
    names = [one.name for one in found]
    for one in found:
        known_objective(one.objective, one.name)
        if names.count(one.name) > 1:
            raise UserError(f"two estimators are called {one.name!r}", "rename one")
    if not found:
        raise UserError("there is no estimator to measure", "give --adapter, or leave --only out")
    return list(found)
