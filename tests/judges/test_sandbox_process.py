"""Templates of the user's own in a process with bounds: what takes too much is refused in one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from perl_eval.errors import DataError
from perl_eval.judges import prompting, sandbox_process
from perl_eval.judges.sandbox import Sandboxed, TemplateFailure
from perl_eval.judges.sandbox_process import Confined
from perl_eval.records import Completion, Message

BIG = "{% set n = namespace(x='a' * 1000) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
LONG = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
ROUND = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}"


def prompt(body: str) -> str:
    return f"{{# kind: pairwise #}}{{% block user %}}{body}{{{{ first }}}}{{{{ second }}}}{{% endblock %}}"


def test_it_is_the_template_that_a_process_without_bounds_compiles() -> None:
    system = "{% block system %}{% if rubric %}{{ rubric }}{% endif %}{% endblock %}"
    text = system + "{% block user %}{{ first }}{% endblock %}"
    near, far = Sandboxed(text), Confined(text)
    assert (set(far.blocks), far.uses, far.places) == (set(near.blocks), near.uses, near.places)
    values = {"rubric": "be brief \u2028 \U0001f600", "first": " x\n"}
    for block in ("system", "user"):
        assert far.render(block, values) == near.render(block, values)


@pytest.mark.parametrize(
    "body",
    [
        "{{ 'a' * 10**11 }}",
        "{{ 'a'|center(10**11) }}",
        "{{ '%99999999999d' % 1 }}",
        "{{ (10**9)|string * 1000000000 }}",
        "{{ range(10**5)|list|join('x' * 100000) }}",
        BIG,
    ],
)
def test_a_template_that_takes_too_much_memory_is_refused(body: str) -> None:
    with pytest.raises(TemplateFailure, match=r"memory|characters|[Tt]oo (long|large|big)"):
        Confined(prompt(body)).render("user", {"first": "x", "second": "y"})


def test_a_template_that_takes_too_much_time_is_refused_and_the_next_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_process, "LIMIT_S", 1.0)
    template = Confined(prompt("{% if first == 'long' %}" + LONG + "{% endif %}"))
    begun = time.monotonic()
    with pytest.raises(TemplateFailure, match="takes longer than 1 seconds"):
        template.render("user", {"first": "long", "second": "y"})
    assert time.monotonic() - begun < 30
    assert template.render("user", {"first": "x", "second": "y"}) == "xy"


def test_a_template_that_goes_round_is_refused() -> None:
    with pytest.raises(TemplateFailure, match="too deep"):
        Confined(prompt(ROUND)).render("user", {"first": "x", "second": "y"})
    with pytest.raises(TemplateFailure, match="too deep"):
        Confined("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}")


def test_the_process_sees_no_keys_and_ends_with_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    template = Confined(prompt(""))
    assert template._child is not None
    number = template._child.pid
    if Path("/proc").is_dir():
        assert b"sk-secret" not in Path(f"/proc/{number}/environ").read_bytes()
    del template
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_the_user_is_told_file_and_reason(tmp_path: Path) -> None:
    (tmp_path / "big.jinja2").write_text(prompt("{{ 'a' * 10**11 }}"))
    turn = (Message("user", "hi"),)
    unit = tuple(Completion(name, "i", "g", "d", "p", turn, name, "stop", 0) for name in "ab")

    def asked() -> object:
        return prompting.questions(prompting.load("big", tmp_path), unit, orders=("ab",), id="j")

    with pytest.raises(DataError, match=r"big\.jinja2.*more memory than a prompt may"):
        asked()
    (tmp_path / "huge.jinja2").write_text("{# kind: pairwise #}" + "x" * 1_000_000)
    with pytest.raises(DataError, match="has 1,000,020 bytes"):
        prompting.load("huge", tmp_path)
