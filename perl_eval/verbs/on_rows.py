"""A judge held against what people said of rows: from a data set's name to its agreement or its report card.

Rows are built or taken as they are, become recorded answers with labels beside (`perl_eval.sources.recorded`), are
judged, and the judgements are held against the labels. Each step has its folder in the output folder, and the same
command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from perl_eval.errors import UserError
from perl_eval.sources import rows
from perl_eval.sources.brought import rows_in
from perl_eval.sources.counting import counted
from perl_eval.sources.hub import hub_name
from perl_eval.sources.imported_rows import is_built
from perl_eval.sources.reading import HowRead
from perl_eval.storage import run_folder

if TYPE_CHECKING:
    from perl_eval.judges.protocol import Judge
    from perl_eval.judging.judge import JudgeOptions
    from perl_eval.scoring.agree import AgreeOptions
    from perl_eval.scoring.audit_options import AuditOptions

__all__ = ["JudgedRows", "Known", "agree_on", "asked_of", "audit_on", "judged_rows", "rows_of"]

BUILT, RECORDED, JUDGED, AGREE, AUDIT = "rows", "recorded", "judged", "agree", "audit"
"""The folders that the steps have in the output folder."""
_PROMPT = "preference"
"""The prompt where nobody names one, as of `perl_eval.judge`."""


@dataclass(frozen=True, slots=True)
class Known:
    """Rows that people have judged.

    Attributes:
        what: A data set's name, such as ``judgebench``; a folder of built rows: of one configuration, or of several; a
            file of rows; or a data set's id on the hub.
        config: Which configuration; the data set's main one, or the only one there, if empty.
        split: Which split; the only one there, or ``test``, if empty.
        data_dir: Folder of upstream files, for a data set's name; they are downloaded if None.
        seed: Which answer of a pair is contestant a, see `perl_eval.sources.recorded`.
        say: Told what was read of a file, what was derived, and what was left out.
        columns: The names that the rows of a file use, by `perl_eval.sources.training_rows.COLUMNS`.
        by: In Python, the judge, or what opens one.
        asking: In Python, how it judges: prompt, ledger, limit and the like.
    """

    what: str
    config: str = ""
    split: str = ""
    data_dir: Path | None = None
    seed: int = 0
    say: Callable[[str], None] = lambda _: None
    columns: Mapping[str, str] = field(default_factory=dict)
    by: str | Judge = ""
    asking: JudgeOptions | None = None


class JudgedRows(NamedTuple):
    """Where the judgements of some rows lie, and what people said of them."""

    judgements: Path
    labels: Path


def rows_of(known: Known, out: Path) -> tuple[Path, str]:
    """Return the folder of one configuration's rows, and the split to read.

    Args:
        known: What was named: a folder of built rows is taken as it is, a data set's name is built, a file or a data
            set on the hub is read.
        out: The output folder; a data set is built into its folder ``rows``, a file read into ``inputs``.

    Raises:
        UserError: It is neither, or there is no such configuration or split.
        DataError: An upstream file holds what it should not.
    """
    path = Path(known.what)
    if _is_name(known.what) and (known.data_dir is not None or not _configs_in(path)):
        folder = _built(known, out)
    elif known.data_dir is not None:
        raise UserError(f"{path} is not a data set that --data-dir is for", f"choose from {', '.join(_names())}")
    elif _configs_in(path) and is_built(next(iter(_configs_in(path).values()))):
        folder = _config_in(path, known.config)
    elif path.exists() or hub_name(known.what):
        folder = rows_in(path, out, how=HowRead(columns=known.columns), whole=known.split or "test", say=known.say)
    else:
        fix = f"give a folder, a file, a hub id, or one of {', '.join(_names())}"
        raise UserError(f"{path} is neither a file, a folder nor a data set", fix)
    if known.columns and not (folder.parent.name == run_folder.INPUTS and folder.is_relative_to(out)):
        raise UserError(f"--column is for rows of a file, and {known.what} is read as it is", "leave it out")
    return folder, _split_of(folder, known.split)


def _names() -> tuple[str, ...]:
    from datasets_builders import NAMES

    return NAMES


def _is_name(what: str) -> bool:
    return what.replace("-", "_") in _names()


def _configs_in(folder: Path) -> dict[str, Path]:
    """Return the folders of rows in a folder by configuration; the folder itself, under "", if it holds splits."""
    if not folder.is_dir():
        return {}
    if rows.splits(folder):
        return {"": folder}
    return {one.name: one for one in sorted(folder.iterdir()) if one.is_dir() and rows.splits(one)}


def _config_in(folder: Path, config: str) -> Path:
    """Return the folder of a configuration, given it, or the folder that holds it."""
    inside = _configs_in(folder)
    if config in inside:
        return inside[config]
    if not config and len(inside) == 1:
        return next(iter(inside.values()))
    what = f"no config {config!r}" if config else "several configs" if inside else "no rows"
    named = ", ".join(name for name in inside if name)
    fix = f"give --config with one of {named}" if named else "leave out --config" if inside else "build it first"
    raise UserError(f"{folder} has {what}", fix)


def _built(known: Known, out: Path) -> Path:
    from datasets_builders import builder_class
    from perl_eval import building

    config = known.config or str(builder_class(known.what).DEFAULT_CONFIG_NAME)
    return building.run(known.what, out / BUILT, config=config, data_dir=known.data_dir) / config


def _split_of(folder: Path, split: str) -> str:
    have = rows.splits(folder)
    if split or "test" in have or len(have) != 1:
        return split or "test"
    return have[0]


def judged_rows(known: Known, out: Path, *, judge: Judge, options: JudgeOptions) -> JudgedRows:
    """Let a judge judge rows that people have judged.

    Args:
        known: The rows.
        out: The output folder; gets ``recorded`` and ``judged``, and ``rows`` where they are built.
        judge: Whom to ask.
        options: How to judge.

    Raises:
        UserError: There are no such rows, the prompt asks for something else, or the judge will never answer.
        DataError: A row lacks what is needed.
    """
    from perl_eval.judges import prompting
    from perl_eval.judging import judge as judging
    from perl_eval.sources import recorded

    data, split = rows_of(known, out)
    _check_shape(known, data, split)
    try:
        answers = recorded.run(data, out / RECORDED, split=split, seed=known.seed)
    except UserError as error:
        raise _in_own_words(error, known, data, split) from None
    _say_dropped(known, answers)
    sides = [answers / side for side in recorded.SIDES]
    a, b = sides if all(side.is_dir() for side in sides) else (answers, None)
    if b is None and prompting.load(options.prompt, options.prompts).kind == "pairwise":
        raise UserError(
            f"prompt {options.prompt!r} compares two answers, and {known.what} has ratings of one",
            "give a --prompt that asks about one answer, such as harmful",
        )
    return JudgedRows(judging.run(a, b, out / JUDGED, judge=judge, options=options), answers)


def _check_shape(known: Known, data: Path, split: str) -> None:
    """Refuse rows without what people said of them, in the words of the file that was named."""
    have = rows.columns(data, split)
    if have and not any({*shape} <= have for shape in (("chosen", "rejected"), ("completion", "label"))):
        present = ", ".join(sorted(have - {"id", "group", "dataset"}))
        raise UserError(
            f"{known.what} does not say what people said about any answer: it has neither chosen and rejected, nor "
            f"completion and label; present are {present}",
            "give rows with two answers, or one and a label",
        )


def _in_own_words(error: UserError, known: Known, data: Path, split: str) -> UserError:
    """Return an error about rows that were read into the output folder as one about what was named."""
    if data == Path(known.what) or data.parent.name != run_folder.INPUTS:
        return error
    card = run_folder.read_card(data)
    # Where rows were left out or joined, those of the file have other numbers.
    same = Path(known.what).is_file() and card is not None and not card.notes["left_out"]
    named = known.what if same else f"{known.what} (as read)"
    what = error.what.replace(str(data / f"{split}.parquet"), named).replace(str(data), named)
    return UserError(what, error.fix)


def asked_of(known: Known) -> tuple[Judge, JudgeOptions]:
    """Return the judge that rows are for, opened, and how it judges.

    Raises:
        UserError: No judge is named, or there is none of the name.
    """
    from perl_eval.judges.registry import open_judge
    from perl_eval.judging.judge import JudgeOptions

    if not known.by:
        raise UserError(f"no judge is named for {known.what}", "give by='chat:MODEL', or another judge")
    return open_judge(known.by) if isinstance(known.by, str) else known.by, known.asking or JudgeOptions(_PROMPT)


def _say_dropped(known: Known, answers: Path) -> None:
    card = run_folder.read_card(answers)
    dropped = card.notes.get("dropped", {}) if card is not None else {}
    if dropped:
        known.say(
            f"{known.what}: left out: "
            + "; ".join(f"{counted(count, 'rows')} of which {why}" for why, count in dropped.items())
        )


def agree_on(known: Known, out: Path, *, judge: Judge, options: JudgeOptions, how: AgreeOptions | None = None) -> Path:
    """Estimate how far a judge agrees with what people said of rows.

    Args:
        known: The rows.
        out: The output folder; gets one folder a step.
        judge: Whom to ask.
        options: How to judge.
        how: How agreement is estimated.

    Returns:
        The folder with the figures, ``agree`` in the output folder.

    Raises:
        UserError: See `judged_rows`.
        DataError: See `judged_rows`.
    """
    from perl_eval.scoring.agree import run

    found = judged_rows(known, out, judge=judge, options=options)
    return run(found.judgements, found.labels, out / AGREE, options=how)


def audit_on(known: Known, out: Path, *, judge: Judge, options: JudgeOptions, how: AuditOptions | None = None) -> Path:
    """Write a judge's report card on rows that people have judged.

    Args:
        known: The rows.
        out: The output folder; gets one folder a step.
        judge: Whom to ask.
        options: How to judge.
        how: How the judge is audited.

    Returns:
        The folder with the figures and the page, ``audit`` in the output folder.

    Raises:
        UserError: See `judged_rows`.
        DataError: See `judged_rows`.
    """
    from perl_eval.scoring.audit import run

    found = judged_rows(known, out, judge=judge, options=options)
    return run(found.judgements, found.labels, out / AUDIT, options=how)
