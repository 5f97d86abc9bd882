"""Sampling from a server: one that is made up and fails on demand, and `transformers serve`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import serving
import tiny_models
from fake_server import Body, FakeServer
from fake_server import serving as running

from perl_eval.errors import Unfinished, UserError
from perl_eval.models.generate import item_seed
from perl_eval.records import Completion
from perl_eval.sampling import in_process, server
from perl_eval.sampling.server import ServerOptions
from perl_eval.storage import run_folder
from perl_eval.training import sft

KEY = "sk-planted-9876543210-never-to-be-seen"
QUICK = ServerOptions(draws=3, max_concurrency=8, attempts=8, backoff_s=0.01, timeout_s=5.0, max_new_tokens=4)


@dataclass
class Answering(FakeServer):
    """A server that says the seed back, as two tokens of log-probability -0.5 and -0.25."""

    answer: Callable[[Body], str] = lambda body: f" seed {body.get('seed')} "
    listed: int = 2
    tool_call: bool = False

    def _completion(self, body: Body, *, empty: bool) -> Body:
        reply = super()._completion(body, empty=empty)
        choice = reply["choices"][0]
        if self.tool_call:
            call = {"type": "function", "id": "1", "function": {"name": "brew", "arguments": '{"size": "large"}'}}
            choice["message"] |= {"content": None, "tool_calls": [call]}
        values = [-0.5, -0.25, -9.0][: self.listed]
        choice["logprobs"] = (
            {"content": [{"token": "x", "logprob": v} for v in values]} if body.get("logprobs") else None
        )
        return reply


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 20))


def sampled(fake: FakeServer, data: Path, out: Path, options: ServerOptions = QUICK, **more: Any) -> list[Completion]:
    return run_folder.read(server.run(fake.url, "lora-7", data, out, options=options, **more), Completion)


def test_every_draw_is_asked_once_with_its_own_seed(data: Path, tmp_path: Path) -> None:
    with running(Answering()) as fake:
        found = sampled(fake, data, tmp_path / "out", seed=5)
    assert len(found) == len({one.id for one in found}) == len(fake.requests) == 60
    for one in found:
        assert one.text == f"seed {item_seed(5, one.item, one.draw) % 2**31}"
        assert (one.policy, one.finish, one.token_ids, one.prior_logprob) == ("lora-7", "stop", (), None)
        assert one.logprob == -0.75
    body = fake.requests[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("lora-7", 4, 1.0)
    assert body["messages"][0]["content"].startswith("paint")


def test_prompts_ids_and_order_are_those_of_a_model_here(data: Path, tmp_path: Path) -> None:
    here = in_process.run(
        tiny_models.save_blank(tmp_path / "m"),
        data,
        tmp_path / "here",
        options=in_process.SampleOptions(name="p", draws=3, limit=7, max_new_tokens=2, max_tokens=40),
    )
    with running(Answering()) as fake:
        found = sampled(fake, data, tmp_path / "out", replace(QUICK, name="p", limit=7))
    names = [(one.id, one.item, one.draw, one.group, one.prompt) for one in found]
    assert names == [(one.id, one.item, one.draw, one.group, one.prompt) for one in run_folder.read(here, Completion)]


def test_faults_change_nothing_and_no_key_is_kept(data: Path, tmp_path: Path) -> None:
    with running(Answering()) as fake:
        smooth = sampled(fake, data, tmp_path / "smooth")
    with running(Answering(fault_rate=0.4, faults=("429", "500", "drop", "half_json"))) as fake:
        rough = sampled(fake, data, tmp_path / "rough")
    assert rough == smooth
    card = run_folder.read_card(tmp_path / "rough")
    assert card is not None
    assert card.notes["asking"]["retries"] > 5
    assert set(fake.answered.values()) == {1}
    kept = [path.read_bytes() for path in (tmp_path / "rough").iterdir()]
    assert not any(KEY.encode() in content for content in kept)


@pytest.mark.parametrize(
    ("knobs", "options", "expected"),
    [
        ({}, QUICK, -0.75),
        ({"listed": 0}, QUICK, None),  # the server gives none
        ({"listed": 1}, QUICK, None),  # it leaves one of two tokens out
        ({}, replace(QUICK, temperature=0.7), None),  # it would be that of another temperature
        ({"complaint": lambda body: "logprobs is not allowed" if "logprobs" in body else None}, QUICK, None),
    ],
)
def test_log_probabilities_are_whole_or_none(
    knobs: dict[str, Any], options: ServerOptions, expected: float | None, data: Path, tmp_path: Path
) -> None:
    with running(Answering(**knobs)) as fake:
        found = sampled(fake, data, tmp_path / "out", options)
    assert {one.logprob for one in found} == {expected}


def test_what_a_server_does_not_take_is_left_out_and_noted(data: Path, tmp_path: Path) -> None:
    def complaint(body: Body) -> str | None:
        if "max_tokens" in body:
            return "use 'max_completion_tokens' instead"
        return "unknown field seed" if "seed" in body else None

    with running(Answering(complaint=complaint)) as fake:
        found = sampled(fake, data, tmp_path / "out", replace(QUICK, max_concurrency=1))
    assert {one.text for one in found} == {"seed None"}
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.notes["not_taken"] == ["seed"]
    assert fake.requests[-1]["max_completion_tokens"] == 4


def test_tool_calls_refusals_and_cut_completions_are_text(data: Path, tmp_path: Path) -> None:
    with running(Answering(tool_call=True)) as fake:
        found = sampled(fake, data, tmp_path / "tools", replace(QUICK, limit=1))
    assert json.loads(found[0].text) == {"name": "brew", "arguments": '{"size": "large"}'}
    with running(Answering(finish=lambda _: "length")) as fake:
        found = sampled(fake, data, tmp_path / "long", replace(QUICK, limit=1))
    assert {one.finish for one in found} == {"length"}


def test_prompts_that_are_refused_stay_without_a_completion(data: Path, tmp_path: Path) -> None:
    def complaint(body: Body) -> str | None:
        return "this prompt is too long" if body["messages"][0]["content"].endswith(("1", "2", "3", "4")) else None

    with running(Answering(complaint=complaint)) as fake:
        found = sampled(fake, data, tmp_path / "out")
    refused = [row for row in tiny_models.prompts(1, 20) if row["prompt"][0]["content"][-1] in "1234"]
    assert 0 < len(refused) < 20
    assert len(found) == 60 - 3 * len(refused)
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.notes["unanswered"] == 3 * len(refused)
    assert all("too long" in reason for reason in card.notes["unanswered_examples"].values())
    with running(Answering(complaint=lambda _: "no")) as fake, pytest.raises(UserError, match="refused all of 20"):
        sampled(fake, data, tmp_path / "none")
    with running(Answering(complaint=lambda _: "no")) as fake, pytest.raises(UserError, match="refused every prompt"):
        sampled(fake, data, tmp_path / "few", replace(QUICK, limit=2))


def test_a_server_that_stays_away_ends_the_run_and_the_next_goes_on(data: Path, tmp_path: Path) -> None:
    with running(Answering(fault=lambda body, _: "500" if body["seed"] % 4 == 0 else None)) as fake:
        with pytest.raises(Unfinished, match=r"completions had no answer, lastly: 500.*continues from here"):
            sampled(fake, data, tmp_path / "out", replace(QUICK, attempts=2, max_concurrency=2))
        port, had = fake.port, len(fake.answered)
    assert not (tmp_path / "out" / run_folder.CARD).exists()
    assert 0 < had < 60
    with running(Answering(port=port)) as fake:
        assert len(sampled(fake, data, tmp_path / "out", replace(QUICK, attempts=2, max_concurrency=2))) == 60
    assert sum(fake.answered.values()) == 60 - had


def test_a_wrong_key_address_or_model_is_one_line(data: Path, tmp_path: Path) -> None:
    for status in ("401", "404"):
        with (
            running(Answering(fault=lambda *_, status=status: status)) as fake,
            pytest.raises(UserError, match=rf"server answered {status}.*check key, address and model") as caught,
        ):
            sampled(fake, data, tmp_path / status)
        assert KEY not in str(caught.value)
    with pytest.raises(UserError, match="give an http address"):
        server.run("ftp://x", "m", data, tmp_path / "ftp", options=QUICK)
    for wrong in ({"draws": 0}, {"temperature": -1.0}, {"max_concurrency": 0}, {"limit": -1}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            replace(QUICK, **wrong)


def test_what_was_killed_goes_on_and_nothing_kept_is_asked_again(tmp_path: Path) -> None:
    """A kill loses what is on its way and what came in the last quarter of a second, and nothing else."""
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(2, 150))
    count = len({row["prompt"][0]["content"] for row in tiny_models.prompts(2, 150)})
    words = ["sample", "--model", "m", "--data", str(data), "--out", str(tmp_path / "out"), "--max-concurrency", "4"]
    with running(Answering(latency_s=0.05)) as fake:
        command = [sys.executable, "-c", "from perl_eval.cli import main; main()", *words, "--server", fake.url]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
        while sum(fake.answered.values()) < count // 2:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        time.sleep(0.2)
        asked_before = len(fake.requests)
        fake.latency_s = 0.0
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    kept = card.notes["asking"]["from_ledger"]
    # A quarter of a second is 5 rounds of 4 requests; 4 more were on their way.
    assert asked_before - kept <= 6 * 4 + 4
    assert len(fake.requests) - asked_before == count - kept
    assert len(run_folder.read(tmp_path / "out", Completion)) == count


def _trained(folder: Path) -> Path:
    """Return a model that has learned to answer in words, not in marks that a server leaves out."""
    data = tiny_models.write_rows(folder / "sft", train=tiny_models.demonstrations(3, 150))
    blank = tiny_models.save_blank(folder / "blank")
    options = sft.SftOptions(str(blank), epochs=20.0, batch=32, learning_rate=1e-2, max_tokens=40)
    return sft.run(data, folder / "model", options=options)


@pytest.mark.slow
def test_transformers_serve_answers_as_the_model_does_here(data: Path, tmp_path: Path) -> None:
    """The likeliest tokens do not depend on who runs the model; with a seed, one request at a time, draws repeat."""
    model = _trained(tmp_path)
    place = model / "generation_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "do_sample": True}))  # or it ignores the temperature
    (model / run_folder.CARD).unlink()
    local = in_process.SampleOptions(name="m", limit=6, temperature=0.0, max_new_tokens=5, max_tokens=40)
    here = run_folder.read(in_process.run(model, data, tmp_path / "here", options=local), Completion)
    options = ServerOptions(name="m", limit=6, temperature=0.0, max_new_tokens=5, max_concurrency=1)
    with serving.transformers_serve(model) as url:
        there = run_folder.read(server.run(url, str(model), data, tmp_path / "there", options=options), Completion)
        assert [(one.id, one.text) for one in there] == [(one.id, one.text) for one in here]
        drawn = replace(options, temperature=1.0, draws=3)
        found = [
            run_folder.read(server.run(url, str(model), data, tmp_path / name, options=drawn, seed=seed), Completion)
            for name, seed in (("one", 1), ("two", 1), ("three", 2))
        ]
    assert found[0] == found[1]
    assert [one.text for one in found[0]] != [one.text for one in found[2]]
    assert len({one.text for one in found[0]}) > 6
    assert {one.logprob for one in found[0]} == {None}


def test_thoughts_are_kept_apart_from_what_is_said(data: Path, tmp_path: Path) -> None:
    """In a tag of the text, or in a field of their own: either way an answer is what was said."""

    class Thinking(Answering):
        def _completion(self, body: Body, *, empty: bool) -> Body:
            reply = super()._completion(body, empty=empty)
            message = reply["choices"][0]["message"]
            if int(body["seed"]) % 2:
                message["content"] = f"<think>hm, {body['seed']}?</think>\n\nWe open at <b>nine</b>."
            else:
                message |= {"content": "We open at <b>nine</b>.", "reasoning_content": f"hm, {body['seed']}?"}
            return reply

    with running(Thinking()) as fake:
        found = sampled(fake, data, tmp_path / "out")
    assert {one.text for one in found} == {"We open at <b>nine</b>."}
    assert {one.thought for one in found} == {f"hm, {body['seed']}?" for body in fake.requests}


@pytest.mark.parametrize("reason", ["MAX_TOKENS", "max_tokens", "model_length"])
def test_a_completion_cut_off_is_cut_off_whatever_the_server_calls_it(data: Path, tmp_path: Path, reason: str) -> None:
    with running(Answering(finish=lambda _: reason)) as fake:
        assert {one.finish for one in sampled(fake, data, tmp_path / "out")} == {"length"}


def test_a_completion_that_ends_for_an_unknown_reason_is_cut_off_noted_and_paid_once(
    data: Path, tmp_path: Path
) -> None:
    with running(Answering(finish=lambda _: "whatever")) as fake:
        assert {one.finish for one in sampled(fake, data, tmp_path / "out")} == {"length"}
        assert len(fake.requests) == 60
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    (line,) = card.notes["noted"]["server"]
    assert "ends replies with 'whatever'" in line


def test_a_server_that_cuts_prompts_is_noted(tmp_path: Path) -> None:
    long = [tiny_models.row(f"q{place}", "word " * 1000 + str(place)) for place in range(3)]
    data = tiny_models.write_rows(tmp_path / "data", test=long)
    with running(Answering()) as fake:
        server.run(fake.url, "lora-7", data, tmp_path / "out", options=QUICK)
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    (line,) = card.notes["noted"]["server"]
    assert "100 tokens in a prompt of 5,001 characters: it cuts prompts" in line


def test_a_server_that_forbids_log_probabilities_is_asked_without_them(data: Path, tmp_path: Path) -> None:
    class Forbidding(Answering):
        async def _write(self, writer: Any, status: int, body: Body, headers: dict[str, str]) -> bool:
            if status == 200 and "logprobs" in self.requests[-1]:
                error = {"message": "You are not allowed to request logprobs from this model"}
                return await super()._write(writer, 403, {"error": error}, headers)
            return await super()._write(writer, status, body, headers)

    with running(Forbidding()) as fake:
        found = sampled(fake, data, tmp_path / "out", replace(QUICK, max_concurrency=1))
    assert len(found) == 60
    assert {one.logprob for one in found} == {None}
    assert sum("logprobs" in body for body in fake.requests) == 1
    card = run_folder.read_card(tmp_path / "out")
    assert card is not None
    assert card.notes["not_taken"] == ["logprobs"]
