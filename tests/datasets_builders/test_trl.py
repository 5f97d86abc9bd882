"""Each configuration goes through the preprocessing of the TRL trainer it is for."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl")
    from trl import DPOTrainer, KTOTrainer, RewardTrainer, SFTTrainer
    from trl.data_utils import is_conversational

from datasets_builders import open_builder
from datasets_builders.shp import DOMAINS

RECORD = {"checksums": "record"}
SFT = {"packing": False, "formatting_func": None}
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Return a byte-level tokenizer with a chat template that shows tool calls."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_ = Tokenizer(models.BPE(vocab=letters, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bytes_, eos_token="<eos>", pad_token="<pad>")
    made.chat_template = TEMPLATE
    return made


def prepare(trainer: Any, rows: Any, tokenizer: Any, **arguments: Any) -> list[dict[str, Any]]:
    """Run the preprocessing of a trainer without its model."""
    state = SimpleNamespace(
        **{"_tokenizer": tokenizer, "calculate_KL": False, "desirable_weight": 1.0, "undesirable_weight": 1.0},
        **{"chat_template": None, "completion_only_loss": True},
    )
    settings = SimpleNamespace(
        **{"dataset_num_proc": None, "max_length": None, "truncation_mode": "keep_start", "dataset_text_field": "text"},
        **{"assistant_only_loss": False, "shuffle_dataset": False, "per_device_train_batch_size": 2},
        **{"use_liger_kernel": False},
    )
    made = trainer._prepare_dataset(state, rows, tokenizer, settings, **arguments, dataset_name="train")
    return list(made)


def said(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def first_rows(name: str, config: str, upstream: Path, cache: Path) -> Any:
    built = open_builder(name, config, data_dir=upstream, cache_dir=cache, options=RECORD).load()
    [rows] = [rows for rows in built.values() if rows.num_rows]
    return rows


@pytest.fixture
def coffee_rows(coffee, rated_turn, upstream, cache) -> Callable[[str], Any]:
    """Return a function that builds a configuration of Coffee from one context with a tool call."""
    call = {"role": "agent", "api": {"menu": {"query": "tea"}}}
    context = [
        {"role": "user", "text": "tea?"},
        call,
        {"role": "api", "response": {"menu": {"tea": 2}}},
        {"role": "user", "text": "go"},
    ]
    coffee(
        [
            rated_turn("up", context, {"role": "agent", "api": {"order": {"item": "tea"}}}, 1.0),
            rated_turn("down", context, {"role": "agent", "text": "What?"}, 0.0),
        ]
    )
    return lambda config: first_rows("taskmaster_coffee", config, upstream, cache)


def test_ratings_go_to_kto(coffee_rows, tokenizer) -> None:
    rows = coffee_rows("ratings")
    assert is_conversational(rows[0])
    up, down = prepare(KTOTrainer, rows, tokenizer)
    start = '<|user|>tea?<|end|><|assistant|>menu{"query": "tea"}<|end|><|tool|>{"tea": 2}<|end|><|user|>go<|end|>'
    assert said(tokenizer, up["prompt_ids"]) == start + "<|assistant|>"
    assert said(tokenizer, up["completion_ids"]) == 'order{"item": "tea"}<|end|>'
    assert said(tokenizer, down["completion_ids"]) == "What?<|end|>"
    assert (up["label"], down["label"]) == (True, False)


def test_an_empty_context_goes_to_kto(coffee, rated_turn, upstream, cache, tokenizer) -> None:
    coffee([rated_turn(id_, [], {"role": "agent", "text": id_}, reward) for id_, reward in (("a", 1.0), ("b", 0.0))])
    rows = first_rows("taskmaster_coffee", "ratings", upstream, cache)
    assert [said(tokenizer, row["completion_ids"]) for row in prepare(KTOTrainer, rows, tokenizer)] == [
        "a<|end|>",
        "b<|end|>",
    ]


def test_pairs_go_to_dpo_and_reward(coffee_rows, tokenizer) -> None:
    rows = coffee_rows("pairs")
    [row] = prepare(DPOTrainer, rows, tokenizer)
    assert said(tokenizer, row["chosen_ids"]) == 'order{"item": "tea"}<|end|>'
    assert said(tokenizer, row["rejected_ids"]) == "What?<|end|>"
    [row] = prepare(RewardTrainer, rows, tokenizer)
    assert said(tokenizer, row["rejected_ids"]).endswith("<|user|>go<|end|><|assistant|>What?<|end|>")


def test_harmless_goes_to_dpo_and_reward(upstream, cache, write_lines, harmless_pair, tokenizer) -> None:
    write_lines("harmless-base/test.jsonl.gz", [harmless_pair("tea")])
    options = RECORD | {"splits": "test"}
    rows = open_builder("harmless", data_dir=upstream, cache_dir=cache, options=options).load()["test"]
    [row] = prepare(DPOTrainer, rows, tokenizer)
    assert said(tokenizer, row["chosen_ids"]) == "No tea.<|end|>"
    [row] = prepare(RewardTrainer, rows, tokenizer)
    assert said(tokenizer, row["chosen_ids"]).startswith("<|user|>tea?<|end|><|assistant|>What about tea?")


def test_shp_goes_to_dpo(upstream, cache, write_lines, tokenizer) -> None:
    record = {
        **{"post_id": "p", "domain": "askvet_train", "upvote_ratio": 1.0, "history": "q", "c_root_id_A": "a"},
        **{"c_root_id_B": "b", "created_at_utc_A": 2, "created_at_utc_B": 1, "score_A": 2, "score_B": 1},
        **{"human_ref_A": "A", "human_ref_B": "B", "labels": 0, "seconds_difference": 1.0, "score_ratio": 2.0},
    }
    assert "askvet" in DOMAINS
    for split in ("train", "validation", "test"):
        write_lines(f"askvet/{split}.json", [record] if split == "train" else [])
    [row] = prepare(DPOTrainer, first_rows("shp", "askvet", upstream, cache), tokenizer)
    assert said(tokenizer, row["chosen_ids"]) == "B<|end|>"


def test_demonstrations_go_to_sft(upstream, cache, write_lines, write_array, tokenizer) -> None:
    post = {"id": "p", "subreddit": "s", "title": "t", "post": "long", "summary": "short"}
    for name in ("train", "valid", "test"):
        write_lines(f"datasets/tldr_3_filtered/{name}.jsonl", [post] if name == "train" else [])
    rows = first_rows("tldr", "posts", upstream, cache)
    [row] = prepare(SFTTrainer, rows, tokenizer, **SFT)
    assert said(tokenizer, [label for label in row["labels"] if label != -100]) == "short<|end|>"

    call = [("api_call", "menu"), ("request", '{"q": 1}'), ("api_response", "menu"), ("response", "{}")]
    turn = {"index": 0, "speaker": "user", "text": "tea", "segments": []}
    turn["annotations"] = [{"name": name, "value": value, "context": "x"} for name, value in call]
    dialog = {"conversation_id": "d", "vertical": "Coffee", "scenario": "s", "instructions": None, "utterances": [turn]}
    for number in range(8):
        write_array(f"TM-4-2024/data/data_{number:02}.json", [dialog] if number == 0 else [])
    rows = first_rows("taskmaster_coffee", "dialogs", upstream, cache)
    [row] = prepare(SFTTrainer, rows, tokenizer, **SFT)
    assert said(tokenizer, row["input_ids"]) == ('<|user|>tea<|end|><|assistant|>menu{"q": 1}<|end|><|tool|>{}<|end|>')


def test_comparisons_go_to_dpo_and_axis_to_sft(upstream, cache, write_lines, tokenizer) -> None:
    from datasets_builders.tldr import Tldr

    info = {"id": "p", "post": "long", "title": "t", "subreddit": "s"}
    shared = {"info": info, "worker": "w", "batch": "batch9"}
    pair = {
        **shared,
        **{"summaries": [{"text": " a", "policy": "x"}, {"text": " b", "policy": "y"}], "choice": 1},
        **{"split": "train", "extra": {}},
    }
    rated = shared | {"summary": {"text": " a", "policy": "x", "axes": {"overall": 4}}, "split": "test"}
    for config, record in (("comparisons", pair), ("axis", rated)):
        files = {source.path for sources in Tldr.sources_of(config).values() for source in sources}
        for number, path in enumerate(sorted(files)):
            write_lines(path, [record] if number == 0 else [])
    [row] = prepare(DPOTrainer, first_rows("tldr", "comparisons", upstream, cache), tokenizer)
    assert said(tokenizer, row["chosen_ids"]) == "b<|end|>"
    rows = first_rows("tldr", "axis", upstream, cache)
    [row] = prepare(SFTTrainer, rows, tokenizer, **SFT)
    assert said(tokenizer, row["input_ids"]).endswith("TL;DR:<|end|><|assistant|>a<|end|>")


def test_prompts_are_what_online_trainers_render(upstream, cache, tokenizer) -> None:
    # Online trainers prepare nothing ahead: they render the prompt when they sample.
    from trl.data_utils import maybe_apply_chat_template

    body = '<message id="m0" time="t" participant="1"><body>hi</body></message>'
    path = upstream / "data" / "x.conv.xml"
    path.parent.mkdir()
    path.write_text(f'<conversation id="x" medium="SMS" donated="false"><messages>{body}</messages></conversation>')
    [row] = first_rows("bolt", "messages", upstream, cache)
    rendered = maybe_apply_chat_template(row, tokenizer)["prompt"]
    assert rendered == "<|user|>CONVERSATION:\nA: hi\n\nTL;DR:<|end|><|assistant|>"


@pytest.fixture
def vqa(upstream) -> None:
    """Write one question on a photograph."""
    given = ["tea"] * 7 + ["milk"] * 3
    answers = [{"answer": a, "answer_confidence": "yes", "answer_id": at} for at, a in enumerate(given, 1)]
    asked = {"image_id": 7, "question": "What?", "question_id": 7000}
    noted = {"image_id": 7, "question_id": 7000, "question_type": "what", "answer_type": "other"}
    noted |= {"multiple_choice_answer": "tea", "answers": answers}
    for name, key, rows in (
        ("v2_OpenEnded_mscoco_train2014_questions.json", "questions", [asked]),
        ("v2_mscoco_train2014_annotations.json", "annotations", [noted]),
    ):
        (upstream / name).write_text(json.dumps({"data_subtype": "train2014", key: rows}))


@pytest.mark.usefixtures("vqa")
def test_questions_without_photographs_go_to_sft_kto_and_dpo(upstream, cache, tokenizer) -> None:
    asked = "<|user|>What?\nAnswer with one word or a short phrase.<|end|>"
    [row] = prepare(SFTTrainer, first_rows("vqav2", "questions", upstream, cache), tokenizer, **SFT)
    assert said(tokenizer, row["input_ids"]) == f"{asked}<|assistant|>tea<|end|>"
    better, poorer = prepare(KTOTrainer, first_rows("vqav2", "ratings", upstream, cache), tokenizer)
    assert [said(tokenizer, one["completion_ids"]) for one in (better, poorer)] == ["tea<|end|>", "milk<|end|>"]
    assert (better["label"], poorer["label"]) == (True, False)
    [row] = prepare(DPOTrainer, first_rows("vqav2", "pairs", upstream, cache), tokenizer)
    assert (said(tokenizer, row["chosen_ids"]), said(tokenizer, row["rejected_ids"])) == ("tea<|end|>", "milk<|end|>")


def test_steps_without_screenshots_go_to_sft_and_kto(upstream, cache, write_lines, tokenizer) -> None:
    actions = [json.dumps({"action_type": "open_app", "app_name": "Clock"}), json.dumps({"action_type": "wait"})]
    episode = {"episode_id": 1, "goal": "an alarm", "actions": actions, "step_instructions": ["open it", "wait"]}
    write_lines("test_text_side.jsonl", [episode | {"candidate_bboxes": [[], []]}])
    first, _ = prepare(SFTTrainer, first_rows("android_control", "steps_text", upstream, cache), tokenizer, **SFT)
    taken = '{"action_type": "open_app", "app_name": "Clock"}<|end|>'
    assert said(tokenizer, [label for label in first["labels"] if label != -100]) == taken
    right, wrong, *_ = prepare(KTOTrainer, first_rows("android_control", "ratings_text", upstream, cache), tokenizer)
    assert said(tokenizer, right["completion_ids"]) == taken != said(tokenizer, wrong["completion_ids"])
    assert (right["label"], wrong["label"]) == (True, False)


def test_dialogs_of_ticketing_go_to_sft(upstream, cache, write_array, tokenizer) -> None:
    api = {"name": "find", "index": 0, "args": {"name.movie": "It"}, "response": {"time": "8pm"}}
    turn = {"index": 0, "speaker": "user", "text": "It", "apis": [api]}
    dialog = {"conversation_id": "d", "vertical": "v", "scenario": "s", "instructions": "i", "utterances": [turn]}
    for number in range(20):
        write_array(f"TM-3-2020/data/data_{number:02}.json", [dialog] if number == 0 else [])
    [row] = prepare(SFTTrainer, first_rows("taskmaster_ticketing", "dialogs", upstream, cache), tokenizer, **SFT)
    assert said(tokenizer, row["input_ids"]) == (
        '<|user|>It<|end|><|assistant|>find{"name.movie": "It"}<|end|><|tool|>{"time": "8pm"}<|end|>'
    )
