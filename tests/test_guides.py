"""The guides of docs/guides/: every command runs, letter for letter, on files made for it, and says what it should."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks
from fake_server import FakeServer, serving
from guide_files import MAKERS, mostly_right

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
STARTED = "ours is better than theirs by 0.37 (0.22 to 0.51; corrected by 60 labels; Holm p < 0.001)"
"""What the first page says that one will read."""
SAID = {
    "judge-drift": (
        *("flips beyond the judge's own", "no longer judges as it did", "runs/flips-sheets/flipped.csv"),
        *("The judge's verdict differs on", "cannot be told from that alone", "The judge has changed: asked"),
    ),
    "leak-check": (
        *("1 of 40 rows is in evaluation.jsonl: data/harmless/leaks.csv; --drop-leaks leaves them out", "data/shp"),
        "1 of 40 rows is in ours.csv: data/harmless-ours/leaks.csv",
        "1 of 40 rows is in evaluation.jsonl: data/harmless-clean/leaks.csv; left out of the data",
    ),
    "lora-against-full": ("pair accuracy", "tiny, full"),
    "compare-prompts": ("v2 is better than v1", "report.html"),
    "start": ("nothing is judged, so no policy", STARTED, "report.html"),
    "replace-annotators": ("human-judge Gwet AC1", "alt-test winning rate"),
}
"""What some command of a guide must have said."""


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda page: page.stem)
def test_every_command_of_a_guide_runs(guide: Path, tmp_path: Path) -> None:
    MAKERS[guide.stem](tmp_path)
    python = shlex.quote(sys.executable)
    start = f'perl-eval() {{ {python} -m perl_eval.cli "$@"; }}\nset -e\n'
    said = ""
    with serving(FakeServer(answer=mostly_right)) as server:
        of_server = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-" + "0f1e2d3c" * 4}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **of_server}
        for block in blocks(guide, "bash"):
            command = ["bash", "-c", start + block]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, f"{block}\n{done.stderr}"
            said += done.stdout + done.stderr
    for words in SAID.get(guide.stem, ()):
        assert words in said


def test_the_first_page_quotes_what_is_printed() -> None:
    text = " ".join((ROOT / "docs" / "guides" / "start.md").read_text("utf-8").split())
    assert STARTED in text
