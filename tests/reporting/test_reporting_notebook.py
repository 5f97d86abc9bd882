"""Results in a notebook, and tables for a paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_story import curve, estimate, judgement, write

import perl_eval as pe
from perl_eval.records import About, Estimate, HumanLabel, Judgement, Measurement
from perl_eval.reporting import run
from perl_eval.results import Built, Completions, Estimates, Judged, Trained

BAD = '<img src=x onerror=alert(1)> \u202e & "q" [x] 50% a_b $c$ \\d {e} #f ~ ^'


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open; keeps elements, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(result: object) -> Balanced:
    page = Balanced(result._repr_html_())  # type: ignore[attr-defined]
    assert not {"script", "img", "iframe"} & set(page.elements)
    assert not {name for name in page.attributes if name.startswith("on")}
    return page


def test_figures_are_drawn_beside_their_numbers(tmp_path: Path) -> None:
    made = [
        estimate("win rate", 0.6),
        estimate(BAD, 0.5, about=About(policy=BAD), method=BAD),
        estimate("none", None, reason=BAD),
        estimate("pairs", 1234.0, None, kind="count"),
        estimate("difference", -0.25),
        estimate("reward", 7.0),
    ]
    page = shown(Estimates(write(tmp_path / "run", "score", [(Estimate, made)])))
    assert "6 records" in page.text
    assert "by score" in page.text
    assert "0.600" in page.text
    assert "0.550 to 0.650" in page.text
    assert "1,234" in page.text
    assert page.elements.count("svg") == 3  # two shares and a difference; rewards and counts have no axis
    assert page.text.count("⟨U+202E⟩") == 4


def test_outcomes_are_a_bar_a_comparison(tmp_path: Path) -> None:
    judged = [judgement(place, outcome) for place, outcome in enumerate(["win"] * 3 + ["split", "loss", "unjudged"])]
    judged += [judgement(9, "win", policy_a=BAD)]
    content = Judged(write(tmp_path / "run", "judge", [(Judgement, judged)], simulated=True))
    page = shown(content)
    assert "win 3, split 1, loss 1, unjudged 1" in page.text
    assert "simulated" in page.text
    assert re.findall(r'width="([0-9.]+)" height="12" fill', content._repr_html_())[:4] == [
        "100.0",
        "33.3",
        "33.3",
        "33.3",
    ]


def test_training_is_a_curve_a_metric(tmp_path: Path) -> None:
    points = [*curve("loss", 50, 1.0), *curve(BAD, 50, 1.0), Measurement(0, "gap", float("nan"))]
    page = shown(Trained(write(tmp_path / "run", "train sft", [(Measurement, points)])))
    assert page.elements.count("figure") == 2
    assert "loss: " in page.text


def test_every_result_of_a_verb_is_readable() -> None:
    ours = {"ours": [{"prompt": f"Say {n}.", "text": "x" * (n + 5)} for n in range(1, 60)]}
    theirs = {"theirs": [{"prompt": f"Say {n}.", "text": "y" * n} for n in range(1, 60)]}
    judged = pe.judge(ours, theirs, by="scripted:length", prompt="dialogue")
    people = [pe.HumanLabel(one.unit, one.item, one.group, "ann", one.outcome) for one in list(judged)[:40]]
    decided = pe.decide(judged, labels=people)
    page = shown(decided)
    assert decided.sentences[0] in page.text
    assert "difference, corrected by labels" in page.text
    assert "win rate" in shown(pe.score(judged)).text
    assert "human-judge" in shown(pe.agree(judged, people)).text
    assert 'sandbox="allow-scripts"' in pe.report(judged)._repr_html_()


@pytest.mark.parametrize("kind", [Built, Completions])
def test_lists_are_tables(tmp_path: Path, kind: type) -> None:
    write(tmp_path / "run", "label", [(HumanLabel, [HumanLabel("u", "i", "g", "p", "win")])])
    if kind is Built:
        assert "labels.parquet" in shown(Built(tmp_path / "run")).text
        return
    made = pe.completions([{"prompt": BAD, "text": BAD}], policy=BAD)
    pe.write(tmp_path / "c", made)
    assert BAD.split(maxsplit=1)[0] in shown(Completions(tmp_path / "c")).text


# ------------------------------------------------------------------------------------------------------------ papers


def test_tables_name_the_command_that_made_them(tmp_path: Path) -> None:
    write(tmp_path / "a run", "score", [(Estimate, [estimate("win rate", 0.6)])])
    tex = run([tmp_path / "a run"], tmp_path / "t.tex", format="tex").read_text("utf-8")
    assert f"% perl-eval report '{tmp_path}/a run' --format tex --out {tmp_path}/t.tex" in tex
    assert r"    win rate (simulated) & 0.600 & 0.550 to 0.650 & 225 \\" in tex
    md = run([tmp_path / "a run"], tmp_path / "t.md", format="md").read_text("utf-8")
    assert "Made by perl\\-eval report" in md


def test_names_are_text_in_latex(tmp_path: Path) -> None:
    made = [estimate(BAD, -1.25e-9, None, about=About(policy=BAD)), estimate("[starts", 0.5)]
    write(tmp_path / "run", "score", [(Estimate, made)])
    tex = run([tmp_path / "run"], tmp_path / "t.tex", format="tex", title="one\n\\input{/etc/passwd}").read_text(
        "utf-8"
    )
    assert "\n\\input" not in tex
    body = tex[tex.index(r"\begin{table}") :]
    assert r"\textless{}img src=x onerror=alert(1)\textgreater{}" in body
    assert r"50\% a\_b \$c\$ \textbackslash{}d \{e\} \#f \textasciitilde{} \textasciicircum{}" in body
    assert r"$-1.25 \times 10^{-9}$" in body
    assert "    {[}starts" in body
    if shutil.which("pdflatex"):
        document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\\begin{document}"
        (tmp_path / "d.tex").write_text(f"{document}{tex}\\end{{document}}", "utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
