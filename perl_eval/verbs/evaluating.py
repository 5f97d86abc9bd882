"""The verbs that judge, measure and report, as functions; see `perl_eval.verbs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perl_eval.errors import UserError
from perl_eval.records import Completion, HumanLabel, Judgement
from perl_eval.results import Decisions, Estimates, Judged, Result, TemporaryFolder, Written

if TYPE_CHECKING:
    from perl_eval.judges.protocol import Judge
    from perl_eval.judging.options import JudgeOptions
    from perl_eval.reporting.page import Format
    from perl_eval.reporting.rows_out import What
    from perl_eval.scoring.agree import AgreeOptions
    from perl_eval.scoring.audit_options import AuditOptions
    from perl_eval.scoring.decide_options import DecideOptions
    from perl_eval.scoring.dispatch import ScoreBeside, ScoringOptions
    from perl_eval.scoring.doctor import Diagnosis
    from perl_eval.scoring.power import Pilot, PowerOptions, Wanted
    from perl_eval.verbs.on_rows import Known

from perl_eval.verbs.given import Source, home_of, kept, needed, records_in

__all__ = ["agree", "audit", "decide", "doctor", "judge", "jury", "power", "report", "score"]

_JUDGEMENTS = "judgements: a result or run folder of `judge`, or a table of verdicts"
_LABELS = "human labels: a file, a run folder, HumanLabel records, or rows"


def judge(
    a: Source,
    b: Source = None,
    *,
    by: str | Judge,
    prompt: str = "preference",
    out: str | Path | None = None,
    options: JudgeOptions | None = None,
) -> Judged:
    """Judge answers a against answers b, in both orders; or answers a alone, yes or no.

    Args:
        a: Completions of one policy: a run folder, a file, or objects, see `perl_eval.completions`; ``{"NAME": rows}``
            names the policy.
        b: Those of another, or None.
        by: A judge, or what opens one, such as ``chat:MODEL``; see `perl_eval.open_judge`.
        prompt: Name of the prompt, such as ``helpful``; it wins over that of the options. The default compares two
            answers to any request.
        out: Folder to keep judgements and replies in. Without it replies are gone with the result: give it, or a ledger
            in the options, where they cost money.
        options: How to judge.

    Raises:
        UserError: Nothing matches, the prompt asks for something else, or the judge will never answer.
        DataError: A row lacks what is needed.

    Example:
        >>> import perl_eval as pe
        >>> ours = [{"prompt": f"Count to {n}.", "text": "one, two, three"} for n in range(8)]
        >>> theirs = [{"prompt": f"Count to {n}.", "text": "no"} for n in range(8)]
        >>> judged = pe.judge({"ours": ours}, {"theirs": theirs}, by="scripted:length", prompt="dialogue")
        >>> print(judged.win_rate)
        1.00 (0.68 to 1.00), n = 8
    """
    from perl_eval.judges.registry import open_judge
    from perl_eval.judging.judge import JudgeOptions, run
    from perl_eval.judging.options import template_of

    how = replace(options, prompt=prompt) if options else JudgeOptions(prompt=prompt)
    template_of(None if b is None else Path("b"), how)  # before weights are loaded
    who = open_judge(by) if isinstance(by, str) else _judge(by)
    needed(a, "a", "completions: a file, a run folder, a result of `sample`, or rows")
    with records_in(a, Completion, "a") as ours, records_in(b, Completion, "b") as theirs:
        assert ours is not None
        return kept(Judged, out, lambda home: run(ours, theirs, home, judge=who, options=how))


def _judge(by: Any) -> Judge:
    """Return a judge.

    Raises:
        UserError: It is none.
    """
    if not callable(getattr(by, "ask", None)):
        raise UserError(f"by={by!r} is not a judge", "give a judge's name, such as by='chat:MODEL', or an opened judge")
    opened: Judge = by
    return opened


def jury(members: Sequence[Source], *, labels: Source = None, out: str | Path | None = None) -> Estimates:
    """What several judges of the same pairs say together, and how alike they err.

    Args:
        members: Results or run folders of `judge`, one a judge.
        labels: Human labels of the same units, to know the judges' errors by.
        out: Folder to keep the figures in.

    Raises:
        UserError: There are fewer than two judges, or they judged different things.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> said = [pe.judge(ours, theirs, by=by, prompt="dialogue") for by in ("scripted:length", "scripted:constant")]
        >>> len(pe.jury(said)) > 0
        True
    """
    from perl_eval.judging.jury import run

    if isinstance(members, str | Path | Result):
        raise UserError("one judge is not a jury", "give a list of results of `judge`")
    homes = [home_of(one) for one in members]
    with records_in(labels, HumanLabel, out=out) as people:
        return kept(Estimates, out, lambda home: run(homes, home, labels=people))


def score(
    *sources: Source,
    out: str | Path | None = None,
    beside: ScoreBeside | None = None,
    options: ScoringOptions | None = None,
) -> Estimates:
    """Figures with intervals: of judgements, completions, scores of a reward model, or a table.

    Judgements give win rates, position bias, length control, paired comparisons and a ranking; completions how varied
    they are, or with rows whether they are right; scores how well they tell good answers from bad.

    Args:
        sources: Results or run folders of `judge`, several are compared item by item; one of `sample` or
            `train_reward`; or a file or table.
        out: Folder to keep the figures in.
        beside: Rows, labels and the like that stand beside it.
        options: How figures are estimated; what means nothing for the sources is refused.

    Raises:
        UserError: There is nothing to score, or an option means nothing for it.
        DataError: A judgement occurs twice, or a cell is not what it should be.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> print(pe.score(judged)["win rate"])
        0.47 (0.27 to 0.68), n = 19
    """
    from perl_eval.scoring.dispatch import run

    homes = [home_of(one) for one in sources]
    return kept(Estimates, out, lambda home: run(homes, home, beside=beside, options=options))


def agree(
    judgements: Source = None,
    labels: Source = None,
    *,
    out: str | Path | None = None,
    options: AgreeOptions | None = None,
    on: Known | None = None,
) -> Estimates:
    """How far people agree, a judge with them, and the judge's rates corrected by their labels.

    Args:
        judgements: A result or run folder of `judge`; or a table of verdicts, and what other tools' judges wrote.
        labels: Human labels of a part: a run folder, a file of any known format (a table, an export of Label Studio or
            Argilla, votes of MT-bench or Chatbot Arena), or HumanLabel records.
        out: Folder to keep the figures in.
        options: How figures are estimated.
        on: In place of both: rows that people have judged, and who judges them now, see
            `perl_eval.verbs.on_rows.Known`; rows, judgements and labels are kept in the folder beside the figures.

    Raises:
        UserError: Nobody labelled what was judged.
        DataError: A label means nothing here.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]
        >>> pe.agree(judged, people)["human-judge exact agreement"].value
        1.0
    """
    from perl_eval.scoring.agree import run

    if on is not None:
        from perl_eval.verbs.on_rows import agree_on, asked_of

        _alone(on, judgements, labels)
        judge, how = asked_of(on)
        return kept(Estimates, out, lambda home: agree_on(on, home, judge=judge, options=how, how=options))
    needed(judgements, "judgements", _JUDGEMENTS)
    needed(labels, "labels", _LABELS)
    with records_in(judgements, Judgement, out=out) as judged, records_in(labels, HumanLabel, out=out) as people:
        assert judged is not None
        assert people is not None
        return kept(Estimates, out, lambda home: run(judged, people, home, options=options))


def decide(
    *judgements: Source,
    labels: Source = None,
    proxies: Sequence[Source] = (),
    out: str | Path | None = None,
    options: DecideOptions | None = None,
) -> Decisions:
    """Which policy is better, as people would see it; or what would settle it.

    Args:
        judgements: Results or run folders of `judge`, by one judge: of two policies against each other, of several
            against a third, or of each one's answers alone.
        labels: Human labels of a random part; see `agree`. Without them nothing is decided, unless the options say to
            decide by the judge alone.
        proxies: Results of another judge on the same answers, all or a random part, or scores of a reward model: they
            need not be right, and make the intervals narrower.
        out: Folder to keep the figures in.
        options: Baseline, level, power.

    Raises:
        UserError: There are no two policies, or several judges.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * (n + 5)} for n in range(1, 60)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * n} for n in range(1, 60)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in list(judged)[:40]]
        >>> pe.decide(judged, labels=people).decided
        True
    """
    from perl_eval.scoring.decide import run

    homes, others = [home_of(one) for one in judgements], [home_of(one) for one in proxies]
    with records_in(labels, HumanLabel) as people:
        return kept(Decisions, out, lambda home: run(homes, home, labels=people, proxies=others, options=options)[0])


def doctor(
    *sources: Source,
    columns: Mapping[str, str] | None = None,
    format: str = "",
    means: Mapping[str, str] | None = None,
) -> Diagnosis:
    """What can be computed from some files, what stands in the way, and how many labels would unblock what.

    Args:
        sources: Files and folders: answers, judgements, labels, rows or scores; and results of verbs.
        columns: Where files keep what, such as ``{"label": "preferred"}``; each file takes the columns that it has.
        format: The format of files whose content does not tell it.
        means: What words of labels and verdicts mean, such as ``{"the blue one": "a"}``.

    Raises:
        UserError: Nothing is given, there is nothing at a path, or no such format or word.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> found = pe.doctor(pe.judge(ours, theirs, by="scripted:length", prompt="dialogue"))
        >>> found.clear, found.wrong[0][:18]
        (False, 'no labels show whe')
    """
    from perl_eval.scoring.doctor import run
    from perl_eval.sources.reading import HowRead

    return run([home_of(one) for one in sources], how=HowRead(format, columns or {}, means=means or {}))


def audit(  # noqa: PLR0913 (the seventh stands in place of the first two)
    judgements: Source = None,
    labels: Source = None,
    *,
    out: str | Path | None = None,
    again: Source = None,
    attack: Source = None,
    options: AuditOptions | None = None,
    on: Known | None = None,
) -> Estimates:
    """What a judge is worth: agreement with people, repeatability, position, length, attacks, cost.

    Args:
        judgements: A result or run folder of `judge`; or a table of verdicts, and what other tools' judges wrote.
        labels: Human labels of the same units; see `agree`.
        out: Folder to keep the figures and the page in.
        again: The same judged once more, with a ledger of its own.
        attack: A run folder of ``perl-eval judge --attack``.
        options: How the judge is audited.
        on: In place of judgements and labels; see `agree`.

    Raises:
        UserError: Nobody labelled what was judged.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in judged]
        >>> pe.audit(judged, people)["human-judge exact agreement"].value
        1.0
    """
    from perl_eval.scoring.audit import run
    from perl_eval.scoring.audit_options import Sources

    if on is not None:
        from perl_eval.verbs.on_rows import asked_of, audit_on

        _alone(on, judgements, labels, again, attack)
        judge, how = asked_of(on)
        return kept(Estimates, out, lambda home: audit_on(on, home, judge=judge, options=how, how=options))
    needed(judgements, "judgements", _JUDGEMENTS)
    needed(labels, "labels", _LABELS)
    sources = Sources(None if again is None else home_of(again), None if attack is None else home_of(attack))
    with records_in(judgements, Judgement, out=out) as given, records_in(labels, HumanLabel, out=out) as people:
        assert given is not None
        assert people is not None
        return kept(Estimates, out, lambda home: run(given, people, home, sources=sources, options=options))


def _alone(on: Known, *others: Source) -> None:
    """Refuse what is given beside rows that are to be judged."""
    if any(other is not None for other in others):
        raise UserError(f"on={on.what!r} stands beside judgements or labels", "give one or the other")


def power(
    wanted: Wanted,
    *,
    pilot: Pilot | None = None,
    out: str | Path | None = None,
    options: PowerOptions | None = None,
) -> Estimates:
    """How many pairs, labels and how much money a wanted certainty takes.

    Args:
        wanted: What is wanted.
        pilot: Where the assumptions come from.
        out: Folder to keep the figures in.
        options: How to plan.

    Raises:
        UserError: Nothing is wanted, or it cannot be had.

    Example:
        >>> import perl_eval as pe
        >>> from perl_eval.scoring.power import Wanted
        >>> pe.power(Wanted(half_width=0.05))["pairs"].value > 100
        True
    """
    from perl_eval.scoring.power import run

    return kept(Estimates, out, lambda home: run(wanted, home, pilot=pilot, options=options))


def report(
    *sources: Source,
    out: str | Path | None = None,
    title: str = "perl-eval report",
    format: Format = "html",
    what: What = "estimates",
) -> Written:
    """One self-contained page of everything that some results hold.

    Args:
        sources: Results, or folders that hold run folders.
        out: The file to write.
        title: The page's heading.
        format: ``html`` for the page, ``md``, ``json``, ``csv`` or ``tex`` for the figures alone.
        what: ``estimates``; or ``judgements``, ``labels`` or ``completions`` as ``csv``, ``json`` or ``md``.

    Raises:
        UserError: No run folder is there.

    Example:
        >>> import perl_eval as pe
        >>> ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * n} for n in range(1, 20)]}
        >>> theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * (20 - n)} for n in range(1, 20)]}
        >>> judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
        >>> page = pe.report(judged, pe.score(judged))
        >>> "win rate" in page.file.read_text("utf-8")
        True
    """
    from perl_eval.reporting import run, write_rows_out

    homes, keeper = [home_of(one) for one in sources], None
    if out is None:
        keeper = TemporaryFolder()
        out = keeper.path / f"report.{format}"
    if what == "estimates":
        return Written(run(homes, Path(out), title=title, format=format), keeper)
    if format == "html" or format == "tex":  # noqa: PLR1714  # mypy narrows this form only
        raise UserError(f"{what} are no page", "give format csv, json or md")
    return Written(write_rows_out(homes, Path(out), what=what, format=format), keeper)
