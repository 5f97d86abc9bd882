"""LLMBar, JudgeBench, RewardBench 2 and MT-bench: which answer is the better one, what is dropped, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_builders import DataError, open_builder

RECORD = {"checksums": "record"}
LLMBAR = "Dataset/LLMBar/{}/dataset.json"
SUBSETS = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
JUDGEBENCH = "data/dataset=judgebench,response_model={}.jsonl"
GPT, CLAUDE = "gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620"
RB2 = "data/test-00000-of-00001.parquet"
MT_BENCH = "data/human-00000-of-00001-25f4910818759289.parquet"


def instruction(word: str, label: Any = 1) -> dict[str, Any]:
    return {"input": f"say {word}", "output_1": word, "output_2": f"not {word}", "label": label}


def question(word: str, label: str = "A>B", **other: Any) -> dict[str, Any]:
    return {
        **{"pair_id": f"id-{word}", "original_id": 7, "source": "mmlu-pro-law", "question": f"what is {word}?"},
        **{"response_model": GPT, "response_A": word, "response_B": f"not {word}", "label": label},
    } | other


def completions(id_: str, right: list[str], wrong: list[str], subset: str = "Math") -> dict[str, Any]:
    return {
        **{"id": id_, "prompt": f"prompt {id_}", "chosen": right, "rejected": wrong, "num_correct": len(right)},
        **{"num_incorrect": len(wrong), "total_completions": len(right) + len(wrong), "models": ["m"]},
        **{"subset": subset, "additional_metadata": {"category": "x"}},
    }


def vote(judge: str, winner: str, *, a: str = "alpha", b: str = "beta", turn: int = 1, **other: Any) -> dict[str, Any]:
    def said(model: str) -> list[dict[str, str]]:
        texts = ("first question", f"{model} one", "second question", f"{model} two")
        return [{"content": text, "role": role} for text, role in zip(texts, ("user", "assistant") * 2, strict=True)]

    return {
        **{"question_id": 81, "model_a": a, "model_b": b, "winner": winner, "judge": judge},
        **{"conversation_a": said(a), "conversation_b": said(b), "turn": turn},
    } | other


@pytest.fixture
def write_parquet(upstream: Path) -> Callable[[str, list[dict[str, Any]]], Path]:
    def write(name: str, records: list[dict[str, Any]]) -> Path:
        path = upstream / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(records), path)
        return path

    return write


def built(name: str, config: str | None, upstream: Path, cache: Path, **options: str) -> tuple[list[Any], Any]:
    """Return the rows of the split test and what was counted."""
    builder = open_builder(name, config, data_dir=upstream, cache_dir=cache, options=RECORD | options)
    return list(builder.load()["test"]), builder.tallies()["test"]


def texts(row: dict[str, Any]) -> list[str]:
    return [" | ".join(turn["content"] for turn in row[column]) for column in ("prompt", "chosen", "rejected")]


def test_llmbar_puts_the_labelled_answer_first(upstream, cache, write_array) -> None:
    for subset in SUBSETS:
        write_array(LLMBAR.format(subset), [instruction(subset, 1), instruction(f"{subset} again", 2)])
    rows, tally = built("llmbar", None, upstream, cache)
    assert len(rows) == tally.kept == 10
    assert texts(rows[0]) == ["say Natural", "Natural", "not Natural"]
    assert texts(rows[1]) == ["say Natural again", "not Natural again", "Natural again"]
    assert [row["subset"] for row in rows[::2]] == list(SUBSETS)
    assert {row["dataset"] for row in rows} == {"llmbar"}
    natural, _ = built("llmbar", "natural", upstream, cache)
    adversarial, _ = built("llmbar", "adversarial", upstream, cache)
    assert [row["id"] for row in [*natural, *adversarial]] == [row["id"] for row in rows]
    assert (len(natural), len(adversarial)) == (2, 8)


def test_llmbar_drops_what_is_no_pair_and_refuses_what_is_no_label(upstream, cache, write_array) -> None:
    same = instruction("x") | {"output_2": "x"}
    write_array(LLMBAR.format("Natural"), [same, instruction("y")])
    rows, tally = built("llmbar", "natural", upstream, cache)
    assert (len(rows), dict(tally.dropped)) == (1, {"both answers are the same text": 1})
    write_array(LLMBAR.format("Natural"), [instruction("x"), instruction("y", 3)])
    with pytest.raises(DataError, match=r"row 1, field 'label': 3 is neither 1 nor 2"):
        built("llmbar", "natural", upstream, cache)


def test_judgebench_puts_the_right_answer_first(upstream, cache, write_lines) -> None:
    write_lines(JUDGEBENCH.format(GPT), [question("a"), question("b", "B>A", original_id=None)])
    write_lines(JUDGEBENCH.format(CLAUDE), [question("c", response_model=CLAUDE)])
    rows, tally = built("judgebench", None, upstream, cache)
    assert [texts(row)[1:] for row in rows] == [["a", "not a"], ["not b", "b"], ["c", "not c"]]
    assert [row["original_id"] for row in rows] == ["7", None, "7"]
    assert [row["response_model"] for row in rows] == [GPT, GPT, CLAUDE]
    assert [row["id"] for row in rows] == ["id-a", "id-b", "id-c"]
    assert tally.dropped.total() == 0
    assert [row["id"] for row in built("judgebench", "claude", upstream, cache)[0]] == ["id-c"]


def test_judgebench_counts_ties_and_equal_answers(upstream, cache, write_lines) -> None:
    write_lines(JUDGEBENCH.format(GPT), [question("a"), question("b", "A=B"), question("c", response_B="c")])
    rows, tally = built("judgebench", "gpt", upstream, cache)
    assert [row["id"] for row in rows] == ["id-a"]
    assert tally.dropped == {"labelled a tie": 1, "both answers are the same text": 1}
    write_lines(JUDGEBENCH.format(GPT), [question("a", "A")])
    with pytest.raises(DataError, match="'A' is neither 'A>B' nor 'B>A'"):
        built("judgebench", "gpt", upstream, cache)


@pytest.mark.parametrize(("name", "config", "file"), [("judgebench", "gpt", GPT), ("judgebench", "claude", CLAUDE)])
def test_a_file_with_other_bytes_is_refused(name, config, file, upstream, cache, write_lines) -> None:
    write_lines(JUDGEBENCH.format(file), [question("a")])
    with pytest.raises(Exception, match="is not the upstream data/dataset=judgebench"):
        built(name, config, upstream, cache, checksums="verify")


def test_reward_bench_2_pairs_each_right_completion_with_each_wrong_one(upstream, cache, write_parquet) -> None:
    write_parquet(
        RB2,
        [
            completions("0", ["r"], ["w0", "w1", "w2"]),
            completions("tied:0", ["r0", "r1"], ["w0", "w1"], "Ties"),
            completions("1", ["same"], ["same", "other"], "Safety"),
        ],
    )
    rows, tally = built("reward-bench-2", None, upstream, cache)
    assert [texts(row)[1:] for row in rows] == [["r", "w0"], ["r", "w1"], ["r", "w2"], ["same", "other"]]
    assert [row["group"] for row in rows] == [f"reward_bench_2:{prompt}" for prompt in (0, 0, 0, 2)]
    assert dict(tally.dropped) == {"both answers are the same text": 1}
    ties, _ = built("reward-bench-2", "ties", upstream, cache)
    assert [texts(row)[1:] for row in ties] == [["r0", "w0"], ["r0", "w1"], ["r1", "w0"], ["r1", "w1"]]
    assert {row["upstream_id"] for row in ties} == {"tied:0"}


def test_reward_bench_2_is_refused_when_prompts_are_missing(upstream, cache, write_parquet) -> None:
    write_parquet(RB2, [completions("0", ["r"], ["w"])])
    with pytest.raises(DataError, match=r"holds 1 prompts, upstream has 1,865"):
        built("reward-bench-2", None, upstream, cache, checksums="verify")


def test_mt_bench_makes_one_row_a_pair_of_the_most_votes(upstream, cache, write_parquet) -> None:
    write_parquet(
        MT_BENCH,
        [
            vote("expert_1", "model_b"),
            vote("expert_2", "model_a", a="beta", b="alpha"),  # the same pair, the other way round: beta is better
            vote("expert_3", "model_a"),
            vote("author_0", "tie (bothbad)"),
            vote("expert_1", "model_a", b="gamma"),
            vote("expert_2", "tie", b="gamma"),  # one each: nobody has most votes
            vote("expert_1", "model_a", b="gamma"),  # the same voter again
            vote("expert_1", "tie", b="delta"),
        ],
    )
    rows, tally = built("mt-bench", None, upstream, cache)
    (row,) = rows
    assert texts(row) == ["first question", "beta one", "alpha one"]
    assert (row["chosen_model"], row["rejected_model"], row["turn"], row["group"]) == (
        "beta",
        "alpha",
        1,
        "mt_bench:81",
    )
    assert (row["votes_chosen"], row["votes_rejected"], row["votes_tie"]) == (2, 1, 1)
    assert tally.dropped == {
        "another vote on a pair that is counted already": 4,
        "neither answer has most of the votes": 2,
        "the same voter again": 1,
    }
    assert tally.kept + tally.dropped.total() == 8


def test_mt_bench_keeps_each_vote_with_its_voter(upstream, cache, write_parquet) -> None:
    write_parquet(
        MT_BENCH,
        [vote("expert_1", "model_b"), vote("expert_2", "model_b", a="beta", b="alpha"), vote("author_0", "tie")],
    )
    rows, _ = built("mt-bench", "votes", upstream, cache)
    assert [(row["voter"], row["chosen_model"], row["tie"]) for row in rows] == [
        ("expert_1", "beta", False),
        ("expert_2", "alpha", False),
        ("author_0", "alpha", True),
    ]
    assert {row["pair"] for row in rows} == {"81:1:alpha:beta"}


def test_mt_bench_cuts_the_conversation_at_the_turn_of_the_vote(upstream, cache, write_parquet) -> None:
    alike = vote("expert_1", "model_a", turn=2, b="gamma")
    alike["conversation_b"][1]["content"] = "alpha one"  # both histories are the same: the prompt holds them
    write_parquet(MT_BENCH, [vote("expert_1", "model_a", turn=2), alike])
    rows, _ = built("mt-bench", None, upstream, cache)
    assert texts(rows[0]) == [
        "first question",
        "alpha one | second question | alpha two",
        "beta one | second question | beta two",
    ]
    assert texts(rows[1]) == ["first question | alpha one | second question", "alpha two", "gamma two"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner": "model_c"}, "'model_c' is neither a side nor a tie"),
        ({"turn": 3}, "3 is neither 1 nor 2"),
        ({"conversation_a": [{"role": "user", "content": "first question"}]}, "is not 1 turns of user and assistant"),
    ],
)
def test_mt_bench_refuses_what_it_does_not_know(change, message, upstream, cache, write_parquet) -> None:
    write_parquet(MT_BENCH, [vote("expert_1", "model_a") | change])
    with pytest.raises(DataError, match=message):
        built("mt-bench", "votes", upstream, cache)


def test_what_is_no_parquet_file_says_so(upstream, cache) -> None:
    path = upstream / MT_BENCH
    path.parent.mkdir(parents=True)
    path.write_text("version https://git-lfs")
    with pytest.raises(DataError, match="is not a parquet file"):
        built("mt-bench", None, upstream, cache)
