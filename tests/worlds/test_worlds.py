"""The embedded world: rewards derived by hand, splits apart, labels as likely as the stated law says."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from perl_eval import demo
from perl_eval.errors import UserError
from perl_eval.records import About, Completion, Estimate, HumanLabel, Measurement, Message, unit_of
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.worlds import coffee
from perl_eval.worlds.coffee import label_pairs, label_single, true_reward

ASKED = (Message("user", "can i get a small latte with oat milk"),)
GOOD = "sure , one small oat milk latte coming up"


# ---------------------------------------------------------------------------------------------------- true reward


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        # 0.75 for three slots of three, 0.25 for the form.
        (GOOD, 1.0),
        ("of course , one small oat milk latte as you wish", 1.0),
        (f"  {GOOD}\n", 1.0),  # spaces are not words
        # One slot wrong: 0.75 * 2 / 3 + 0.25.
        ("sure , one large oat milk latte coming up", 0.75),
        ("sure , one small soy milk latte coming up", 0.75),
        ("sure , one small oat milk mocha coming up", 0.75),
        # Two and three wrong.
        ("sure , one large soy milk latte coming up", 0.5),
        ("sure , one large soy milk mocha coming up", 0.25),
        # All right, form broken: said twice, cut off, without opening, with more after the end, in another order.
        ("sure , one small oat milk latte latte coming up", 0.75),
        ("sure , one small oat milk latte", 0.75),
        ("one small oat milk latte coming up", 0.75),
        (f"{GOOD} coming up", 0.75),
        (f"{GOOD} sure", 0.75),
        ("sure , one oat milk small latte coming up", 0.75),
        ("SURE , one small oat milk latte coming up", 0.75),
        ("sure, one small oat milk latte coming up", 0.75),
        # A slot said right and wrong counts as wrong, whichever comes first: 0.75 * 2 / 3.
        ("sure , one small large oat milk latte coming up", 0.5),
        ("sure , one large small oat milk latte coming up", 0.5),
        # Said not at all: 0.75 * 1 / 3, and nothing.
        ("latte", 0.25),
        ("sure , coming up", 0.0),
        ("", 0.0),
        # Every value at once names none.
        (" ".join([*coffee.DRINKS, *coffee.SIZES, *coffee.MILKS]), 0.0),
        # A value within another word is not named.
        ("smaller lattes oaty", 0.0),
    ],
)
def test_true_rewards_known_by_hand(answer: str, reward: float) -> None:
    assert true_reward(ASKED, answer) == pytest.approx(reward, abs=1e-12)


def test_second_thoughts_replace_the_first() -> None:
    changed = (*ASKED, Message("assistant", GOOD), Message("user", "sorry , soy milk instead"))
    assert true_reward(changed, "sure , one small soy milk latte coming up") == pytest.approx(1.0)
    assert true_reward(changed, GOOD) == pytest.approx(0.75)


def test_what_the_agent_said_is_no_wish() -> None:
    misheard = (
        *ASKED,
        Message("assistant", "one large soy milk mocha"),
        Message("user", "no wait , a cortado instead"),
    )
    assert true_reward(misheard, "sure , one small oat milk cortado coming up") == pytest.approx(1.0)


def test_the_last_value_of_a_turn_counts() -> None:
    asked = (Message("user", "a small latte , no , a large latte with oat milk"),)
    assert true_reward(asked, "sure , one large oat milk latte coming up") == pytest.approx(1.0)


def test_a_completion_is_judged_by_prompt_and_text() -> None:
    assert coffee.true_reward_of(_completion("c", GOOD)) == pytest.approx(1.0)


def test_every_well_formed_order_is_recognised() -> None:
    parts = (coffee.OPENINGS, coffee.SIZES, coffee.MILKS, coffee.DRINKS, coffee.CLOSINGS)
    for opening, size, milk, drink, closing in itertools.product(*parts):
        asked = (Message("user", f"one {drink} , {size} , with {milk} milk"),)
        assert true_reward(asked, f"{opening} , one {size} {milk} milk {drink} {closing}") == pytest.approx(1.0)


# ---------------------------------------------------------------------------------------------------- build


def _hashes(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("*.parquet"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


SIZES = {"demonstrations": 300, "preferences": 200, "prompts": 80}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coffee.build(tmp_path_factory.mktemp("world") / "data", **SIZES, seed=3)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(data: Path, tmp_path: Path) -> None:
    again = coffee.build(tmp_path / "again", **SIZES, seed=3)
    assert _hashes(again) == _hashes(data)
    other = _hashes(coffee.build(tmp_path / "other", **SIZES, seed=4))
    assert other.keys() == _hashes(data).keys()
    assert all(other[name] != sha256 for name, sha256 in _hashes(data).items())


def test_the_layout_is_that_of_build(data: Path) -> None:
    counts = {name: pq.read_metadata(data / name).num_rows for name in _hashes(data)}
    test = counts.pop("prompts/test.parquet")
    assert 0.7 * 40 <= test <= 40  # half of 80, less those drawn twice
    assert counts == {
        "demonstrations/train.parquet": 300,
        "demonstrations/validation.parquet": 30,
        "preferences/train.parquet": 200,
        "preferences/validation.parquet": 20,
        "preferences/test.parquet": 66,
        "prompts/train.parquet": 80,
    }
    card = run_folder.read_card(data)
    assert card is not None
    assert card.simulated
    assert "no person" in card.notes["simulated"]


def _prompts(folder: Path, split: str) -> set[tuple[Message, ...]]:
    return {row.prompt for row in rows.read(folder, split)}


def test_test_prompts_occur_in_no_other_split(data: Path) -> None:
    test = _prompts(data / "prompts", "test")
    assert len(test) == len(rows.read(data / "prompts", "test"))
    for config in ("demonstrations", "preferences", "prompts"):
        for split in rows.splits(data / config):
            if (config, split) != ("prompts", "test"):
                assert not test & _prompts(data / config, split), (config, split)


def test_ids_are_distinct_and_groups_are_dialogues(data: Path) -> None:
    for config in ("demonstrations", "preferences", "prompts"):
        found = [row for split in rows.splits(data / config) for row in rows.read(data / config, split)]
        assert len({row.id for row in found}) == len(found)
        assert len({row.group for row in found}) == len({row.prompt for row in found})
        assert {row.dataset for row in found} == {coffee.DATASET}


def test_demonstrations_are_flawed_as_often_as_stated(data: Path) -> None:
    # Each slot is wrong one time in five, the form broken one time in four.
    found = rows.read(data / "demonstrations", "train", need=("completion",))
    rewards = [true_reward(row.prompt, row.completion[0].content) for row in found if row.completion]
    assert len(rewards) == 300
    # Some breaks of the form also unsay a slot, so content is 0.8 or somewhat less: 0.75 * 0.8 + 0.25 * 0.75 = 0.79.
    assert 0.70 < sum(rewards) / 300 < 0.80
    # Whole answers: 0.8 ** 3 * 0.75 = 0.38; standard error 0.028.
    assert sum(reward == 1.0 for reward in rewards) / 300 == pytest.approx(0.384, abs=0.09)


def test_preferences_mostly_follow_the_true_reward(data: Path) -> None:
    found = rows.read(data / "preferences", "train", need=("chosen", "rejected"))
    gaps = [
        true_reward(row.prompt, row.chosen[0].content) - true_reward(row.prompt, row.rejected[0].content)
        for row in found
        if row.chosen and row.rejected
    ]
    assert len(gaps) == 200
    apart = [gap for gap in gaps if gap != 0]
    assert len(apart) >= 150
    # Three annotators are right with 0.98, 0.95 and 0.88 at a gap of 0.25, the smallest: a majority is with 0.99.
    assert sum(gap > 0 for gap in apart) >= 0.9 * len(apart)


def test_some_customers_have_second_thoughts(data: Path) -> None:
    lengths = Counter(len(row.prompt) for row in rows.read(data / "demonstrations", "train"))
    assert set(lengths) == {1, 3}
    assert lengths[3] / 300 == pytest.approx(0.35, abs=0.1)


def test_the_smallest_world_is_whole(tmp_path: Path) -> None:
    out = coffee.build(tmp_path / "tiny", demonstrations=1, preferences=1, prompts=1)
    assert {pq.read_metadata(out / name).num_rows for name in _hashes(out)} == {1}
    assert rows.read(out / "demonstrations", "validation", need=("completion",))


@pytest.mark.parametrize("size", ["demonstrations", "preferences", "prompts"])
def test_a_world_without_rows_is_refused(tmp_path: Path, size: str) -> None:
    with pytest.raises(UserError, match=f"{size} is 0; give 1 or more"):
        coffee.build(tmp_path / "x", **{**SIZES, size: 0})
    assert not (tmp_path / "x").exists()


def test_a_finished_world_is_not_built_again(data: Path) -> None:
    before = (data / "run.json").read_bytes()
    assert coffee.build(data, **SIZES, seed=3) == data
    assert (data / "run.json").read_bytes() == before


# ---------------------------------------------------------------------------------------------------- labels


def _completion(name: str, text: str, *, policy: str = "p") -> Completion:
    return Completion(name, f"item {name[1:]}", "g", coffee.DATASET, policy, ASKED, text, "stop", 0)


def _pairs(n: int, a: str, b: str) -> tuple[list[Completion], list[Completion]]:
    return (
        [_completion(f"a{index}", a, policy="a") for index in range(n)],
        [_completion(f"b{index}", b, policy="b") for index in range(n)],
    )


def _rates(labels: Sequence[HumanLabel], annotator: str) -> dict[str, float]:
    own = [label.label for label in labels if label.annotator == annotator]
    return {label: own.count(label) / len(own) for label in ("win", "tie", "loss")}  # type: ignore[arg-type]


BETTER, WORSE = GOOD, "sure , one large oat milk latte coming up"  # 1.0 and 0.75: a gap of 0.25
SHARPNESS = {"annotator 1": 8.0, "annotator 2": 6.0, "annotator 3": 4.0}
N = 4000


def _law(gap: float, sharpness: float) -> dict[str, float]:
    """Two comparisons, each right with sigmoid(2 s gap); a tie if they differ."""
    right = 1 / (1 + math.exp(-2 * sharpness * gap))
    return {"win": right**2, "tie": 2 * right * (1 - right), "loss": (1 - right) ** 2}


@pytest.mark.parametrize(("a", "b", "gap"), [(BETTER, WORSE, 0.25), (WORSE, BETTER, -0.25), (BETTER, BETTER, 0.0)])
def test_labels_follow_the_stated_law(a: str, b: str, gap: float) -> None:
    labels = label_pairs(*_pairs(N, a, b))
    assert len(labels) == 3 * N
    for name, sharpness in SHARPNESS.items():
        # Five standard errors of a rate over 4000 labels are at most 0.04.
        assert _rates(labels, name) == pytest.approx(_law(gap, sharpness), abs=0.04)


def test_swapping_the_answers_mirrors_the_labels() -> None:
    a, b = _pairs(N, BETTER, WORSE)
    one, other = label_pairs(a, b), label_pairs(b, a)
    for name in SHARPNESS:
        ahead, behind = _rates(one, name), _rates(other, name)
        assert (ahead["win"], ahead["tie"], ahead["loss"]) == pytest.approx(
            (behind["loss"], behind["tie"], behind["win"]), abs=0.04
        )


def test_equal_answers_win_and_lose_alike() -> None:
    labels = label_pairs(*_pairs(N, GOOD, GOOD))
    counts = Counter(label.label for label in labels)
    # 3000 each, standard deviation of the difference 77.
    assert abs(counts["win"] - counts["loss"]) < 5 * 77
    assert counts["tie"] / len(labels) == pytest.approx(0.5, abs=0.03)


def test_annotators_agree_as_often_as_their_sharpness_says() -> None:
    labels = label_pairs(*_pairs(N, BETTER, WORSE))
    by_unit: dict[str, dict[str, str]] = {}
    for label in labels:
        by_unit.setdefault(label.unit, {})[label.annotator] = label.label
    for one, other in itertools.combinations(SHARPNESS, 2):
        agreed = sum(unit[one] == unit[other] for unit in by_unit.values()) / N
        # They slip independently: the chance that both say the same is the sum of products.
        laws = _law(0.25, SHARPNESS[one]), _law(0.25, SHARPNESS[other])
        expected = sum(laws[0][label] * laws[1][label] for label in laws[0])
        assert agreed == pytest.approx(expected, abs=0.04)
        assert 0.6 < agreed < 0.95  # people agree, but not always


def test_a_label_hangs_on_its_pair_and_seed_alone() -> None:
    a, b = _pairs(50, BETTER, WORSE)
    whole = {(label.unit, label.annotator): label.label for label in label_pairs(a, b)}
    part = {(label.unit, label.annotator): label.label for label in label_pairs(a[20:30], b[20:30])}
    assert part.items() <= whole.items()
    assert [label.label for label in label_pairs(a, b, seed=1)] != [label.label for label in label_pairs(a, b)]


def test_labels_name_the_pair_and_say_they_are_simulated() -> None:
    (a,), (b,) = _pairs(1, BETTER, WORSE)
    labels = label_pairs([a], [b])
    assert {label.unit for label in labels} == {unit_of("a0", "b0")}
    assert {label.item for label in labels} == {"item 0"}
    assert [label.annotator for label in labels] == list(SHARPNESS)
    assert all(label.simulated for label in [*labels, *label_single([a])])
    assert {label.unit for label in label_single([a])} == {unit_of("a0")}
    with pytest.raises(ValueError, match="zip"):
        label_pairs([a], [])


def test_single_answers_are_good_above_the_threshold() -> None:
    good = [_completion(f"c{index}", BETTER) for index in range(N)]
    bad = [_completion(f"d{index}", WORSE) for index in range(N)]
    for answers, gap in ((good, 2 * 0.1), (bad, -2 * 0.15)):
        labels = label_single(answers, threshold=0.9)
        for name, sharpness in SHARPNESS.items():
            yes = sum(label.label == "yes" for label in labels if label.annotator == name) / N
            assert yes == pytest.approx(1 / (1 + math.exp(-2 * sharpness * gap)), abs=0.04)


# ---------------------------------------------------------------------------------------------------- demo


def test_the_headline_takes_known_figures_by_subject(tmp_path: Path) -> None:
    def estimate(name: str, subject: str) -> Estimate:
        return Estimate(name, 0.5, None, None, 1, 0, "counted", about=About(policy=subject))

    written = {
        "score": [estimate("loss rate", "b"), estimate("win rate", "b"), estimate("some detail", "b")],
        "deep/truth": [estimate("true reward", "a"), estimate("true win rate", "b")],
    }
    for name, estimates in written.items():
        with run_folder.start(tmp_path / name, verb="score", arguments={}) as run:
            run.write(estimates, Estimate)
    with run_folder.start(tmp_path / "sft", verb="train sft", arguments={}) as run:
        run.write([Measurement(0, "loss", 1.0)], Measurement)
    shown = [(found.subject, found.name) for found in demo.headline(tmp_path)]
    assert shown == [("a", "true reward"), ("b", "win rate"), ("b", "true win rate"), ("b", "loss rate")]
    assert demo.headline(tmp_path / "sft") == []


def test_folder_names_have_no_spaces() -> None:
    assert demo._folder(Path("out"), "judge always first") == Path("out") / "judge-always-first"
    names = [demo._folder(Path("out"), name).name for name in demo.POLICIES]
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
    assert len(set(names)) == len(names)


def test_a_log_ratio_is_policy_less_prior() -> None:
    one = Completion("c", "i", "g", "d", "p", ASKED, GOOD, "stop", 0, logprob=-3.0, prior_logprob=-4.5)
    assert demo._log_ratio(one) == 1.5
    with pytest.raises(ValueError, match="without log-probabilities"):
        demo._log_ratio(_completion("c", GOOD))
