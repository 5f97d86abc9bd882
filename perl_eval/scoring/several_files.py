"""How each of several files of different kinds is read, where the words of all of them are typed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perl_eval.errors import OptionError, PerlEvalError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources.containers import Brought, is_saved_dataset, opened
from perl_eval.sources.judgements import OUTCOME_FIELDS
from perl_eval.sources.label_rows import NAMES
from perl_eval.sources.reading import FIELDS, HowRead
from perl_eval.sources.rows import Row

__all__ = ["for_kind", "kind_named", "ways_of"]

_ROWS = frozenset(("prompt", "completion", "chosen", "rejected", "label"))
_KNOWS: Mapping[type, frozenset[str]] = {
    Completion: frozenset(FIELDS),
    Judgement: frozenset(OUTCOME_FIELDS),
    HumanLabel: frozenset((*NAMES, "yes_from")),
    Row: _ROWS,
}
"""What can be named in files of each kind."""
_TELLS: Sequence[tuple[type, frozenset[str]]] = (
    (Row, frozenset(("completion", "chosen", "rejected"))),
    (HumanLabel, frozenset(("label", "annotator"))),
    (Judgement, frozenset(("outcome", "verdict", "verdict_ab", "verdict_ba"))),
    (Completion, frozenset(("text", "messages"))),
)
"""What is named in files of one kind only, so that it tells the kind."""


def ways_of(sources: Sequence[Path], how: HowRead) -> list[HowRead]:
    """Return how each source is read: with the columns and words that it has, of those that were typed.

    A column that no file has is left to all of them: it may be a question of a labelling tool, and else the reader
    says that it is not there.

    Args:
        sources: Files and folders.
        how: What was typed.

    Raises:
        OptionError: A word was given a meaning, and no file says it.
    """
    if not (how.columns or how.means):
        return [how] * len(sources)
    found = [_opened(source) for source in sources]
    heads = [{name for row in one.head for name in row} if one else set() for one in found]
    anywhere = {name for head in heads for name in head}
    words = [_words(one, how.means) for one in found]
    for word in how.means:
        if not any(word in said for said in words):
            raise OptionError(
                "means", f"{word!r}, which does not occur in the files", "give the words as they are written there"
            )
    return [
        replace(
            how,
            columns={field: name for field, name in how.columns.items() if name in head or name not in anywhere},
            means={word: meaning for word, meaning in how.means.items() if word in said},
        )
        for head, said in zip(heads, words, strict=True)
    ]


def kind_named(found: Brought, how: HowRead) -> type | None:
    """Return the kind of record that a file holds, told by the columns that were named; None if they do not."""
    there = {name for row in found.head for name in row}
    named = {field for field, name in how.columns.items() if name in there}
    return next((kind for kind, fields in _TELLS if named & fields), None)


def for_kind(how: HowRead, kind: type, format: str = "") -> HowRead:
    """Return how a file is read as one kind of record: with the columns that such a file can have.

    Args:
        how: How the file is read.
        kind: The kind of record.
        format: The format.
    """
    known = _KNOWS[kind]
    return replace(how, format=format, columns={name: there for name, there in how.columns.items() if name in known})


def _opened(source: Path) -> Brought | None:
    """Open a file of another tool; None for a folder, and for what cannot be read, of which its reader says why."""
    if source.is_dir() and not is_saved_dataset(source):
        return None
    try:
        return opened(source)
    except PerlEvalError:
        return None


def _words(found: Brought | None, wanted: Mapping[str, str]) -> set[str]:
    """Return those of some words that stand as a whole text somewhere in a file."""
    if found is None or not wanted:
        return set()
    plain = {" ".join(word.lower().split()): word for word in wanted}
    said: set[str] = set()
    for row in found.rows():
        said |= {plain[text] for text in _texts(row) if text in plain}
        if len(said) == len(plain):
            break
    return said


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a cell, as words are compared."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif value is not None:
        yield " ".join(str(value).lower().split())
