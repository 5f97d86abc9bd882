"""The verb `audit`: a judge's report card from a labelled sample, and the alarm when it drifts from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.metrics.agreement import any_simulated, estimate_agreement, labels_of, ratings_by_unit
from perl_eval.metrics.judge_standing import blind_judges
from perl_eval.metrics.label_join import with_units
from perl_eval.metrics.soft_agreement import soft_agreement
from perl_eval.records import About, Estimate, HumanLabel, Judgement
from perl_eval.scoring import audit_judge_card
from perl_eval.scoring.audit_drift import AGAIN, ANCHORS
from perl_eval.scoring.audit_figures import (
    again_of,
    attack_figures,
    beyond_own_changes,
    figures_of_pairs,
    label_shares,
    price,
    repeatability,
)
from perl_eval.scoring.audit_options import AuditOptions, Sources
from perl_eval.stats.intervals import about
from perl_eval.storage import parquet, run_folder

__all__ = ["EARLIER_PAGE", "PAGE", "run"]

PAGE = "report-card.md"
EARLIER_PAGE = "passport.md"
"""The name of the page in folders of 0.1."""


def run(
    judgements: Path,
    labels: Path,
    out: Path,
    *,
    sources: Sources | None = None,
    options: AuditOptions | None = None,
) -> Path:
    """Audit judges on what people labelled too: pairs, or single answers that the judge gave a yes, a no or a score.

    Estimates agreement with people (see `agree`), repeatability, success of attacks, failures, tokens and cost; of
    judges of pairs position bias, preference for length beside people's and preference for the own family too. The
    labelled judgements are frozen as anchors for `drift`.

    Args:
        judgements: A file or run folder of judgements of one kind; 50 to 200 labelled ones are a good size.
        labels: A file or run folder of human labels of the same pairs or answers.
        out: Output folder.
        sources: What else was tried on the judges.
        options: How to audit.

    Returns:
        The output folder, with ``estimates.parquet``, the page ``report-card.md``, ``anchors.parquet`` and, of anchors
        that were asked twice, ``again.parquet``.

    Raises:
        UserError: Judgements are of several kinds, or none is labelled, or the attack was on other judges.
    """
    how, beside = options or AuditOptions(), sources or Sources()
    judged = run_folder.read(judgements, Judgement)
    given = with_units(run_folder.read(labels, HumanLabel), judged)
    repeated = run_folder.read(beside.again, Judgement) if beside.again is not None else []
    tried = {name: path for name, path in (("again", beside.again), ("attack", beside.attack)) if path is not None}
    inputs = {"judgements": judgements, "labels": labels, **tried}
    cards = [run_folder.read_card(path if path.is_dir() else path.parent) for path in inputs.values()]
    simulated_input = any(card is not None and card.simulated for card in cards)
    started = run_folder.start(
        out,
        verb="audit",
        arguments={**run_folder.flat(how), "family": list(how.family)},
        seed=how.resampling.seed,
        inputs=inputs,
        simulated=simulated_input or any_simulated(judged, given),
    )
    with started as progress:
        if progress.done:
            return progress.folder
        _refuse_mixed(judged, judgements)
        found = estimate_agreement(judged, given, resampling=how.bootstrap, epsilon=how.epsilon)
        found += [*blind_judges(judged, given), *soft_agreement(judged, given, resampling=how.bootstrap)]
        by_unit, _ = ratings_by_unit(given)
        anchors = [record for record in judged if labels_of(record, by_unit)]
        attacks = attack_figures(beside.attack)
        judges = sorted({record.judge for record in judged})
        if attacks and not set(attacks) & set(judges):
            raise UserError(
                f"{beside.attack} attacks {', '.join(sorted(attacks))}, not {', '.join(judges)}",
                "give an attack on the judge that is audited",
            )
        for judge in judges:
            own = [record for record in judged if record.judge == judge]
            figures = [
                *(figures_of_pairs(own, by_unit, how) if own[0].kind == "pairwise" else []),
                repeatability(own, again_of(repeated, judge), how),
                *beyond_own_changes(attacks.get(judge, []), own, again_of(repeated, judge), how),
                *label_shares(own, by_unit, how),
                *price(own, how),
            ]
            found += about(figures, About(judge=judge), simulated=any(record.simulated for record in own))
        found = about(found, simulated=simulated_input)
        parquet.write(progress.folder / ANCHORS, anchors, Judgement)
        if repeated:
            units = {(record.judge, record.unit) for record in anchors}
            kept = [record for record in repeated if (record.judge, record.unit) in units]
            parquet.write(progress.folder / AGAIN, kept, Judgement)
        page = audit_judge_card.page(found, judges, anchors=len(anchors))
        parquet.replace_file(progress.folder / PAGE, lambda partial: partial.write_text(page, "utf-8"))
        progress.write(found, Estimate)
    return progress.folder


def _refuse_mixed(judged: Sequence[Judgement], file: Path) -> None:
    kinds = sorted({record.kind for record in judged})
    if len(kinds) != 1:
        what = f"judgements of several kinds ({', '.join(kinds)})" if kinds else "no judgements"
        raise UserError(f"{file} holds {what}", "audit judgements of one kind at a time")
