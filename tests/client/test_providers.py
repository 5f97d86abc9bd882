"""Providers by name: address, key, and what is not asked of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from fake_server import FakeServer, serving

from perl_eval.client import providers
from perl_eval.client.providers import LOGPROBS, PROVIDERS, access, is_local
from perl_eval.errors import UserError
from perl_eval.judges.backends.chat import ChatJudge
from perl_eval.judges.question_keys import Keys
from perl_eval.judges.registry import BackendOptions, is_chat, open_judge, opener_of
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions
from perl_eval.records import Completion, Judgement, Message, Question
from perl_eval.sampling.server import ServerOptions
from perl_eval.sampling.server import run as sample
from perl_eval.sources.imported_rows import take_rows
from perl_eval.storage import run_folder

KEY = "sk-planted-Pv73-never-to-be-seen"
REMOTE = [name for name, one in PROVIDERS.items() if one.base_url.startswith("https")]
VARIABLES = sorted({variable for one in PROVIDERS.values() for variable in one.key_variables})
QUESTION = Question("u", "pairwise", "first", (), (Message("user", "which?"),), "0" * 64)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)


# Each from the provider's own page, read apart from the table.
@pytest.mark.parametrize(
    ("name", "address", "variable"),
    [
        ("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
        ("google", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
        ("google", "https://generativelanguage.googleapis.com/v1beta/openai", "GOOGLE_API_KEY"),
        ("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("together", "https://api.together.ai/v1", "TOGETHER_API_KEY"),
        ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    ],
)
def test_a_provider_is_reached_at_its_address_with_the_key_of_its_variable(
    name: str, address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=variable) as caught:
        open_judge(f"{name}:m")
    assert "set; put the key there, or into a file for --key-file" in str(caught.value)
    monkeypatch.setenv(variable, KEY)
    found = access(name)
    assert (found.base_url, found.key_variable, found.key_needed) == (address, variable, True)
    opened = open_judge(f"{name}:m/n:free")
    assert (opened.backend, opened.model) == ("chat", "m/n:free")
    assert opened.parameters["base_url"] == (None if name == "openai" else address)


@pytest.mark.parametrize(("name", "port"), [("ollama", 11434), ("vllm", 8000), ("llamacpp", 8080)])
def test_a_server_on_this_machine_wants_no_key(name: str, port: int) -> None:
    opened = open_judge(f"{name}:llama3.2:1b")
    assert opened.model == "llama3.2:1b"
    assert opened.parameters["base_url"] == f"http://localhost:{port}/v1"
    with pytest.raises(UserError, match="_API_KEY is not set"):
        open_judge(f"{name}:m", BackendOptions(base_url="https://example.com/v1"))


def test_of_two_variables_the_one_that_google_prefers_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^google needs a key, and neither GOOGLE_API_KEY nor GEMINI_API_KEY is set;"):
        access("google")
    monkeypatch.setenv("GEMINI_API_KEY", "one")
    assert access("google").key_variable == "GEMINI_API_KEY"
    monkeypatch.setenv("GOOGLE_API_KEY", "two")
    assert access("google").key_variable == "GOOGLE_API_KEY"


@pytest.mark.parametrize("given", ["https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1/"])
def test_azure_has_its_address_in_a_variable(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    with pytest.raises(UserError, match=r"^azure has no address of its own, and AZURE_OPENAI_ENDPOINT is not set; put"):
        open_judge("azure:deployment")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", given)
    opened = open_judge("azure:deployment")
    assert opened.parameters["base_url"] == "https://me.openai.azure.com/openai/v1"
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me:secret@me.openai.azure.com")
    with pytest.raises(UserError, match="holds a user, a password") as caught:
        open_judge("azure:deployment")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.9/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://192.168.0.7:8000/v1", True),
        ("http://172.20.0.7/v1", True),
        ("http://gpu-7:8000/v1", True),
        ("http://printer.local/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://172.32.0.7/v1", False),
        ("https://localhost.example.com/v1", False),
        ("https://[2606:4700::1]/v1", False),
        ("", False),
    ],
)
def test_what_is_a_local_address(url: str, local: bool) -> None:
    assert is_local(url) is local


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_key_file_stands_in_for_the_variable(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com")
    file = tmp_path / "key.txt"
    file.write_text(KEY)
    assert open_judge(f"{name}:m", BackendOptions(key_file=file)).model == "m"
    file.write_text("")
    with pytest.raises(UserError, match=f"{file} holds no key"):
        open_judge(f"{name}:m", BackendOptions(key_file=file))


def test_a_variable_that_holds_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "  ")
    with pytest.raises(UserError, match="GROQ_API_KEY is not set"):
        open_judge("groq:m")


@pytest.mark.parametrize("name", REMOTE)
def test_a_provider_is_the_chat_judge_of_its_address_to_the_ledger(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, KEY)
    address = None if name == "openai" else PROVIDERS[name].base_url
    chat = open_judge("chat:m", BackendOptions(base_url=address))
    assert Keys(open_judge(f"{name}:m")).of(QUESTION) == Keys(chat).of(QUESTION)
    assert Keys(open_judge(f"{name}:n")).of(QUESTION) != Keys(chat).of(QUESTION)


def test_what_is_not_taken_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, KEY)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com")
    for name, facts in PROVIDERS.items():
        judge = open_judge(f"{name}:m")
        assert isinstance(judge, ChatJudge)
        body = judge.request(QUESTION)
        assert not facts.not_taken & body.keys(), name
        assert ("response_format" in body) is ("response_format" not in facts.not_taken), name
        assert facts.limit_name in body, name
        assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1, name
        if facts.not_taken & LOGPROBS:
            with pytest.raises(UserError, match=f"^{name} gives no log-probabilities; leave out --verdict-by logprobs"):
                open_judge(f"{name}:m", BackendOptions(verdict_by="logprobs"))
    # as documented
    assert [name for name, one in PROVIDERS.items() if "response_format" in one.not_taken] == ["anthropic", "deepseek"]
    assert [name for name, one in PROVIDERS.items() if one.not_taken & LOGPROBS] == ["anthropic", "mistral", "groq"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_the_key_goes_to_the_server_and_into_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROVIDERS[name].key_variables[0], KEY)
    folders = []
    for side in ("x", "y"):
        with run_folder.start(tmp_path / side, verb="sample", arguments={}) as run:
            prompt = (Message("user", "say"),)
            run.write([Completion(f"{side}0", "i0", "g", "d", side, prompt, side, "stop", 0)], Completion)
            folders.append(run.folder)
    with serving(FakeServer(answer=lambda _: f"Your key is {KEY}.\nVerdict: A")) as server:
        by = open_judge(f"{name}:tiny", BackendOptions(base_url=server.url, verdict_by="text"))
        options = judge.JudgeOptions("dialogue", asking=AskOptions(backoff_s=0.001))
        out = judge.run(*folders, tmp_path / "out", judge=by, options=options)
    assert all(f"authorization: Bearer {KEY}" in head for head in server.headers)
    assert len(server.headers) == 2
    (row,) = run_folder.read(out, Judgement)
    assert all("(key)" in ballot.raw for ballot in row.ballots)
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert KEY.encode() not in written + repr(row).encode()


def test_a_provider_is_a_chat_judge_wherever_that_counts() -> None:
    assert is_chat("groq:m")
    assert is_chat("chat:m")
    assert not is_chat("decisions:m")
    pickle.dumps(opener_of("groq:m"))  # workers get it


def test_sampling_takes_a_provider_for_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "said.jsonl").write_text('{"prompt": "say"}\n', "utf-8")
    data = take_rows(tmp_path / "said.jsonl", tmp_path / "data", whole="test")
    with pytest.raises(UserError, match="GROQ_API_KEY is not set"):
        sample("groq", "m", data, tmp_path / "none")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with serving(FakeServer(answer=lambda _: "said")) as server:
        facts = providers.Provider(server.url, ("GROQ_API_KEY",), "here", not_taken=PROVIDERS["groq"].not_taken)
        monkeypatch.setitem(PROVIDERS, "groq", facts)  # type: ignore[call-overload]
        out = sample("groq", "m", data, tmp_path / "out", options=ServerOptions())
    assert all(f"authorization: Bearer {KEY}" in head for head in server.headers)
    assert [sorted(body.keys() & {"logprobs", "seed"}) for body in server.requests] == [["seed"]]
    card = run_folder.read_card(out)
    assert card is not None
    assert card.arguments["server"] == server.url
    assert "key_variable" not in card.arguments
