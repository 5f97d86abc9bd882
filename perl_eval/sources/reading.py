"""What a format is: a name, what tells its files, and how its rows become those that records are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perl_eval.errors import DataError, OptionError
from perl_eval.sources.containers import Brought

__all__ = ["FIELDS", "Format", "HowRead", "Import", "cell", "meanings"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "input"),
    "text": (
        *("text", "completion", "output", "answer", "response", "generation"),
        *("predict", "prediction", "generated_text", "model_output"),
    ),
    "messages": ("messages",),
    "policy": ("policy", "generator", "model", "model_id"),
    "item": ("item", "question_id", "prompt_id", "uid"),
    "group": ("group",),
    "dataset": ("dataset",),
    "id": ("id",),
    "finish": ("finish", "finish_reason"),
    "draw": ("draw",),
}
"""What a completion has, and the names under which files keep it; the first that is there is taken."""


@dataclass(frozen=True, slots=True)
class HowRead:
    """How files of other tools are read.

    Attributes:
        format: The format, where it cannot be told from the content.
        columns: The names that the rows use, by the names used here.
        requests: File of the requests or questions that answers belong to, where they do not repeat them.
        by_prompt: Items are told by their prompts, whatever the rows call them.
        only: The policy whose answers are read, where a file holds several; all if empty.
        means: What words of labels and verdicts mean that are not known here: a, b, tie, yes, no and the like.
    """

    format: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    requests: Path | None = None
    by_prompt: bool = False
    only: str = ""
    means: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Import:
    """One reading of something: how it is read, and what was found out on the way.

    Attributes:
        columns: The names that the rows use, where somebody gave them, by the names used here.
        policy: What the policy is called where rows do not say.
        requests: File of the requests or questions that the rows answer, where they do not repeat them.
        by_prompt: Items are told by their prompts, whatever the rows call them: for two files of which one has no ids.
        only: The policy whose answers are read, where there are several; all if empty.
        derived: What was not there and was derived: rows by field.
        left_out: Rows that give no record, by reason.
        again: How many equal answers there are, by the derived id of the first, where there is more than one.
        shared: Rows of held-out splits whose prompt a row for training has too, by split.
        means: What words of labels and verdicts mean, as `meant` finds them.
        met: Those of the words that were met.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    requests: Path | None = None
    by_prompt: bool = False
    only: str = ""
    derived: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    again: dict[str, int] = field(default_factory=dict)
    shared: Counter[str] = field(default_factory=Counter)
    means: Mapping[str, str] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)

    def meant(self, said: Any) -> Any:
        """Return what somebody says that a word means; the word itself where nobody does."""
        if not self.means:
            return said
        word = " ".join(str(said).lower().split())
        if word not in self.means:
            return said
        self.met.add(word)
        return self.means[word]

    def refuse_unmet(self, file: str) -> None:
        """Refuse words that were given a meaning, and that nothing in a file says.

        Raises:
            OptionError: There is one.
        """
        unmet = [word for word in self.means if word not in self.met]
        if unmet:
            raise OptionError(
                "means", f"{unmet[0]!r}, which does not occur in {file}", "give the words as they are written there"
            )


@dataclass(frozen=True, slots=True)
class Format:
    """One layout in which a tool writes, or people keep, one kind of record.

    Attributes:
        name: As typed after ``--format``.
        gives: The kind of record: Completion, Judgement, HumanLabel or `perl_eval.sources.rows.Row`.
        what: One line for help.
        matches: Whether something is of this format, by its first rows; it never raises.
        read: Yields what the records are made of: rows with the names of `completions.FIELDS` for completions, of
            TRL's columns for rows, and the records themselves for judgements and labels. Raises DataError with file,
            row and field.
        weak: Whether so little tells it that a file of another kind may look like it.
        plain: Whether its rows are prompts and answers in columns as they are, which need no other files or keys.
        needs: The columns (of a document the keys) that tell it, with ``|`` between the names that one may have.
    """

    name: str
    gives: type
    what: str
    matches: Callable[[Brought], bool]
    read: Callable[[Brought, Import], Iterator[Any]]
    weak: bool = False
    plain: bool = False
    needs: str = ""


def cell(cells: Mapping[str, Any], name: str, kind: type | tuple[type, ...], file: str, row: int) -> Any:
    """Return a cell that must be there, and of some type.

    Raises:
        DataError: It is missing, empty (None) or of another type.
    """
    if cells.get(name) is None:
        raise DataError(f"no such field; present are {', '.join(map(str, cells))}", file=file, row=row, field=name)
    if not isinstance(cells[name], kind):
        raise DataError(f"is a {type(cells[name]).__name__}", file=file, row=row, field=name)
    return cells[name]


_MEANT = ("a", "b", "tie", "yes", "no", "win", "loss", "first", "second")


def meanings(given: Mapping[str, str]) -> dict[str, str]:
    """Return what words mean, by the words as `Import.meant` compares them.

    Raises:
        OptionError: A word means nothing that is known here.
    """
    for word, meaning in given.items():
        if meaning not in _MEANT:
            raise OptionError("means", repr(f"{word}={meaning}"), f"give WORDS=MEANING, one of {', '.join(_MEANT)}")
    return {" ".join(word.lower().split()): meaning for word, meaning in given.items()}
