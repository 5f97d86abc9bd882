"""The key in what a server says: hidden in every form, and nothing else with it."""

from __future__ import annotations

import json
import time

import pytest

from perl_eval.client import hiding
from perl_eval.client.refusals import Answer, refusal_of, said_in_reply

KEY = "sk-SECRET/abc12345"
FORMS = [
    KEY,
    KEY.replace("/", r"\/"),
    KEY.replace("/", r"\\\/"),
    KEY.replace("/", "%2F"),
    KEY.replace("/", "%252f"),
    KEY.replace("/", "&#x2F;"),
    KEY.replace("/", "&#47;"),
    "".join(f"\\u{ord(char):04x}" for char in KEY),
    "".join(f"\\u{ord(char):04X}" for char in KEY),
]


def hide(text: str) -> str:
    return hiding.shown(text, KEY)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_hidden_in_every_form(form: str) -> None:
    assert hiding.shown(f"your key {form} is bad", KEY) == "your key (key) is bad"
    assert hiding.mended({"a": [f"<{form}>", 5]}, KEY) == {"a": ["<(key)>", 5]}


@pytest.mark.parametrize("form", FORMS[:2] + FORMS[-1:])
def test_a_key_is_hidden_once_json_is_read(form: str) -> None:
    content = b'{"content": "%s"}' % form.encode()
    assert hiding.may_hold(content, KEY)
    assert hiding.mended(json.loads(content), KEY) == {"content": "(key)"}


@pytest.mark.parametrize("form", FORMS)
def test_errors_hold_no_key(form: str) -> None:
    quoted = json.dumps(form)
    for body in (f"bad key {form}", f'{{"error": {{"message": "no", "param": {quoted}, "code": {quoted}}}}}'):
        error = str(refusal_of(Answer(400, {"location": form}, body.encode()), hide))
        assert "(key)" in error
        assert "SECRET" not in error
    error = str(said_in_reply(Answer(200, {}, b""), {"error": {"message": {form: 1}}}, hide))
    assert "(key)" in error
    assert "SECRET" not in error


def test_names_of_fields_are_left_alone_and_half_letters_are_not() -> None:
    assert hiding.mended({"sk-SECRET/abc12345": "\ud800", "\ud800": 1}, KEY) == {KEY: "\ufffd", "\ufffd": 1}


@pytest.mark.parametrize("text", ["100% sure", r"a \n b", "&#47;", KEY[:-1], KEY.lower()])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert hiding.shown(text, KEY) == text


@pytest.mark.parametrize("mark", ["\\", "%25", "&#000"])
def test_a_long_text_takes_no_long_time(mark: str) -> None:
    begun_s = time.perf_counter()
    hiding.shown(mark * 200_000, KEY)
    assert time.perf_counter() - begun_s < 5.0


@pytest.mark.parametrize("key", ["a", "first", "EMPTY", "ollama", "1234567", "placeholder"])
def test_a_word_is_no_secret_and_that_is_said_once(
    key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hiding, "_told", set())
    assert [hiding.is_secret(key, "SOME_KEY") for _ in range(3)] == [False] * 3
    said = capsys.readouterr().err
    assert said.count("SOME_KEY holds a key too short") == 1


@pytest.mark.parametrize("key", [KEY, "sk-secret", "abcd1234", "qwertyuiopasdfghjklzx"])
def test_any_other_key_is_a_secret(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert hiding.is_secret(key, "SOME_KEY")
    assert not hiding.is_secret("", "SOME_KEY")
    assert capsys.readouterr().err == ""
