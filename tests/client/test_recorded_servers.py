"""What real servers of other projects sent, byte for byte, and what is made of it.

Each folder of ``recorded`` is one server in one version, each file one reply as it came over the wire, head and all.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, serving

from perl_eval.client.ledger import Ledger
from perl_eval.client.usage import Usage
from perl_eval.errors import UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.records import Ballot, Completion, Message, Question

RECORDED = Path(__file__).with_name("recorded")
QUICK = AskOptions(max_concurrency=1, attempts=2, backoff_s=0.001, patience_s=0.01)


@dataclass
class Recorded(FakeServer):
    """Answers the n-th request with the n-th recorded reply, and the last one for ever."""

    replies: list[bytes] = field(default_factory=list)

    async def respond(self, head: str, content: bytes, writer: asyncio.StreamWriter) -> bool:
        self.requests.append(json.loads(content))
        self.headers.append(head)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        writer.write(reply)
        await writer.drain()
        return b"connection: close" not in reply.partition(b"\r\n\r\n")[0].lower()


@dataclass(frozen=True)
class Heard:
    """What came of it: ballots, what the judge noted of the server, what was counted, and what was sent."""

    ballots: list[Ballot]
    noted: dict[str, Any]
    tally: Usage
    sent: list[dict[str, Any]]


def questions(count: int, prompt: str) -> list[Question]:
    template = prompting.load(prompt)

    def shown(number: int, side: str) -> Completion:
        asked = (Message("user", f"order {number}"),)
        return Completion(f"{number}{side}", str(number), "g", "d", side, asked, f"answer {side}", "stop", 0)

    sides, order = ("ab", "ab") if template.kind == "pairwise" else ("a", "none")
    return [
        prompting.question(template, [shown(n, side) for side in sides], order=order, id=str(n))  # type: ignore[arg-type]
        for n in range(count)
    ]


def heard(
    folder: Path,
    *names: str,
    model: str = "tiny",
    prompt: str = "dialogue",
    count: int = 1,
    asking: AskOptions = QUICK,
    **options: Any,
) -> Heard:
    """Ask a judge behind a server that sends recorded replies."""
    tally = Usage()
    replies = [(RECORDED / f"{name}.http").read_bytes() for name in names]
    with serving(Recorded(replies=replies)) as server, Ledger(folder / "ledger.sqlite") as ledger:
        judge = ChatJudge(model, ChatOptions(base_url=server.url, timeout_s=5.0, **options))
        ballots = list(ask(questions(count, prompt), judge, ledger, options=asking, tally=tally))
    return Heard(ballots, dict(judge.noted), tally, server.requests)


LITELLM = "litellm-1.108.7"


def test_litellm_answers_in_text_and_json(tmp_path: Path) -> None:
    plain = heard(tmp_path, f"{LITELLM}/text", model="mock-a")
    (ballot,) = plain.ballots
    assert (ballot.verdict, ballot.model, ballot.tokens_in, ballot.tokens_out) == ("first", "mock-a", 10, 20)
    (ballot,) = heard(tmp_path, f"{LITELLM}/json", model="mock-json", structured=True).ballots
    assert ballot.verdict == "first"


def test_log_probabilities_that_litellm_leaves_out_are_missed_aloud(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LITELLM}/text", model="mock-a", logprobs=True)
    assert (found.ballots[0].verdict, found.ballots[0].p_first) == ("first", None)
    assert found.noted == {"server": ["the server takes logprobs and gives none: there are no probabilities"]}


@pytest.mark.parametrize(("name", "said"), [("no-such-model", "Invalid model name"), ("wrong-key", "No connected db")])
def test_a_wrong_model_or_key_that_litellm_calls_a_bad_request_ends_the_run(
    tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(UserError, match=rf"the server answered 400: .*{said}.*; check key, address and model"):
        heard(tmp_path, f"{LITELLM}/{name}")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert len(ledger) == 0


def test_what_litellm_does_not_pass_on_is_left_out(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LITELLM}/logprobs-refused", f"{LITELLM}/text", model="mock-a", count=2, logprobs=True)
    assert [ballot.verdict for ballot in found.ballots] == ["first"] * 2
    assert found.noted == {"not_taken": ["logprobs", "top_logprobs"]}
    assert (found.tally.requests, ["logprobs" in body for body in found.sent]) == (3, [True, False, False])


@pytest.mark.parametrize(("name", "status"), [("rate-limit", "429"), ("no-backend", "500")])
def test_what_can_pass_at_litellm_is_asked_again(tmp_path: Path, name: str, status: str) -> None:
    found = heard(tmp_path, f"{LITELLM}/{name}", f"{LITELLM}/text", model="mock-a")
    assert (found.ballots[0].verdict, found.tally.retries) == ("first", 1)
    for_good = heard(tmp_path / "again", f"{LITELLM}/{name}")
    assert status in str(for_good.tally.stopped or for_good.ballots[0].reason)


def test_a_prompt_that_is_too_long_is_that_question_s_reason(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LITELLM}/text", f"{LITELLM}/too-long", model="mock-a", count=2)
    assert [ballot.verdict for ballot in found.ballots] == ["first", None]
    assert "ContextWindowExceededError" in str(found.ballots[1].reason)


def test_a_refusal_of_all_questions_alike_is_about_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tiny refused all of 4 questions: 400: litellm\.ContextWindow"):
        heard(tmp_path, f"{LITELLM}/too-long", count=4)
    assert heard(tmp_path, f"{LITELLM}/too-long", count=3).ballots[2].verdict is None


LLAMA = "llama.cpp-b11549"


def test_llama_cpp_follows_a_schema(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LLAMA}/json", model="smol", structured=True)
    (ballot,) = found.ballots
    assert (ballot.verdict, ballot.tokens_in, ballot.tokens_out, found.noted) == ("first", 389, 19, {})
    (ballot,) = heard(tmp_path, f"{LLAMA}/yes", model="smol", prompt="harmful", structured=True).ballots
    assert ballot.verdict == "yes"


def test_a_reply_that_is_cut_off_inside_its_json_ignores_no_schema(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LLAMA}/cut-off-json", f"{LLAMA}/json", model="smol", structured=True)
    assert (found.ballots[0].verdict, found.noted, found.tally.requests) == ("first", {}, 2)


def test_a_verdict_that_begins_the_reply_has_its_probability(tmp_path: Path) -> None:
    """By hand, from the reply: A 0.3497, "One" 0.0087, B 0.0258; together less than half of the mass."""
    (ballot,) = heard(tmp_path, f"{LLAMA}/logprobs", model="smol", logprobs=True).ballots
    assert (ballot.verdict, ballot.raw) == ("first", "A")
    assert ballot.p_first == pytest.approx((0.3497 + 0.0087) / (0.3497 + 0.0087 + 0.0258), abs=1e-3)


def test_llama_cpp_answers_as_the_model_that_it_has(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LLAMA}/json", model="no-such-model", structured=True)
    assert found.noted == {"server": ["the server was asked for no-such-model and answers as smol"]}


def test_a_wrong_key_at_llama_cpp_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server answered 401: Invalid API Key; check key"):
        heard(tmp_path, f"{LLAMA}/wrong-key")


def test_llama_cpp_refuses_a_prompt_beyond_its_context_for_good(tmp_path: Path) -> None:
    found = heard(tmp_path, f"{LLAMA}/json", f"{LLAMA}/too-long", count=2)
    assert "exceeds the available context size (512 tokens)" in str(found.ballots[1].reason)
    assert (found.ballots[0].verdict, found.tally.can_pass) == ("first", 0)


def test_llama_cpp_that_loads_its_model_is_waited_for(tmp_path: Path) -> None:
    patient = replace(QUICK, attempts=2, patience_s=5.0)
    found = heard(tmp_path, *[f"{LLAMA}/loading"] * 5, f"{LLAMA}/json", count=5, asking=patient)
    assert [ballot.verdict for ballot in found.ballots] == ["first"] * 5


# A path of the machine in its refusal is shortened, and the length of the content with it.
LLAMA_PYTHON = "llama-cpp-python-0.3.36"


def test_a_schema_that_llama_cpp_python_refuses_with_a_500_is_left_out(tmp_path: Path) -> None:
    names = (f"{LLAMA_PYTHON}/schema-refused", f"{LLAMA_PYTHON}/logprobs")
    found = heard(tmp_path, *names, model="smol", structured=True, count=2)
    assert [ballot.verdict for ballot in found.ballots] == ["first"] * 2
    assert found.noted == {"not_taken": ["response_format"]}
    assert (found.tally.requests, found.tally.retries) == (3, 0)


def test_llama_cpp_python_gives_log_probabilities(tmp_path: Path) -> None:
    """By hand, from the reply: exp(-0.9497), with "One" exp(-4.8635), against B exp(-3.6504)."""
    (ballot,) = heard(tmp_path, f"{LLAMA_PYTHON}/logprobs", model="smol", logprobs=True).ballots
    first = math.exp(-0.9497) + math.exp(-4.8635)
    assert (ballot.verdict, ballot.tokens_in) == ("first", 389)
    assert ballot.p_first == pytest.approx(first / (first + math.exp(-3.6504)), abs=1e-4)


def test_a_wrong_key_at_llama_cpp_python_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the server answered 401: Invalid API key; check key"):
        heard(tmp_path, f"{LLAMA_PYTHON}/wrong-key")


def test_few_answers_among_many_failures_are_no_finished_run(tmp_path: Path) -> None:
    def fault(body: Any, _: int) -> str | None:
        return None if "order 0" in body["messages"][-1]["content"] else "500"

    tally = Usage()
    with serving(FakeServer(fault=fault, answer=lambda _: "A")) as server, Ledger(tmp_path / "l") as ledger:
        judge = ChatJudge("tiny", ChatOptions(base_url=server.url))
        impatient = AskOptions(max_concurrency=1, attempts=1, backoff_s=0.001)
        assert len(list(ask(questions(4, "dialogue"), judge, ledger, options=impatient, tally=tally))) == 4
    assert str(tally.stopped).startswith("tiny answered only 1 of 4 questions, lastly: 500")
