"""The estimates as LaTeX tables, one a subject, for a paper that loads booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from perl_eval.reporting.format import count, number, visible
from perl_eval.reporting.inputs import Figure
from perl_eval.reporting.markdown import by_subject

__all__ = ["as_latex"]

_MARKS = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after the end of a row it would begin an option
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def as_latex(title: str, shown: Sequence[Figure], simulations: Sequence[str], command: str) -> str:
    """Return the estimates as one table a subject.

    Args:
        title: Stands above them, as a comment.
        shown: The estimates.
        simulations: What rests on simulation, line by line.
        command: What was typed to make them.
    """
    lines = [f"% {_line(title)}", f"% {_line(command)}", "% needs \\usepackage{booktabs}"]
    lines += [f"% simulated: {_line(one)}" for one in simulations]
    for about, rows in by_subject(shown).items():
        lines += [
            "",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_text(about.sentence) or 'No subject'}}}",
            r"  \begin{tabular}{lrrr}",
            r"    \toprule",
            r"    figure & value & interval & $n$ \\",
            r"    \midrule",
            *(f"    {_row(figure)}" for figure in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> str:
    estimate = figure.estimate
    value = "not defined" if estimate.value is None else _number(estimate.value)
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f"{_number(estimate.low)} to {_number(estimate.high)}"
    name = _text(estimate.name) + (" (simulated)" if estimate.simulated else "")
    return " & ".join((name, value, interval, count(estimate.n))) + r" \\"


def _number(value: float) -> str:
    """Return a figure with a minus of mathematics, and powers of ten as such."""
    digits, _, power = number(value).partition("e")
    return f"${digits} \\times 10^{{{int(power)}}}$" if power else f"${digits}$" if value < 0 else digits


def _line(text: str) -> str:
    return " ".join(visible(text).split())


def _text(text: str) -> str:
    return "".join(_MARKS.get(char, char) for char in _line(text))
