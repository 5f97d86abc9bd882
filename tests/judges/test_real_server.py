"""Judging through a real server: ``transformers serve`` on models made on the spot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from perl_eval.client.ledger import Ledger
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judges.backends.decisions import DecisionJudge, DecisionOptions
from perl_eval.judges.backends.local import open_local
from perl_eval.judges.protocol import Judge
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.judging.outcome_of import Contestants, judgements
from perl_eval.records import Completion, Judgement, Message

pytestmark = pytest.mark.slow
STARTS_S = 120.0


def contest(count: int) -> list[Contestants]:
    def completion(side: str, number: int, text: str) -> Completion:
        prompt = (Message("user", f"order {number}, please"),)
        return Completion(f"{side}{number}", str(number), "g", "d", side, prompt, text, "stop", 0)

    return [
        (completion("a", number, "one flat white " * (1 + number % 3)), completion("b", number, "two espressos"))
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_models.tokenizer_of_a_judge()


def saved(folder: Path, tokenizer: Any, *, says: str | None) -> Path:
    """Write a model of random weights; or one that, whatever it is asked, says one word and stops."""
    model = tiny_models.decided(tokenizer, hidden_size=64, num_hidden_layers=1, eos_token_id=tokenizer.eos_token_id)
    if says is not None:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], add_generation_prompt=True, return_dict=False
        )
        (word,) = tokenizer.encode(says, add_special_tokens=False)
        with torch.no_grad():
            # Layers that add nothing leave the last token's embedding, so one token follows another like links.
            for layer in model.model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            embeddings = model.get_input_embeddings().weight
            model.lm_head.weight.zero_()
            model.lm_head.weight[word] = embeddings[asked[-1]]
            model.lm_head.weight[tokenizer.eos_token_id] = embeddings[word]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Start the server, which loads whatever model it is asked for, and yield its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    program = "from transformers.cli.transformers import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + STARTS_S
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until_s, "the server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def judged(by: Judge, folder: Path, count: int = 6) -> list[Judgement]:
    folder.mkdir(exist_ok=True)
    options = AskOptions(max_concurrency=2, attempts=2)
    with Ledger(folder / "ledger.sqlite") as ledger:
        return list(
            judgements(
                contest(count),
                by,
                prompting.load("dialogue"),
                put=lambda questions: ask(questions, by, ledger, options=options),
            )
        )


@pytest.mark.parametrize(("says", "verdict"), [("A", "first"), ("B", "second")])
def test_a_model_behind_chat_is_judged_by_what_it_says(
    url: str, tokenizer: Any, tmp_path: Path, says: str, verdict: str
) -> None:
    name = str(saved(tmp_path / "model", tokenizer, says=says))
    rows = judged(ChatJudge(name, ChatOptions(base_url=url, max_tokens=8)), tmp_path, 3)
    assert [row.outcome for row in rows] == ["split"] * 3
    for ballot in (ballot for row in rows for ballot in row.ballots):
        assert (ballot.verdict, ballot.raw.strip()) == (verdict, says)
        assert name in ballot.model
        assert ballot.tokens_in > 100
        assert 1 <= ballot.tokens_out <= 2


def test_a_model_that_babbles_is_unjudged_with_a_reason(url: str, tokenizer: Any, tmp_path: Path) -> None:
    name = str(saved(tmp_path / "model", tokenizer, says=None))
    for row in judged(ChatJudge(name, ChatOptions(base_url=url, max_tokens=4)), tmp_path, 2):
        assert row.outcome == "unjudged"
        assert "cut off" in str(row.reason) or "no verdict" in str(row.reason)


@pytest.mark.parametrize("tie", [False, True])
def test_the_local_door_gives_the_probabilities_of_the_server(
    url: str, tokenizer: Any, tmp_path: Path, tie: bool
) -> None:
    folder = saved(tmp_path / "model", tokenizer, says=None)
    options = DecisionOptions(form="systemone", base_url=url, tie=tie)
    served = judged(DecisionJudge(str(folder), options), tmp_path / "served")
    local = judged(open_local(folder, tie=tie), tmp_path / "local")
    chances = [ballot.p_first for row in served for ballot in row.ballots]
    assert None not in chances
    assert len({round(chance, 3) for chance in chances if chance is not None}) > 3
    assert [ballot.p_first for row in local for ballot in row.ballots] == pytest.approx(chances, abs=1e-4)
    assert [row.outcome for row in local] == [row.outcome for row in served]
    assert {ballot.model for row in served for ballot in row.ballots} == {str(folder)}
