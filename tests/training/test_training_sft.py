"""Supervised fine-tuning: what it learns, what it writes, and that a killed run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.errors import UserError
from perl_eval.models.backbone import LoraShape, open_backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.tokenize import encode_dialogue, encode_prompt
from perl_eval.records import Measurement, Message
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training import sft


def curve(folder: Path, metric: str) -> list[float]:
    return [point.value for point in run_folder.read(folder, Measurement) if point.metric == metric]


def test_the_model_says_what_the_rows_say(prior: Path) -> None:
    backbone = open_backbone(prior)
    ids = encode_prompt(backbone.tokenizer, (Message("user", "paint 7"),), max_tokens=20)
    rollouts = generate(backbone, [ids] * 200, list(range(200)), Sampling(1.0, 8))
    said = [backbone.tokenizer.decode(rollout.ids[:-1]).split() for rollout in rollouts]
    right = [set(words) <= set(tiny_models.COLOURS) and 1 <= len(words) <= 3 for words in said]
    assert sum(right) > 100  # of an untrained model: none
    assert sum(rollout.finished for rollout in rollouts) > 100
    assert {len(words) for words in said} >= {1, 2, 3}


def test_the_loss_falls_to_the_entropy_of_the_rows(prior: Path) -> None:
    """The rows' own entropy is log 3 (how many) and 2 log 4 (which colours) over some tokens each: a floor."""
    losses = curve(prior, "loss")
    assert losses[0] > 5.0  # log 282, nothing known yet
    assert curve(prior, "validation loss")[-1] < 0.25 * losses[0]


def test_the_first_loss_is_that_of_plain_transformers(blank: Path, demonstrations: Path, prior: Path) -> None:
    """Transformers' own loss with labels -100 off the answer, on the batch of the first step."""
    from transformers import AutoModelForCausalLM

    backbone = open_backbone(blank)
    encoded = [
        encode_dialogue(backbone.tokenizer, row.prompt, row.completion or (), max_tokens=32)
        for row in rows.read(demonstrations, "train")
    ]
    batch = [encoded[place] for place in batch_of_step([len(row.ids) for row in encoded], 0, size=16, seed=0)]
    length = max(len(row.ids) for row in batch)
    ids, labels = torch.zeros(16, length, dtype=torch.long), torch.full((16, length), -100)
    live = torch.zeros(16, length, dtype=torch.long)
    for place, row in enumerate(batch):
        answer = len(row.ids) - sum(row.trained)
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        live[place, : len(row.ids)] = 1
        labels[place, answer : len(row.ids)] = ids[place, answer : len(row.ids)]
    model = AutoModelForCausalLM.from_pretrained(blank)
    with torch.no_grad():
        expected = float(model(input_ids=ids, attention_mask=live, labels=labels).loss)
    assert curve(prior, "loss")[0] == pytest.approx(expected, abs=1e-5)


def test_the_best_validation_weights_are_written(prior: Path, demonstrations: Path) -> None:
    card = run_folder.read_card(prior)
    assert card is not None
    points = [point for point in run_folder.read(prior, Measurement) if point.metric == "validation loss"]
    best = min(points, key=lambda point: point.value)
    assert card.notes["best step"] == best.step
    backbone = open_backbone(prior)
    total, count = 0.0, 0
    for row in rows.read(demonstrations, "validation"):
        encoded = encode_dialogue(backbone.tokenizer, row.prompt, row.completion or (), max_tokens=32)
        ids = torch.tensor([encoded.ids])
        with torch.no_grad():
            table = torch.log_softmax(backbone.causal(input_ids=ids).logits[0, :-1], -1)
        chosen = [place for place, trained in enumerate(encoded.trained[1:]) if trained]
        total -= sum(float(table[place, encoded.ids[place + 1]]) for place in chosen)
        count += len(chosen)
    assert total / count == pytest.approx(best.value, abs=1e-4)


def test_what_is_written(prior: Path) -> None:
    suffixes = {path.suffix for path in prior.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".parquet", ".jinja", ".md"}
    card = run_folder.read_card(prior)
    assert card is not None
    assert card.outputs.keys() >= {"model.safetensors", "config.json", "tokenizer.json", "curve.parquet"}
    assert card.notes["parameters"] == sum(p.numel() for p in open_backbone(prior).causal.parameters())
    assert not (prior / ".checkpoint").exists()


def test_the_starting_model_is_an_input(prior: Path, blank: Path, demonstrations: Path) -> None:
    card = run_folder.read_card(prior)
    assert card is not None
    assert card.inputs.keys() == {str(blank), str(demonstrations)}


def test_a_second_call_does_nothing(prior: Path, blank: Path, demonstrations: Path) -> None:
    before = (prior / "model.safetensors").stat().st_mtime_ns
    options = sft.SftOptions(model=str(blank), epochs=6, batch=16, learning_rate=1e-2, max_tokens=32)
    assert sft.run(demonstrations, prior, options=options) == prior
    assert (prior / "model.safetensors").stat().st_mtime_ns == before


_CHILD = """
import functools, sys, torch
from pathlib import Path
from perl_eval.training import sft
torch.set_num_threads(1)
sft.LoopOptions = functools.partial(sft.LoopOptions, checkpoint_every_s=0)
blank, data, out = sys.argv[1:]
options = sft.SftOptions(model=blank, epochs=6, batch=16, learning_rate=1e-2, max_tokens=32)
sft.run(Path(data), Path(out), options=options)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_run_killed_in_another_process_ends_with_the_same_weights(
    tmp_path: Path, prior: Path, blank: Path, demonstrations: Path
) -> None:
    out = tmp_path / "killed"
    arguments = [sys.executable, "-c", _CHILD, str(blank), str(demonstrations), str(out)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        until_s = time.monotonic() + 60
        while not (out / ".checkpoint" / "state.safetensors").is_file():
            assert child.poll() is None, "the child ended before its first checkpoint"
            assert time.monotonic() < until_s
            time.sleep(0.01)
        time.sleep(0.15)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    assert not (out / "run.json").exists()
    options = sft.SftOptions(model=str(blank), epochs=6, batch=16, learning_rate=1e-2, max_tokens=32)
    sft.run(demonstrations, out, options=options)
    assert (out / "model.safetensors").read_bytes() == (prior / "model.safetensors").read_bytes()
    assert run_folder.read(out, Measurement) == run_folder.read(prior, Measurement)


def test_a_model_from_nothing(tmp_path: Path) -> None:
    data = tiny_models.write_rows(tmp_path / "data", train=tiny_models.demonstrations(0, 12))
    out = sft.run(data, tmp_path / "out", options=sft.SftOptions("scratch:tiny", epochs=1, batch=8), seed=3)
    card = run_folder.read_card(out)
    assert card is not None
    assert card.inputs.keys() == {str(data)}
    assert card.notes["steps"] == 2  # 12 rows in batches of 8, one epoch, rounded
    assert card.notes["best step"] == 1
    assert "validation loss" not in {point.metric for point in run_folder.read(out, Measurement)}


def test_requests_that_cannot_be_served(tmp_path: Path, blank: Path, demonstrations: Path) -> None:
    backbone = open_backbone(blank)
    backbone.attach("policy", LoraShape(2), seed=0)
    backbone.save("policy", tmp_path / "policy")
    for model, message in (
        ("scratch:huge", "choose one of tiny"),
        (str(tmp_path / "none"), "no such file or folder"),
        (str(tmp_path / "policy"), "is an adapter"),
    ):
        with pytest.raises(UserError, match=message):
            sft.run(demonstrations, tmp_path / "out", options=sft.SftOptions(model))
        for left in (tmp_path / "out").glob(".*"):
            left.unlink()
    with pytest.raises(UserError, match="max_tokens is 1; raise it"):
        sft.run(demonstrations, tmp_path / "short", options=sft.SftOptions(str(blank), max_tokens=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0; give at least 1"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"epochs": 0.0}, "epochs is 0.0; give a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sft.SftOptions(**options)


def test_what_is_cut_is_said_and_on_the_card(
    blank: Path, demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompt and template take 13 tokens or more here: at 14 most rows lose part of their answer."""
    options = sft.SftOptions(model=str(blank), epochs=0.1, batch=16, max_tokens=14, limit=40)
    card = run_folder.read_card(sft.run(demonstrations, tmp_path / "cut", options=options))
    assert card is not None
    assert card.notes["texts"] == 40 + 60
    assert 0 < card.notes["texts cut"] <= 100
    assert card.notes["tokens of the longest text"] > 14
    assert f"warning: {card.notes['texts cut']} of 100 dialogues" in capsys.readouterr().err
    auto = sft.SftOptions(model=str(blank), epochs=0.1, batch=16, max_tokens=0, limit=40)
    card = run_folder.read_card(sft.run(demonstrations, tmp_path / "auto", options=auto))
    assert card is not None
    assert (card.notes["texts cut"], card.notes["max tokens"]) == (0, card.notes["tokens of the longest text"])
    assert "cut" not in capsys.readouterr().err


def test_rows_without_an_answer_are_left_out_and_said(
    blank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = tiny_models.row("e", "x", completion=tiny_models.turns("assistant", " "))
    data = tiny_models.write_rows(tmp_path / "data", train=[*tiny_models.demonstrations(1, 20), silent])
    options = sft.SftOptions(model=str(blank), epochs=1, batch=32, max_tokens=32)
    card = run_folder.read_card(sft.run(data, tmp_path / "out", options=options))
    assert card is not None
    assert (card.notes["rows"], card.notes["rows left out"]) == (20, 1)
    assert "1 rows without an answer are left out" in capsys.readouterr().err
