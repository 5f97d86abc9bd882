"""README, docs/ and CONTRIBUTING: examples run, options exist, links and paths lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import PAGES, ROOT, blocks, broken_links, changes, commands, named_paths, prose
from fake_server import FakeServer, serving
from typer.testing import CliRunner

from perl_eval.cli import whole_program

README = ROOT / "README.md"
TAUGHT = [page for page in PAGES if blocks(page, "python")]
FIFTEEN = (
    *("a judge backend", "a data set", "a metric", "a peft method", "an RL objective", "the tie rule", "a chart"),
    *("an option", "a verdict format", "a score scale", "a label export", "a sampler", "the ledger key"),
    *("prompts in another language", "an estimator"),
)


@pytest.mark.parametrize("page", TAUGHT, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page, one after the other, each of which prints something and leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)
        shown = capsys.readouterr().out
        assert shown, block
        if "win_rate" in block:
            value = re.match(r"(\d\.\d\d) \((\d\.\d\d) to (\d\.\d\d)\), n = \d+", shown)
            assert value is not None, shown
            assert 0 <= float(value[2]) <= float(value[1]) <= float(value[3]) <= 1
    assert list(tmp_path.iterdir()) == []


def test_the_first_example_is_short_and_says_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    first = blocks(README, "python")[0]
    assert len([line for line in first.splitlines() if line]) <= 8
    exec(compile(first, "README.md", "exec"), {"__name__": "page"})
    assert f"`{capsys.readouterr().out.strip()}`" in README.read_text("utf-8")


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_use_options_that_exist(words: list[str]) -> None:
    """Every option named in a shell block is one that the verb's help lists."""
    verb = words[:2] if words[0] in ("train", "ledger") else words[:1]
    shown = CliRunner().invoke(whole_program(), [*verb, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    for word in words:
        if word == ";":
            break
        if word.startswith("--"):
            assert word in shown.output, word


def test_two_files_and_a_server_become_a_page(tmp_path: Path) -> None:
    """The README's second example, letter for letter but for the server's address."""
    (example,) = [block for block in blocks(README, "bash") if "ours.json theirs.jsonl" in block]
    asked = [f"Count to {n}." for n in range(30)]
    (tmp_path / "ours.json").write_text(
        json.dumps([{"instruction": one, "output": "one", "generator": "ours"} for one in asked])
    )
    turns = [[{"role": "user", "content": one}, {"role": "assistant", "content": "one, two, three"}] for one in asked]
    (tmp_path / "theirs.jsonl").write_text("".join(f"{json.dumps({'messages': part})}\n" for part in turns))
    people = [f"{one},ours,theirs,ours,ann" for one in asked[:25]]
    (tmp_path / "people.csv").write_text("\n".join(["prompt,policy_a,policy_b,winner,annotator", *people]))
    python = shlex.quote(sys.executable)
    start = f'python() {{ {python} "$@"; }}\nperl-eval() {{ {python} -m perl_eval.cli "$@"; }}\nset -e\n'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"}
    with serving(FakeServer()) as server:
        program = start + example.replace("http://localhost:8000/v1", server.url)
        done = subprocess.run(
            ["bash", "-c", program],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "30 judged: 30 win" in done.stdout
    assert "ours is better than theirs by 1.00" in done.stdout
    assert "difference, corrected by labels" in (tmp_path / "report.html").read_text("utf-8")


def test_the_two_commands_are_one_line_each() -> None:
    for marker, ending in (("demo", "perl-eval demo"), ("tests", "pytest -n 2")):
        block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", README.read_text("utf-8"), re.S)
        assert block is not None
        assert block[1].strip().endswith(ending)
        assert block[1].strip().count("\n") == 0


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 200


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_every_page_is_reached_from_the_readme() -> None:
    text = README.read_text("utf-8")
    assert [page.name for page in PAGES[1:] if f"]({page.relative_to(ROOT).as_posix()})" not in text] == []


def test_a_broken_link_is_caught(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One thing: two\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md) [b](other.md#one-thing-two) [c](https://x.org/y) `[d](no.md)` [e](#here)\n## Here\n")
    assert broken_links(page) == []
    page.write_text("[a](absent.md) [b](other.md#two) [c](#there)\n")
    assert len(broken_links(page)) == 3


@pytest.mark.parametrize("what", FIFTEEN)
def test_a_newcomer_is_led_to_files_that_exist(what: str) -> None:
    touch, tests = changes()[what]
    assert 1 <= len(touch) <= 2, touch
    assert tests
    assert all(path.startswith("tests/") for path in tests), tests


def test_paths_that_contributing_names_exist() -> None:
    assert [path for path in named_paths() if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_words_are_those_of_the_field(page: Path) -> None:
    """Words that this project once used for its own things; a backend is a backend, a judge card a judge card."""
    assert re.findall(r"(?i)\b(?:doors?|desks?|passports?|material|house)\b", prose(page)) == []
