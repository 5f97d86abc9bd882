from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from report_story import JUDGE, OUTCOMES, judgement, write

from perl_eval.errors import DataError
from perl_eval.records import Ballot, HumanLabel, Judgement, Message, Score
from perl_eval.reporting import browse
from perl_eval.reporting.counts import missing_scores, survey
from perl_eval.reporting.inputs import folders


def test_counts_are_those_of_the_records(story: Path) -> None:
    tallies, chosen = survey(folders([story]), seed=0, limit=10_000)
    assert len(tallies) == 1
    assert (tallies[0].judge, tallies[0].a, tallies[0].b, tallies[0].dataset) == (JUDGE, "rl", "sft", "coffee")
    assert tallies[0].outcomes == Counter(OUTCOMES)
    assert (tallies[0].n, tallies[0].undecided) == (250, 45)
    # Only splits name one position twice, and theirs is the first; unjudged pairs lack the verdict of one order.
    assert (tallies[0].ordered, tallies[0].both_first, tallies[0].both_second) == (225, 30, 0)
    assert tallies[0].reasons == {"no verdict in the reply": 25}
    assert tallies[0].simulated == 250
    assert {drawn.judgement.id for drawn in chosen} == {f"judgement-{place}" for place in range(250)}


def test_nothing_is_pooled(tmp_path: Path) -> None:
    second = (Ballot("ab", "second"), Ballot("ba", "second"))
    judged = [
        judgement(1, "win"),
        judgement(2, "win", judge="other"),
        judgement(3, "win", policy_b="base"),
        judgement(4, "win", dataset="tickets"),
        judgement(5, "win", prompt_sha256="1" * 64),
        judgement(6, "split", ballots=second),
        judgement(7, "yes", kind="yes_no", b="", policy_b="", text_b="", ballots=(Ballot("none", "yes"),), dataset="x"),
    ]
    write(tmp_path / "one", "judge", [(Judgement, judged)])
    write(tmp_path / "two", "judge", [(Judgement, judged[:1])])
    tallies, _ = survey(folders([tmp_path]), seed=0, limit=0)
    assert sorted(tally.n for tally in tallies) == [1, 1, 1, 1, 1, 1, 2]
    assert sum(tally.both_second for tally in tallies) == 1
    assert [tally.ordered for tally in tallies if tally.kind == "yes_no"] == [0]


def test_the_sample_is_uniform_seeded_and_stable(tmp_path: Path) -> None:
    judged = [judgement(place, "win") for place in range(400)]
    write(tmp_path / "all", "judge", [(Judgement, judged)])
    write(tmp_path / "half", "judge", [(Judgement, judged[:200])])
    found = folders([tmp_path / "all"])
    drawn = [each.judgement.id for each in survey(found, seed=3, limit=50)[1]]
    assert drawn == [each.judgement.id for each in survey(found, seed=3, limit=50)[1]]
    assert drawn != [each.judgement.id for each in survey(found, seed=4, limit=50)[1]]
    assert len(set(drawn)) == 50
    # A prefix of a larger sample, and what is drawn from a part keeps its order in the whole.
    assert drawn == [each.judgement.id for each in survey(found, seed=3, limit=200)[1]][:50]
    part = [each.judgement.id for each in survey(folders([tmp_path / "half"]), seed=3, limit=200)[1]]
    assert [each for each in drawn if each in part] == [each for each in part if each in drawn]
    # Mean rank of 50 out of 0..399 is 199.5, standard deviation 115.5 / sqrt(50) * sqrt(350/399) = 15.3; five of them.
    ranks = [int(each.removeprefix("judgement-")) for each in drawn]
    assert abs(sum(ranks) / 50 - 199.5) < 77


def test_content_keeps_within_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(1)
    judged = [judgement(place, "win", text_a=drawn.randbytes(1000).hex()) for place in range(60)]
    write(tmp_path / "run", "judge", [(Judgement, judged)])
    found = folders([tmp_path])
    monkeypatch.setattr(browse, "CONTENT_LIMIT_BYTES", 50_000)
    shown = browse.browsable(found, survey(found, seed=0, limit=60)[1], 60)
    assert 25 < shown.shown < 40  # 1,000 random bytes a text, in base64, and what stands around them
    assert len(shown.packed) < 52_000
    rows = json.loads(shown.json)["rows"]
    assert len(rows) == shown.shown
    places = [int(row["item"].removeprefix("item-")) for row in rows]
    assert places == sorted(places)


def test_long_texts_are_clipped_and_long_talks_keep_their_end(tmp_path: Path) -> None:
    talk = tuple(Message("user", f"{turn} " * 3000) for turn in range(1000))
    made = judgement(1, "win", prompt=talk, text_a="a" * 1_000_000)
    write(tmp_path / "run", "judge", [(Judgement, [made])])
    found = folders([tmp_path])
    content = json.loads(browse.browsable(found, survey(found, seed=0, limit=1)[1], 1).json)
    turns, answer = content["prompts"][0], content["rows"][0]["answers"][0][1]
    assert answer.startswith("a" * 20_000 + " …")
    assert "980,000 more characters" in answer
    assert turns[-1][1].startswith("999 999")
    assert turns[0] == ["", f"[{1000 - (len(turns) - 1):,} earlier turns are in the records]"]
    assert len(json.dumps(turns)) < 60_000


def test_labels_stand_beside_the_unit_they_are_of(tmp_path: Path) -> None:
    judged = [judgement(place, outcome) for place, outcome in enumerate(["win", "split", "loss", "unjudged", "win"])]
    given = [(0, "win win loss"), (1, "tie"), (2, "win win"), (3, "win"), (4, "win loss")]
    labels = [
        HumanLabel(judged[place].unit, "item", "group", f"p{who}", label)
        for place, line in given
        for who, label in enumerate(line.split())
    ]
    write(tmp_path / "judged", "judge", [(Judgement, judged)])
    write(tmp_path / "labels", "label", [(HumanLabel, [*labels, HumanLabel("stranger", "i", "g", "p", "win")])])
    found = folders([tmp_path])
    rows = json.loads(browse.browsable(found, survey(found, seed=0, limit=5)[1], 5).json)["rows"]
    assert [(row["label"], row["differs"], len(row["people"])) for row in rows] == [
        ("win", False, 3),
        ("tie", False, 1),
        ("win", True, 2),
        ("win", False, 1),
        ("divided", False, 2),
    ]


def test_a_probability_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "run", "judge", [(Judgement, [judgement(1, "win", p_a=float("nan"))])])
    found = folders([tmp_path])
    with pytest.raises(DataError, match="has probability nan"):
        browse.browsable(found, survey(found, seed=0, limit=1)[1], 1)


def test_missing_scores_are_counted_with_reasons(tmp_path: Path) -> None:
    values = [(1.0, None), (None, "no box"), (None, "no box"), (None, None), (0.0, None)]
    scores = [Score(f"c{place}", "i", "g", "rl", "ui", *value) for place, value in enumerate(values)]
    write(tmp_path / "run", "score", [(Score, [*scores, Score("d", "i", "g", "sft", "ui", 1.0)])])
    (missing,) = missing_scores(folders([tmp_path]))
    assert (missing.metric, missing.policy, missing.n) == ("ui", "rl", 5)
    assert missing.reasons == {"no box": 2, "no reason given": 1}
