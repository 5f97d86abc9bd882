"""Nobody reads a sentence: what a figure is about stands in fields, and its name is written once."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from perl_eval import figure_names
from perl_eval.metrics.glossary import CONFORMANCE, CURVES, MEANINGS, POSTERIOR

ROOT = Path(__file__).resolve().parent.parent / "perl_eval"
SENTENCES = frozenset(("subject", "sentence"))
"""Attributes that are sentences, of whatever object."""
METHODS = frozenset(("method",))
"""Attributes that are sentences of an `Estimate`, and other things elsewhere."""
READING = frozenset(
    (
        *("startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split", "rsplit"),
        *("splitlines", "find", "rfind", "index", "rindex", "count", "match", "fullmatch", "search", "findall"),
        *("finditer", "sub", "subn"),
    )
)
WORDS_OF_OTHERS: Mapping[str, str] = {
    "labels": "an option, and an input of verbs",
    "length": "why a model stopped",
    "loss": "an outcome",
    "mixed": "an outcome",
    "pairs": "what is judged",
    "people": "whose labels they are",
    "reward": "a model, a stage, and a metric of scores",
    "splits": "parts of a data set",
    "unjudged": "an outcome",
}
"""Figures whose names are words of other things too, which may stand anywhere."""


def is_sentence(node: ast.AST, said: frozenset[str]) -> bool:
    """Return whether an expression is a sentence, a part of one, or made of one."""
    if isinstance(node, ast.Attribute) and node.attr in SENTENCES | METHODS:
        return True
    return isinstance(node, ast.Name) and node.id in said


def names_of_sentences(tree: ast.AST) -> frozenset[str]:
    """Return the variables that are given a sentence."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            pairs = [(target, node.value) for target in targets]
            if isinstance(node.value, ast.Tuple) and isinstance(targets[0], ast.Tuple):
                pairs = list(zip(targets[0].elts, node.value.elts, strict=False))
            found |= {t.id for t, v in pairs if isinstance(t, ast.Name) and is_sentence(v, frozenset())}
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            made = node.iter.args[0] if isinstance(node.iter, ast.Call) and node.iter.args else node.iter
            inner = made.elt if isinstance(made, ast.ListComp | ast.SetComp | ast.GeneratorExp) else made
            found |= {node.target.id} if is_sentence(inner, frozenset()) else set()
    return frozenset(found)


def readings(source: str) -> Iterator[int]:
    """Yield the lines of a source that take a sentence apart or look for something in it."""
    tree = ast.parse(source)
    said = names_of_sentences(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            given = [*node.args, *(word.value for word in node.keywords)]
            if named in READING and (
                (owner is not None and is_sentence(owner, said)) or any(is_sentence(one, said) for one in given)
            ):
                yield node.lineno
        elif isinstance(node, ast.Compare):
            pairs = zip(node.ops, node.comparators, strict=True)
            if any(isinstance(op, ast.In | ast.NotIn) and is_sentence(right, said) for op, right in pairs):
                yield node.lineno
        elif isinstance(node, ast.Subscript) and is_sentence(node.value, said):
            yield node.lineno


def literals(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a source that are no docstrings, no parts of a longer text, and no types."""
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out |= {id(part) for part in node.values}
        elif isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "__all__" for one in node.targets):
            left_out |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def written_twice(root: Path) -> dict[str, list[str]]:
    """Return the names of figures that stand as literals in several files, and in which."""
    known = {*MEANINGS, *POSTERIOR, *CONFORMANCE, *(name for curves in CURVES.values() for name in curves)}
    places = defaultdict(set)
    for path in sorted(root.rglob("*.py")):
        for text in literals(ast.parse(path.read_text("utf-8"))):
            if text in known and text not in WORDS_OF_OTHERS:
                places[text].add(path.relative_to(root).as_posix())
    return {name: sorted(found) for name, found in places.items() if len(found) > 1}


def test_nobody_reads_a_sentence() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in ROOT.rglob("*.py") for line in readings(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "if one.subject.startswith('judge '): pass",
        "policy = figure.estimate.subject.partition(' against ')[0]",
        "hits = re.search('position', estimate.subject)",
        "hits = PATTERN.match(estimate.about.sentence)",
        "bound = 'upper bound' in x.method",
        "inner = estimate.method.removesuffix('; rule r')",
        "subject = one.subject\nfound = ', judge ' not in subject",
        "name, said = one.name, one.subject\nsaid.split(', person ')",
        "for subject in {one.subject for one in found}:\n    subject[:3]",
        "kept = [said for said in [one.subject for one in found] if said.endswith('j')]",
        "first = one.subject[0]",
    ],
)
def test_a_reader_of_a_sentence_is_caught(line: str) -> None:
    assert list(readings(line))


@pytest.mark.parametrize(
    "line",
    [
        "same = one.subject == other.subject",
        "print(one.subject, one.method)",
        "known = shape.method in METHODS",
        "told = f'{how}; {one.method}'",
        "by_subject[one.subject].append(one)",
    ],
)
def test_what_reads_none_is_not(line: str) -> None:
    assert not list(readings(line))


def test_the_name_of_a_figure_is_written_once() -> None:
    assert written_twice(ROOT) == {}


def test_a_name_written_twice_is_caught(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text('"""win rate"""\nNAME = "win rate"\nOTHER = "unjudged"\n', "utf-8")
    assert written_twice(tmp_path) == {"win rate": ["one.py", "two.py"]}


def test_words_of_others_are_names_of_figures() -> None:
    known = {*MEANINGS, *POSTERIOR, *CONFORMANCE, *(name for curves in CURVES.values() for name in curves)}
    assert set(WORDS_OF_OTHERS) <= known
    slices = {"TARGET", "TARGET_LINE", "BEST_OF_LINE"}
    named = {name: text for name, text in vars(figure_names).items() if name.isupper() and name not in slices}
    assert len(set(named.values())) == len(named)
    assert set(named.values()) <= known
