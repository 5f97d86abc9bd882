"""Every name that a figure can have is explained, and nothing else is."""

from __future__ import annotations

from perl_eval.audit import AuditOptions, _flips, _length, _position, _price, _repeatability, _self_preference
from perl_eval.records import Ballot, Completion, Estimate, HumanLabel, Judgement, Score, unit_of
from perl_eval.score import ScoreOptions, _labelled_answers, _labelled_pairs, estimate_judgements
from perl_eval.stats.actions import Match, action_accuracies
from perl_eval.stats.concord import estimate_agreement
from perl_eval.stats.diversity import diversity
from perl_eval.stats.glossary import MEANINGS
from perl_eval.stats.vqa import vqa_accuracies


def judgement(place: int, a: str, b: str, kind: str = "pairwise") -> Judgement:
    outcome = ("win" if place % 3 else "loss") if kind == "pairwise" else "yes" if place % 3 else "no"
    return Judgement(
        id=f"{a}{b}{place}",
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
        outcome=outcome,
        ballots=(Ballot("ab", "first"), Ballot("ba", "second")),
        judge="j",
        prompt_sha256="",
        simulated=False,
        p_a=0.5 + place / 100,
    )


def test_every_name_is_explained_and_every_explanation_used() -> None:
    pairs = [judgement(place, a, "base") for place in range(12) for a in ("rl", "sft")]
    answers = [judgement(place, "rl", "", "yes_no") for place in range(12)]
    labels = [HumanLabel(record.unit, record.item, record.group, "ann", "win") for record in pairs[:9]]
    labels += [HumanLabel(record.unit, record.item, record.group, "ann", "yes") for record in answers[:9]]
    rewards = [Score(f"c{place}", "i", "g", "rl", "reward", place - 2.0) for place in range(5)]
    given = [HumanLabel(unit_of("c0"), "i", "g", "ann", "no"), HumanLabel(unit_of("c0", "c1"), "i", "g", "ann", "loss")]
    drawn = [Completion(str(p), "i", "g", "d", "rl", (), "a b c d e", "stop", p) for p in range(2)]
    quick, how = ScoreOptions(draws=20, length_control="alpaca"), AuditOptions(draws=20)
    found: list[Estimate] = [
        *estimate_judgements([*pairs, *answers], quick),
        *estimate_agreement([*pairs, *answers], labels, resampling=how.resampling),
        *_labelled_answers(rewards, given, quick),
        *_labelled_pairs(rewards, given, quick),
        *diversity([completion.text for completion in drawn], [completion.item for completion in drawn]),
        *vqa_accuracies([1.0], ["what"], ["other"]),
        *action_accuracies([Match(True, True)], "any_box"),
        *_position(pairs, how),
        _repeatability(pairs, pairs, how),
        *_length(pairs, [1.0] * len(pairs), how),
        *_self_preference(pairs, [1.0] * len(pairs), how),
        *_price(pairs, how),
        *_flips([True, False], 0, 0.05, how),
    ]
    assert {estimate.name for estimate in found} == set(MEANINGS)
