"""No module but `perl_eval.outcomes` says what an outcome is worth, and nobody copies from its table."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from perl_eval import outcomes
from perl_eval.records import OUTCOMES

PACKAGE = Path(outcomes.__file__).parent
PAIRS = ("win", "split", "tie", "mixed", "loss")
OPEN = {"split", "tie", "mixed"}
NAMES = frozenset(OUTCOMES)
ANSWER_PAIR = frozenset({"yes", "no"})
ALLOWED = {
    "judging/jury_votes.py, by_majority": "says which undecided outcome a jury comes to",
    "stats/winrate.py, tally": "gives each count its field",
    "reporting/matplotlib_plots.py, _SHADES": "gives each outcome its colour",
}
"""Places outside the table that may name several undecided outcomes, and why."""


def own_tables(source: str) -> Iterator[str]:
    """Yield the function or name that holds each table of outcomes in a module: worths, sets, mirrors, sums.

    Found are dicts from outcomes to numbers or outcomes, ``dict.fromkeys`` of outcomes, collections of outcomes alone
    (but for the two answers yes and no), statements that name several undecided outcomes, and a number chosen by
    comparing with an outcome of a pair.
    """
    for place, statement in _statements(ast.parse(source), "module"):
        if _is_table(statement):
            yield place


def _statements(node: ast.AST, place: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every statement with what it stands in or is assigned to; of a compound one, its head."""
    for child in ast.iter_child_nodes(node):
        where = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else place
        if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name) and place == "module":
            where = child.targets[0].id
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and place == "module":
            where = child.target.id
        if isinstance(child, ast.stmt):
            yield where, child
        yield from _statements(child, where)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions of a statement, without those of statements inside it and without types."""
    stack = [child for child in ast.iter_child_nodes(statement) if not isinstance(child, ast.stmt)]
    while stack:
        node = stack.pop()
        yield node
        if not (isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"):
            stack += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_number(node: ast.AST) -> bool:
    value = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)


def _is_entry(name: str | None, value: ast.AST) -> bool:
    """Return whether an entry of a dict says something of an outcome; that yes is true says nothing."""
    truth = isinstance(value, ast.Constant) and isinstance(value.value, bool)
    return name in NAMES and not (truth and name in ANSWER_PAIR) and (_is_number(value) or _text(value) in NAMES)


def _are_outcomes(nodes: Sequence[ast.AST]) -> bool:
    found = {_text(node) for node in nodes}
    return len(found) > 1 and found <= NAMES and found != ANSWER_PAIR


def _asks(test: ast.expr) -> bool:
    return any(_text(part) in PAIRS for part in ast.walk(test))


def _is_table(statement: ast.stmt) -> bool:
    undecided = set()
    for node in _own_nodes(statement):
        undecided |= {_text(node)} & OPEN
        if isinstance(node, ast.Dict):
            if sum(_is_entry(_text(key), value) for key, value in zip(node.keys, node.values, strict=True)) > 1:
                return True
        elif isinstance(node, ast.Set | ast.List | ast.Tuple):
            if _are_outcomes(node.elts):
                return True
        elif isinstance(node, ast.IfExp) and _is_number(node.body) and _is_number(node.orelse) and _asks(node.test):
            return True
    return len(undecided) > 1


def tables_of(root: Path) -> set[str]:
    return {
        f"{path.relative_to(root).as_posix()}, {place}"
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).as_posix() not in ("outcomes.py", "records.py")
        for place in own_tables(path.read_text("utf-8"))
    }


def test_no_module_has_a_table_of_its_own() -> None:
    assert tables_of(PACKAGE) == set(ALLOWED)


def test_only_the_module_itself_reads_the_table() -> None:
    """A reader that copies from the table at import would not see it change."""
    readers = [
        path.name
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "outcomes.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "perl_eval.outcomes"
        and "TABLE" in {alias.name for alias in node.names}
    ]
    assert readers == []


@pytest.mark.parametrize(
    "planted",
    [
        '_SCORES = {"win": 1.0, "split": 0.5, "tie": 0.5, "mixed": 0.5, "loss": 0.0}',
        '_WORTH = {"win": 1.0, "tie": 0.5, "loss": 0.0, "yes": 1.0, "no": 0.0}',
        '_WORTHS = {"pairwise": (("win rate, undecided half", {"win": 1.0, "tie": 0.5}),)}',
        '_WORTH = {"first": 1.0, "second": 0.0, "tie": 0.5, "yes": 1.0, "no": 0.0}',
        '_UNDECIDED = ("split", "tie", "mixed")',
        '_UNDECIDED = frozenset({"split", "tie"})',
        '_MIRRORED = {"win": "loss", "loss": "win"}',
        'AS_LABEL = {"win": "win", "split": "tie"}',
        '_BARS = {"pairwise": (("undecided", ("split", "tie", "mixed")),)}',
        'points = dict.fromkeys(["tie", "mixed"], 0.5)',
        'def f(said):\n    return 4.0 if said.outcome in ("split", "mixed", "tie") else 1.0',
        'def f(self):\n    return self.outcomes["split"] + self.outcomes["tie"]',
        'def f(said):\n    if said == "tie" or said == "mixed":\n        return 1',
        'def f(said):\n    return 1 if said == "win" else -1',
        'flags = {"win": False, "split": True}',
        'def f(known):\n    known = {"yes", "no", "unjudged"}',
    ],
)
def test_a_planted_table_is_found(tmp_path: Path, planted: str) -> None:
    (tmp_path / "reader.py").write_text(planted + "\n")
    assert len(tables_of(tmp_path)) == 1


@pytest.mark.parametrize(
    "innocent",
    [
        'words = ("yes", "no")',
        'truths = {"yes": True, "true": True, "no": False}',
        'Draw = Literal["random", "uncertain", "split"]',
        'meanings = {"a": "win", "b": "loss"}',
        'def f(split):\n    """A split, a tie or a mixed pair."""\n    return {"split": split, "check": 1}',
        'def f(outcome):\n    return outcome == "unjudged"',
    ],
)
def test_what_is_no_table_is_not_found(tmp_path: Path, innocent: str) -> None:
    (tmp_path / "reader.py").write_text(innocent + "\n")
    assert tables_of(tmp_path) == set()
