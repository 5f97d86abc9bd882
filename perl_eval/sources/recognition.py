"""Which format something is of: told by its content, or as somebody said."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from perl_eval.errors import DataError, OptionError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.sources.column_names import columns_typed
from perl_eval.sources.containers import Brought
from perl_eval.sources.formats import (
    alpaca_annotations,
    anthropic_batch,
    arena_hard_judgments,
    arena_votes,
    argilla,
    chatbot_arena,
    deepeval_runs,
    dialogues,
    gemini_batch,
    inspect_logs,
    label_studio,
    label_table,
    lm_eval_samples,
    mt_bench_judgments,
    openai_batch,
    outcome_rows,
    plain_table,
    promptfoo_results,
)
from perl_eval.sources.label_rows import NAMES
from perl_eval.sources.reading import FIELDS, Format

__all__ = ["CALLED", "FORMATS", "format_named", "format_of", "format_of_any", "formats_for"]

FORMATS: Sequence[Format] = (
    inspect_logs.INSPECT,
    inspect_logs.INSPECT_SCORES,
    promptfoo_results.PROMPTFOO,
    promptfoo_results.PROMPTFOO_SCORES,
    deepeval_runs.DEEPEVAL,
    deepeval_runs.DEEPEVAL_SCORES,
    openai_batch.OPENAI_BATCH,
    anthropic_batch.ANTHROPIC_BATCH,
    gemini_batch.GEMINI_BATCH,
    lm_eval_samples.LM_EVAL,
    arena_hard_judgments.ARENA_HARD_JUDGMENTS,
    mt_bench_judgments.MT_BENCH_PAIRS,
    mt_bench_judgments.MT_BENCH_SINGLE,
    alpaca_annotations.ALPACA_ANNOTATIONS,
    chatbot_arena.MT_BENCH,
    chatbot_arena.ARENA_HARD,
    dialogues.CHAT,
    plain_table.TABLE,
    label_studio.LABEL_STUDIO,
    argilla.ARGILLA,
    arena_votes.ARENA_VOTES,
    arena_votes.MT_BENCH_VOTES,
    arena_votes.ARENA_PREFERENCES,
    label_table.TABLE,
    outcome_rows.OUTCOMES,
    label_table.WIDE,
)
"""All formats, those that are told by more before those that are told by less."""
CALLED = {Completion: "completions", Judgement: "judgements", HumanLabel: "labels"}
"""What the records of a kind are called."""
_NEAR = 0.75
"""Names are nearly the same from this ratio of `difflib` on."""
_SHOWN = 12
_FEW_WORDS, _SHORT = 6, 30
"""A person's labels are so few words, each of so few letters."""
_NAME_THEM = "name the columns, or the format"


def formats_for(kind: type) -> Sequence[Format]:
    """Return the formats of one kind of record."""
    return [one for one in FORMATS if one.gives is kind]


def format_of(found: Brought, kind: type, name: str = "") -> Format:
    """Return the format that something is of.

    Args:
        found: What was brought.
        kind: What records it should give.
        name: The format, where somebody says it.

    Raises:
        OptionError: There is no format of that name for such records.
        DataError: It is of no known format; the line lists those known and says what the nearest one is.
    """
    known = {one.name: one for one in formats_for(kind)}
    if name:
        return _named(name, known)
    for one in known.values():
        if one.matches(found):
            return one
    what, fix = _unknown(found, (kind,))
    raise DataError(what, file=found.name, fix=fix)


def format_of_any(found: Brought) -> Format:
    """Return the format that something is of, whatever it gives; answers before what was said of them.

    Raises:
        DataError: It is of no known format.
    """
    for one in sorted(FORMATS, key=lambda one: one.weak):
        if one.matches(found):
            return one
    what, fix = _unknown(found, tuple(CALLED))
    raise DataError(what, file=found.name, fix=fix)


def format_named(name: str) -> Format:
    """Return the format of a name, whatever it gives.

    Raises:
        OptionError: There is none.
    """
    return _named(name, {one.name: one for one in reversed(FORMATS)})


def _named(name: str, known: Mapping[str, Format]) -> Format:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise OptionError("format", repr(name), f"{hint}choose from {', '.join(known)}")
    return known[name]


def _unknown(found: Brought, kinds: Sequence[type]) -> tuple[str, str]:
    """Return why something is of no known format, with the nearest one and what is missing of it, and what to do."""
    what = " or ".join(CALLED.get(kind, "rows") for kind in kinds)
    known = [one for one in FORMATS if one.gives in kinds]
    columns = [] if found.container == "zip" or not found.head else [str(name) for name in found.head[0]]
    if not columns:
        has = "an archive" if found.container == "zip" else "no rows"
    else:
        has = f"{'keys' if found.document is not None else 'columns'} {_few(columns)}"
    others = [one for one in FORMATS if one.gives not in kinds and one.matches(found)] if columns else []
    if others:
        near = f"; it looks like {others[0].name}, {CALLED.get(others[0].gives, 'rows')}"
        fix = "name the columns, or the format"
        if kinds == (Judgement,):
            typed = columns_typed(["verdict"], columns)
            fix = f"if a judge said it, name its column, as in {typed}, or run `perl-eval import` with that first"
        if kinds == (Completion,):
            missing = [field for field in ("prompt", "text") if not set(FIELDS[field]) & set(columns)]
            fix = f"name the columns, as in {columns_typed(missing, columns)}, or the format" if missing else fix
        if kinds == (HumanLabel,):
            fix = _of_labels(found, columns)
    else:
        near, fix = _nearest(columns, known)
        if kinds == (HumanLabel,) and columns and fix == _NAME_THEM:
            fix = _of_labels(found, columns)
    names = ", ".join(dict.fromkeys(one.name for one in known))
    return f"is of no known format of {what} ({has}){near}; known are {names}", fix


def _of_labels(found: Brought, columns: Sequence[str]) -> str:
    """Return what to type to have a table read as labels."""
    if people := _people(found):
        return f"if each person has a column, type --format wide --column annotator={','.join(people)}"
    about = any(name in columns for field in ("unit", "a", "item", "prompt") for name in NAMES[field])
    fields = [*(() if about else ("prompt",)), *(() if set(NAMES["label"]) & set(columns) else ("label",))]
    if not fields:
        return _NAME_THEM
    return f"name the columns, as in {columns_typed(fields, columns)}, or the format"


def _people(found: Brought) -> Sequence[str]:
    """Return the columns that look like one person's labels each: they share a few short words; none if unlike."""
    known = {name for names in (*NAMES.values(), *FIELDS.values()) for name in names}
    said: dict[str, set[str]] = {}
    for name in found.head[0] if found.head else ():
        cells = [cells.get(name) for cells in found.head if cells.get(name) not in (None, "")]
        words = {" ".join(cell.lower().split()) for cell in cells if isinstance(cell, str) and not _is_number(cell)}
        if name not in known and cells and 0 < len(words) <= _FEW_WORDS and max(map(len, words)) <= _SHORT:
            said[str(name)] = words
    alike = [one for one, words in said.items() if any(words & other for name, other in said.items() if name != one)]
    return alike if len(set().union(*(said[one] for one in alike))) <= _FEW_WORDS else ()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _nearest(columns: Sequence[str], known: Sequence[Format]) -> tuple[str, str]:
    """Return which format columns are nearest to, with what is missing of it, and what to do; empty if to none."""
    scored = [(_nearness(columns, one), -place, one) for place, one in enumerate(known) if one.needs]
    nearness, _, best = max(scored, default=(0.0, 0, known[0]))
    if not nearness:
        return "", _NAME_THEM
    missing = [need.split("|") for need in best.needs.split() if not set(need.split("|")) & set(columns)]
    if not missing:
        return f"; nearest is {best.name}, whose columns it has in another form", "see what the format looks like"
    lacks = " and ".join(_called(names) for names in missing)
    near = f"; nearest is {best.name}, without {lacks}"
    pairs = ((name, column) for names in missing for name in names for column in columns)
    like = next((pair for pair in pairs if _alike(*pair) >= _NEAR), None)
    if best.weak:
        fields = [_field(names[0]) for names in missing]
        hold = "columns that hold them" if len(fields) > 1 else "column that holds it"
        return near, f"name the {hold}: {columns_typed(fields, columns)}"
    return near + (f", and has {like[1]!r}" if like else ""), _NAME_THEM


def _called(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (or {', '.join(names[1:4])})"


def _nearness(columns: Sequence[str], one: Format) -> float:
    """Return how much of what tells a format is there, names that are nearly right counted in part; in [0, 1)."""
    needs = [need.split("|") for need in one.needs.split()]
    best = [max((_alike(name, column) for name in names for column in columns), default=0.0) for names in needs]
    return sum(value for value in best if value >= _NEAR) / len(needs)


def _alike(name: str, column: str) -> float:
    return difflib.SequenceMatcher(None, name, column.lower()).ratio()


def _field(name: str) -> str:
    """Return what a table calls a column of some name."""
    return next((field for field, names in FIELDS.items() if name in names), name)


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
