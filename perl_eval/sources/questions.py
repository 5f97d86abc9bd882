"""The questions of a labelling tool's file: which there are, and what to type where none has the name asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from perl_eval.errors import DataError
from perl_eval.sources.counting import counted

__all__ = ["QuestionsMet"]

_TEXT = ("textarea", "text", "choice or text", "")


class QuestionsMet:
    """The questions met in a file.

    Args:
        file: What to call the file in an error.
        question: The name of the one that holds the labels.
    """

    def __init__(self, file: str, question: str) -> None:
        self._file, self._question = file, question
        self._answers: Counter[tuple[str, str]] = Counter()

    def met(self, answers: Iterable[tuple[str, str]]) -> None:
        """Note answers, by the question's name and type."""
        self._answers.update(answers)

    def refuse_unless_answered(self) -> None:
        """Refuse a file in which nobody answers the question.

        Raises:
            DataError: There is no answer; the line names the questions that there are, and what to type.
        """
        if any(name == self._question for name, _ in self._answers):
            return
        if not self._answers:
            raise DataError("holds no answers to any question", file=self._file, fix="export annotated tasks")
        there = ", ".join(
            f"{name} ({kind or 'text'}, {counted(n, 'answers')})" for (name, kind), n in self._answers.items()
        )
        likely = [name for (name, kind), _ in self._answers.most_common() if kind not in _TEXT]
        typed = (likely or [name for name, _ in self._answers])[0]
        raise DataError(
            f"has no answers to a question {self._question!r}; it has answers to {there}",
            file=self._file,
            field=self._question,
            fix=f"say which holds the label: --column label={typed}",
        )
