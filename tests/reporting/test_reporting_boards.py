"""Tables and charts that set figures side by side: the right ones, in the right places, as estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from report_story import estimate, judgement, write

from perl_eval.figure_names import TARGET_LINE
from perl_eval.records import About, Estimate, HumanLabel, Judgement, Measurement
from perl_eval.reporting import run
from perl_eval.reporting.decision_lines import comparisons_decided
from perl_eval.reporting.inputs import Figure, figures, folders
from perl_eval.reporting.rankings import ranked
from perl_eval.reporting.svg_charts import charts, laid_out
from perl_eval.reporting.tables import Board, boards, matrices
from perl_eval.scoring import agree, decide
from perl_eval.stats.bootstrap import Resampling


def shown(estimates: Sequence[Estimate], folder: int = 0) -> list[Figure]:
    return [Figure(one, folder) for one in estimates]


def values(board: Board) -> dict[tuple[str, ...], list[float | None]]:
    return {row.about: [None if one is None else one.estimate.value for one in row.figures] for row in board.rows}


def named(estimates: Sequence[Estimate]) -> dict[str, Board]:
    return {board.id: board for board in boards(shown(estimates))}


def test_the_leaderboard_ranks_by_the_first_figure_that_each_has() -> None:
    board = named(
        [
            estimate("win rate", 0.4, about=About(policy="two", against="base", judge="J")),
            estimate("win rate", 0.7, about=About(policy="one", against="base", judge="J")),
            estimate("strength", -0.2, about=About(policy="three", judge="J")),
            estimate("KL to prior", 3.0, about=About(policy="one")),
            estimate("KL to prior", 1.0, about=About(policy="four")),
            estimate("true reward", 0.9, about=About(slice=TARGET_LINE, at=2)),
            estimate("consistency", 0.9, about=About(policy="one", against="base", judge="J")),
        ]
    )["leaderboard"]
    assert board.columns == ("strength", "win rate", "KL to prior")
    assert list(values(board).items()) == [
        (("three", "judge J"), [-0.2, None, None]),
        (("one", "against base, judge J"), [None, 0.7, 3.0]),
        (("two", "against base, judge J"), [None, 0.4, None]),
        (("four", ""), [None, None, 1.0]),
    ]


def test_one_policy_alone_is_no_leaderboard() -> None:
    assert "leaderboard" not in named([estimate("win rate", 0.4, about=About(policy="one", against="base", judge="J"))])


def test_the_same_figure_of_two_runs_gets_two_lines() -> None:
    both = [
        *shown([estimate("true reward", 0.8, about=About(policy="rl"))], 0),
        *shown([estimate("true reward", 0.6, about=About(policy="rl"))], 1),
    ]
    (board,) = boards([*both, *shown([estimate("true reward", 0.7, about=About(policy="sft"))])])
    assert [row.figures[0].estimate.value for row in board.rows if row.figures[0]] == [0.8, 0.7, 0.6]


def test_length_stands_beside_the_plain_rate() -> None:
    about = About(policy="a", against="b", judge="J")
    board = named(
        [
            estimate("win rate", 0.6, about=about),
            estimate("win rate at equal length", 0.5, about=about),
            estimate(
                "longer preferred rate",
                None,
                about=About(policy="a", against="b", judge="J"),
                reason="all equally long",
            ),
            estimate("win rate", 0.6, about=About(policy="c", against="d", judge="J")),
        ]
    )["length"]
    assert board.columns == ("win rate", "longer preferred rate", "win rate at equal length")
    assert values(board) == {("a", "against b, judge J"): [0.6, None, 0.5]}


def test_corrections_stand_beside_what_they_correct() -> None:
    subject = About(policy="a", against="b", judge="J")
    rates = [
        estimate("yes rate", 0.9, about=About(policy="c", judge="J")),
        estimate("win rate", 0.6, about=subject),
        estimate("win rate, corrected by PPI++", 0.5, about=subject),
        estimate("win rate, corrected by Rogan-Gladen", 0.45, about=subject),
        estimate("loss rate, corrected by Rogan-Gladen", 0.3, about=subject),
    ]
    assert values(named(rates)["corrected"]) == {
        ("win rate", subject.sentence): [0.6, 0.5, 0.45],
        ("loss rate", subject.sentence): [None, None, 0.3],
    }


def test_tasks_and_rewards_have_tables_of_their_own() -> None:
    found = named(
        [
            estimate("VQA accuracy", 0.7, about=About(policy="rl")),
            estimate("VQA accuracy difference", 0.02, about=About(policy="rl", minus="sft")),
            estimate("AUC", 0.71, about=About(policy="reward model")),
            estimate("majority share", 0.86, about=About(policy="reward model")),
        ]
    )
    assert values(found["tasks"]) == {("rl", ""): [0.7, None], ("rl minus sft", ""): [None, 0.02]}
    assert values(found["rewards"]) == {("reward model", ""): [0.86, 0.71]}


def labels(n: int = 12) -> list[HumanLabel]:
    """Three people: p agrees with the judge always, q on two thirds, r on half of what r labelled."""
    made = []
    for place in range(n):
        one = judgement(place, "win")
        said = {"p": "win", "q": "win" if place % 3 else "loss", "r": "win" if place % 2 else "tie"}
        made += [HumanLabel(one.unit, one.item, one.group, who, label) for who, label in said.items()]  # type: ignore[arg-type]
    return made


def test_the_matrix_holds_what_agree_estimates(tmp_path: Path) -> None:
    write(
        tmp_path / "judged", "judge", [(Judgement, [judgement(place, "win", simulated=False) for place in range(12)])]
    )
    write(tmp_path / "people", "annotate", [(HumanLabel, labels())])
    agree.run(tmp_path / "judged", tmp_path / "people", tmp_path / "agreed", options=agree.AgreeOptions(Resampling(20)))
    (matrix,) = matrices(figures(folders([tmp_path])))
    assert matrix.people == ("p", "q", "r")
    cells = {row.about[0]: [one and one.estimate.value for one in row.figures] for row in matrix.rows}
    # q and r agree where both say win: places not divisible by 3 and odd, 4 of 12.
    assert cells == {
        matrix.subject: pytest.approx([1, 2 / 3, 1 / 2]),
        "p": [None, pytest.approx(2 / 3), pytest.approx(1 / 2)],
        "q": [pytest.approx(2 / 3), None, pytest.approx(1 / 3)],
        "r": [pytest.approx(1 / 2), pytest.approx(1 / 3), None],
    }
    assert [one.estimate.name for one in matrix.ceiling] == ["human ceiling"]
    html = run([tmp_path], tmp_path / "report.html").read_text("utf-8")
    assert "Exact agreement two by two" in html


FRONTIER = [
    *(
        estimate("KL to prior", kl, 0.1, about=About(policy=name), method="t")
        for name, kl in (("rl", 2.0), ("sft", 0.0))
    ),
    *(
        estimate("true reward", worth, 0.02, about=About(policy=name))
        for name, worth in (("rl", 0.9), ("sft", 0.5), ("other", 0.1))
    ),
    *(estimate("KL(method || prior)", kl, None, about=About(slice=TARGET_LINE, at=kl)) for kl in (3.0, 1.0)),
    *(estimate("true reward", 0.6 + kl / 10, None, about=About(slice=TARGET_LINE, at=kl)) for kl in (3.0, 1.0)),
]
CURVE = [
    estimate("observed share", share, 0.05, about=About(bin=0, bin_low=low, bin_high=low + 0.1, bin_mean=mean), n=40)
    for low, mean, share in ((0.7, 0.75, 0.6), (0.1, 0.14, 0.2))
]


def test_charts_hold_the_figures_and_lines_are_in_order(tmp_path: Path) -> None:
    write(tmp_path / "run", "score", [(Estimate, [*FRONTIER, *CURVE])])
    found = folders([tmp_path])
    calibration, frontier = charts(figures(found), found)
    assert [(point.x[0], point.y) for point in calibration.series[0].points] == [
        (0.14, pytest.approx((0.2, 0.15, 0.25))),
        (0.75, pytest.approx((0.6, 0.55, 0.65))),
    ]
    by_name = {series.label: series for series in frontier.series}
    assert by_name.keys() == {"rl", "sft", "target, by beta"}
    assert [point.x[0] for point in by_name["target, by beta"].points] == [1.0, 3.0]
    assert (by_name["target, by beta"].joined, by_name["rl"].joined) == (True, False)
    drawn = laid_out(calibration)
    (left, right) = drawn.points[0]
    # x from 52 to 406 for 0 to 1, y from 260 to 12.
    assert left[0] == pytest.approx((52 + 0.14 * 354, 260 - 0.2 * 248), abs=0.1)
    assert right[2] == pytest.approx((260 - 0.55 * 248, 260 - 0.65 * 248), abs=0.1)
    assert drawn.lines[0].startswith(f"M{left[0][0]:g} {left[0][1]:g}L")
    assert drawn.diagonal == "M52.0 260.0L406.0 12.0"


def test_figures_for_papers_are_written_twice_alike(tmp_path: Path) -> None:
    rates = [
        estimate("win rate", 0.5, about=About(policy="a$_1$", against="b^2", judge="J")),
        estimate("mean score", 6.5, about=About(policy="a")),
    ]
    write(tmp_path / "r" / "score", "score", [(Estimate, [*FRONTIER, *CURVE, *rates])])
    points = [
        Measurement(step, name, value) for name in ("re/ward: ../x", "kl") for step, value in ((0, 1.0), (9, 2.0))
    ]
    write(tmp_path / "r" / "train", "train policy", [(Measurement, [*points, Measurement(10, "kl", float("nan"))])])
    write(tmp_path / "r" / "judged", "judge", [(Judgement, [judgement(1, "win"), judgement(2, "unjudged")])])
    for folder in ("one", "other"):
        run([tmp_path / "r"], tmp_path / "report.html", figures_folder=tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    stems = (
        "decisions",
        "outcomes",
        "calibration",
        "curve-train-policy-kl",
        "curve-train-policy-re-ward-x",
        "frontier-true-reward",
        "rates",
    )
    assert names == sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("pdf", "png", "svg"))
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "other" / name).read_bytes()
        assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[name[-3:]])
    assert "a$_1$ against b^2, judge J: win rate (simulated)" in (tmp_path / "one" / "rates.svg").read_text("utf-8")


def test_nothing_to_draw_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "run", "label", [(HumanLabel, labels())])
    run([tmp_path / "run"], tmp_path / "report.html", figures_folder=tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


# ---------------------------------------------------------------------------------- places, reliability, rates and KL


def places(*spans: tuple[str, float, float, float | None]) -> list[Estimate]:
    """Return what `decide` writes of policies and the places that they can have."""
    made = []
    for policy, low, high, first in spans:
        about = About(policy=policy)
        made.append(Estimate("place", (low + high) / 2, low, high, len(spans), 0, "step-down", about=about))
        made.append(Estimate("chance to be best", first, None, None, len(spans), 0, "draws", about=about))
    return made


def test_places_are_sorted_and_ties_are_told() -> None:
    ranking = ranked(places(("worst", 3, 4, 0.0), ("b", 1, 2, 0.3), ("a", 1, 2, 0.7), ("c", 4, 4, None)), "J", None)
    assert ranking is not None
    assert [(one.policy, one.place, one.between, one.first) for one in ranking.standings] == [
        ("a", "1=", "1 to 2", 0.7),
        ("b", "1=", "1 to 2", 0.3),
        ("worst", "3", "3 to 4", 0.0),
        ("c", "4", "4", None),
    ]
    assert ranked([], "J", None) is None


def test_the_page_has_a_leaderboard_of_many_policies(tmp_path: Path) -> None:
    """Twelve policies against one baseline, each a little better than the one before."""
    judged = []
    for policy in range(12):
        for place in range(60):
            outcome = "win" if place < 5 * policy else "loss"
            one = judgement(place, outcome, policy_a=f"p{policy:02}", policy_b="base", a=f"p{policy}-{place}")
            judged.append(replace(one, id=f"{policy}-{place}"))
    write(tmp_path / "run", "judge", [(Judgement, judged)])
    assert comparisons_decided(folders([tmp_path])).rankings == []  # no labels: nobody knows
    decide.run(tmp_path / "run", tmp_path / "decided", options=decide.DecideOptions(judge_alone=True))
    decisions = comparisons_decided(folders([tmp_path]))
    (ranking,) = decisions.rankings
    assert len(ranking.standings) == 13
    assert (ranking.standings[0].policy, ranking.standings[0].low) == ("p11", 1)
    assert ranking.standings[-1].high == 13
    assert any(one.tied for one in ranking.standings)
    html = " ".join(run([tmp_path], tmp_path / "report.html").read_text("utf-8").split())
    assert "Ranks of 13 policies" in html
    assert f"Each of the {len(decisions.comparisons)} comparisons of two" in html
    assert html.index("Ranks of 13") < html.index("Each of the") < html.index('<article class="decision">')


def test_a_judge_that_gives_probabilities_has_a_reliability_plot(tmp_path: Path) -> None:
    judged, people = [], []
    for place in range(80):
        one = judgement(place, "win", p_a=0.25 if place % 2 else 0.85, simulated=False)
        judged.append(one)
        # people prefer a in 10 of the 40 pairs of 0.25, and in 30 of the 40 of 0.85
        prefers = place % 8 == 1 if place % 2 else place % 8 != 0
        people.append(HumanLabel(one.unit, one.item, one.group, "p", "win" if prefers else "loss"))
    write(tmp_path / "judged", "judge", [(Judgement, judged)])
    write(tmp_path / "people", "annotate", [(HumanLabel, people)])
    agree.run(tmp_path / "judged", tmp_path / "people", tmp_path / "agreed", options=agree.AgreeOptions(Resampling(20)))
    found = folders([tmp_path])
    (chart,) = [one for one in charts(figures(found), found) if one.id == "reliability"]
    (series,) = chart.series
    assert [(point.x[0], point.y[0]) for point in series.points] == [
        pytest.approx((0.25, 0.25)),
        pytest.approx((0.85, 0.75)),
    ]
    assert chart.diagonal


def test_win_rates_stand_against_kl_with_what_an_answer_costs(tmp_path: Path) -> None:
    made = [
        *(
            estimate("KL to prior", kl, 0.1, about=About(policy=name), method="t")
            for name, kl in (("rl", 2.0), ("hard", 4.0))
        ),
        estimate("tokens drawn an answer", 120.0, None, about=About(policy="rl")),
        *(
            estimate("win rate", rate, 0.05, about=About(policy=name, against="sft", judge="J"))
            for name, rate in (("rl", 0.7), ("hard", 0.55), ("unknown", 0.9))
        ),
        estimate("win rate", 0.1, about=About(policy="rl", against="sft", judge="J", slice="long")),
    ]
    write(tmp_path / "run", "score", [(Estimate, made)])
    found = folders([tmp_path])
    (chart,) = [one for one in charts(figures(found), found) if one.id.startswith("frontier-win-rate")]
    assert {one.label: (one.points[0].x[0], one.points[0].y[0]) for one in chart.series} == {
        "rl, 120 tokens an answer": (2.0, 0.7),
        "hard": (4.0, 0.55),
    }
    assert chart.title == "Frontier: win rate against sft by J, against KL"
