"""Every name that a figure can have is explained, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perl_eval.metrics.glossary import MEANINGS
from perl_eval.records import About, Ballot, Completion, Estimate, HumanLabel, Judgement, Score, unit_of
from perl_eval.scoring import agree, audit, decide, power, rewards, score, tasks
from perl_eval.scoring.audit_drift import drift
from perl_eval.scoring.audit_options import AuditOptions, Sources
from perl_eval.scoring.diversity import run_diversity
from perl_eval.stats.bootstrap import Resampling
from perl_eval.stats.classification import within_context_accuracy
from perl_eval.storage import parquet, run_folder

QUICK = Resampling(draws=20)


def judgement(place: int, a: str, b: str, kind: str = "pairwise") -> Judgement:
    outcomes = {"pairwise": "win" if place % 3 else "loss", "yes_no": "yes" if place % 3 else "no", "score": "scored"}
    return Judgement(
        id=f"{a}{b}{place}{kind}",
        kind=kind,
        item=f"i{place}",
        group=f"g{place}",
        dataset="d",
        a=f"{a}{place}",
        b=f"{b}{place}" if b else "",
        policy_a=a,
        policy_b=b,
        prompt=(),
        text_a="x" * (place + 1),
        text_b="y" * 5,
        outcome=outcomes[kind],
        ballots=(Ballot("ab", "first"), Ballot("ba", "second")),
        judge="j",
        prompt_sha256="",
        simulated=False,
        p_a=0.5 + place / 100,
        score=float(place % 5) if kind == "score" else None,
    )


def judged(folder: Path) -> Iterator[Path]:
    """Yield the estimates of the verbs that read judgements and labels."""
    pairs = [judgement(place, a, "base") for place in range(12) for a in ("rl", "sft")]
    answers = [judgement(place, "rl", "", "yes_no") for place in range(40)]
    graded = [judgement(place, policy, "", "score") for place in range(8) for policy in ("rl", "sft")]
    labels = [HumanLabel(record.unit, record.item, record.group, "ann", "win") for record in pairs[:9]]
    labels += [
        HumanLabel(record.unit, record.item, record.group, person, "yes" if place % 4 else "no")
        for person in ("ann", "bob")
        for place, record in enumerate(answers[:36])
    ]
    drawn = [replace(label, weight=1.0 + place % 2) for place, label in enumerate(labels[9:45])]
    put(folder, "pairs", pairs)
    put(folder, "all", [*pairs, *answers, *graded])
    put(folder, "strong", [replace(record, judge="strong") for record in answers[:9]])
    put(folder, "answers", answers)
    put(folder, "people", labels)
    put(folder, "drawn", drawn)
    how = score.ScoreOptions(Resampling(20), length_control="alpaca", style=True)
    asked = agree.AgreeOptions(Resampling(20))
    with run_folder.start(folder / "stopped", verb="judge", arguments={}) as run:
        run.write(pairs[:4], Judgement)
        named = ("win rate, undecided half, anytime", "yes rate, anytime")
        run.write([Estimate(name, 0.5, 0.4, 0.6, 4, 0, "anytime") for name in named], Estimate)
        run.notes["decided after"] = 4
    yield score.run(folder / "stopped", folder / "scored early", options=how)
    yield score.run(folder / "all.parquet", folder / "scored", options=how)
    put(folder, "later", [replace(record, outcome="loss") for record in pairs])
    yield score.run([folder / "pairs.parquet", folder / "later.parquet"], folder / "two runs", options=how)
    yield agree.run(folder / "all.parquet", folder / "people.parquet", folder / "agreed", options=asked)
    yield agree.run(folder / "answers.parquet", folder / "drawn.parquet", folder / "weighted", options=asked)
    sets = [replace(record, dataset="de"[place % 2]) for place, record in enumerate(answers)]
    put(folder, "sets", sets)
    people, others = folder / "people.parquet", folder / "drawn.parquet"
    yield agree.run(folder / "sets.parquet", people, folder / "by set", others=others, options=asked)
    yield agree.run_cascade(folder / "answers.parquet", folder / "strong.parquet", folder / "cascade", options=asked)
    with run_folder.start(folder / "attack", verb="attack", arguments={}) as run:
        run.write(pairs, Judgement)
        run.write(
            [Estimate("attack success rate", 0.1, 0.0, 0.2, 9, 0, "Wilson", about=About(slice="template"))], Estimate
        )
    paper = audit.run(
        folder / "pairs.parquet",
        folder / "people.parquet",
        folder / "card",
        sources=Sources(folder / "pairs.parquet", folder / "attack"),
        options=AuditOptions(Resampling(20), family=("rl",)),
    )
    yield paper
    yield drift(paper, folder / "pairs.parquet", folder / "drift")
    pilot = power.Pilot(correlation=0.5, price_usd=0.01)
    wanted = power.Wanted(half_width=0.05, detect=0.1, pairs=100, rate=0.7, items=50)
    yield power.run(wanted, folder / "power", pilot=pilot)


def compared(folder: Path) -> Iterator[Path]:
    """Yield the estimates of `decide`: three policies, two of them about alike, judged alone, a part labelled."""
    both = [
        replace(judgement(place, policy, "", "yes_no"), outcome="yes" if (place * step) % 7 < 4 else "no")
        for policy, step in (("rl", 3), ("sft", 5), ("base", 2))
        for place in range(240)
    ]
    put(folder, "both", both)
    good = {"rl": 6, "sft": 5, "base": 3}
    given: Any = [
        HumanLabel(one.unit, one.item, one.group, "ann", "yes" if place % good[one.policy_a] else "no")
        for place, one in enumerate(both)
        if place % 240 < 60
    ]
    put(folder, "said of both", given)
    yield decide.run(folder / "both.parquet", folder / "decided", labels=folder / "said of both.parquet")[0]


def scored(folder: Path) -> Iterator[Path]:
    """Yield the estimates of the verbs that read completions, scores and tables."""
    drawn = [Completion(str(p), "i", "g", "d", "rl", (), "a b c d e", "stop", p) for p in range(2)]
    put(folder, "drawn completions", drawn)
    yield run_diversity(folder / "drawn completions.parquet", folder / "diversity")
    given = [HumanLabel(unit_of("c0"), "i", "g", "ann", "no"), HumanLabel(unit_of("c0", "c1"), "i", "g", "ann", "loss")]
    put(folder, "rewards", [Score(f"c{place}", "i", "g", "rl", "reward", place - 2.0) for place in range(5)])
    put(folder, "given", given)
    how = rewards.QualityOptions(resampling=QUICK)
    yield rewards.run(folder / "rewards.parquet", folder / "quality", labels=folder / "given.parquet", options=how)
    pd.DataFrame({"score": range(6), "label": [1, 2, 3, 3, 2, 5]}).to_csv(folder / "grades.csv")
    yield rewards.run_table(folder / "grades.csv", folder / "graded")
    ratings = [{"unit": u, "annotator": r, "label": (u + r) % 3} for u in range(6) for r in range(2)]
    pd.DataFrame(ratings).to_csv(folder / "ratings.csv")
    asked: Any = agree.AgreeOptions(Resampling(20))
    for scale in ("ordinal", "interval"):
        chosen: Any = scale
        yield agree.run_table(folder / "ratings.csv", folder / scale, scale=chosen, options=asked)
    people = [{"answer": "x"}] * 10
    question = {"id": "i", "answers": people, "question_type": "what", "answer_type": "other"}
    step = {"id": "i", "action": {"action_type": "wait"}, "candidate_boxes": [[0, 0, 1, 1]]}
    one = [replace(drawn[0], text=json.dumps({"action_type": "wait"}))]
    put(folder, "one", one)
    put(folder, "verdict", [replace(judgement(0, "rl", "", "yes_no"), a=one[0].id)])
    beside = tasks.Beside(folder / "one.parquet", folder / "verdict.parquet")
    for name, row in (("questions", question), ("steps", step)):
        (folder / name).mkdir()
        pq.write_table(pa.Table.from_pylist([row]), folder / name / "test.parquet")
        yield tasks.run(folder / "one.parquet", folder / name, folder / f"task {name}", beside=beside)


def put(folder: Path, name: str, records: Sequence[Any]) -> None:
    parquet.write(folder / f"{name}.parquet", records, type(records[0]))


def test_every_name_is_explained_and_every_explanation_used(tmp_path: Path) -> None:
    outs = [*judged(tmp_path), *compared(tmp_path), *scored(tmp_path)]
    found = {estimate.name for out in outs for estimate in run_folder.read(out, Estimate)}
    found.add(within_context_accuracy([1.0, 0.0], [True, False], ["c", "c"]).name)  # of `train reward --folds` only
    found.add("balanced accuracy at the base rate")  # likewise
    assert found == set(MEANINGS)
