"""No figure of one policy stands under another, whatever the two are called."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_story import estimate, judgement, write

from perl_eval import figure_names as named
from perl_eval.records import About, Estimate, Judgement
from perl_eval.reporting.counts import survey
from perl_eval.reporting.inputs import Figure, figures, folders
from perl_eval.reporting.markdown import by_subject
from perl_eval.reporting.page import run
from perl_eval.reporting.related import agreements, position_figures, rates, truths
from perl_eval.reporting.svg_charts import charts
from perl_eval.reporting.tables import boards, matrices
from perl_eval.scoring import score
from perl_eval.storage import parquet

JUDGE = "j"
NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12) | st.lists(
    st.sampled_from(
        ["rl", "sft", "without KL", "against", "minus", "both", ", judge", JUDGE, ", data", "target at beta", "person"]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)


def of(policy: str, value: float) -> list[Estimate]:
    """Return figures about one policy alone and against ``base``, all of one value."""
    judged = About(policy=policy, against="base", judge=JUDGE)
    own = (named.TRUE_REWARD, "learned reward", named.KL_TO_PRIOR)
    return [
        *(
            estimate(name, value, about=judged)
            for name in (named.WIN_RATE, named.CONSISTENCY, f"true {named.WIN_RATE}")
        ),
        estimate(f"{named.WIN_RATE}, corrected by PPI++", value, about=judged),
        *(estimate(name, value, about=About(policy=policy)) for name in own),
        estimate("human-human Cohen kappa", value, about=About(judge=policy)),
        estimate("human-judge Cohen kappa", value, about=About(judge=policy)),
        estimate("human-judge exact agreement, one person", value, about=About(judge=policy, person="p")),
    ]


@settings(max_examples=60, deadline=None)
@given(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] != pair[1] and "base" not in pair))
@example(("rl", "rl without KL"))
@example(("rl, judge j", "rl"))
@example(("rl", "rl against base, judge j"))
@example(("a minus b", "a"))
def test_a_figure_stands_under_its_own_policy_only(pair: tuple[str, str]) -> None:
    values = dict(zip(pair, (0.25, 0.75), strict=True))
    judged = [judgement(place, "win", policy_a=name, policy_b="base", judge=JUDGE) for place, name in enumerate(pair)]
    with tempfile.TemporaryDirectory() as folder:
        judging = write(Path(folder) / "judged", "judge", [(Judgement, judged)])
        made = [figure for name, value in values.items() for figure in of(name, value)]
        write(Path(folder) / "scores", "score", [(Estimate, made)], judgements=judging)
        found = folders([Path(folder)])
        shown = figures(found)
        for tally in survey(found, seed=0, limit=0)[0]:
            assert [one.estimate.name for one in rates(shown, tally, found)] == [named.WIN_RATE]
            own = [*rates(shown, tally, found), *position_figures(shown, tally, found)]
            assert {one.estimate.value for one in own} == {values[tally.a]}
        drawn = charts(shown, found)
    for truth in truths(shown):
        assert truth.judged is not None
        assert truth.difference in (0.0, None)
        assert truth.judged.estimate.value == truth.truth.estimate.value
    for row in agreements(shown):
        assert row.people is not None
        assert row.judge is not None
        assert row.people.estimate.value == row.judge.estimate.value
    lines: list[list[Figure | None]] = [list(row.figures) for board in boards(shown) for row in board.rows]
    lines += [[*row.figures, *matrix.ceiling] for matrix in matrices(shown) for row in matrix.rows]
    lines += [list(rows) for rows in by_subject(shown).values()]
    for line in lines:
        assert len({one.estimate.value for one in line if one is not None}) == 1
    assert {board.id for board in boards(shown)} >= {"leaderboard", "corrected"}
    for chart in drawn:
        for series in chart.series:
            assert len({(point.x[0], point.y[0]) for point in series.points}) == 1


def test_a_policy_whose_name_begins_another_keeps_its_own_rate(tmp_path: Path) -> None:
    for name, outcome in (("rl", "loss"), ("rl without KL", "win")):
        judged = [
            judgement(place, outcome, policy_a=name, id=f"{name}{place}", a=f"{name}{place}") for place in range(20)
        ]
        write(tmp_path / name.replace(" ", "-"), "judge", [(Judgement, judged)])
    score.run([tmp_path / "rl", tmp_path / "rl-without-KL"], tmp_path / "scored")
    page = run([tmp_path], tmp_path / "page.html").read_text("utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    start = text.index("rl against sft", text.index("Click a count to read its judgements"))
    part = text[start : text.index("rl without KL against sft", start)]
    assert re.findall(r"win rate (\S+)", part) == ["0"]


def test_figures_of_a_file_without_fields_are_shown_as_they_were(tmp_path: Path) -> None:
    said = "rl against sft, judge j"
    one = {"name": "win rate", "value": 0.375, "low": 0.25, "high": 0.5, "n": 40, "n_missing": 0, "method": "Wilson"}
    rest = {"level": 0.95, "subject": said, "reason": None, "simulated": False}
    count = {**one, "name": "wins", "value": 3.0, "low": None, "high": None, "method": "count"}
    schema = pa.schema(
        [
            ("name", pa.string()),
            *((name, pa.float64()) for name in ("value", "low", "high")),
            *((name, pa.int64()) for name in ("n", "n_missing")),
            ("method", pa.string()),
            ("level", pa.float64()),
            *((name, pa.string()) for name in ("subject", "reason")),
            ("simulated", pa.bool_()),
        ]
    )
    folder = write(tmp_path / "old", "score", [(Estimate, [])])
    pq.write_table(pa.Table.from_pylist([{**row, **rest} for row in (one, count)], schema=schema), folder / "x.parquet")
    card = (folder / "run.json").read_text("utf-8")
    old = parquet.read(folder / "x.parquet", Estimate)
    assert [(row.subject, row.about, row.kind) for row in old] == [
        (said, About(text=said), "value"),
        (said, About(text=said), "count"),
    ]
    was = hashlib.sha256((folder / "estimates.parquet").read_bytes()).hexdigest()
    (folder / "x.parquet").replace(folder / "estimates.parquet")
    now = card.replace(was, hashlib.sha256((folder / "estimates.parquet").read_bytes()).hexdigest())
    (folder / "run.json").write_text(now, "utf-8")
    html = run([tmp_path], tmp_path / "page.html").read_text("utf-8")
    assert said in html
    assert "0.375" in html
    assert said.replace("-", "\\-") in run([tmp_path], tmp_path / "page.md", format="md").read_text("utf-8")
