"""How much a page holds: size, cost and pictures."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from report_story import estimate, held, judgement, write

from perl_eval.records import About, Ballot, Completion, Estimate, Judgement, Measurement, Message
from perl_eval.reporting import run
from perl_eval.storage import images, run_folder


def data(html: str) -> dict[str, list[object]]:
    found = re.search(r'<script type="text/plain" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    return dict(held(found[1]))


@pytest.mark.slow
def test_ten_thousand_judgements_make_less_than_four_megabytes(tmp_path: Path) -> None:
    drawn = random.Random(3)
    words = [
        "sure",
        "one",
        "large",
        "oat",
        "milk",
        "latte",
        "coming",
        "up",
        "would",
        "you",
        "like",
        "anything",
        "else",
        "with",
        "that",
        "today",
        "please",
        "sir",
    ]

    def said() -> str:
        return " ".join(drawn.choices(words, k=200))

    judged = (
        judgement(
            place,
            "split",
            text_a=said(),
            text_b=said(),
            prompt=(Message("user", f"{place} {said()}"),),
            ballots=tuple(Ballot(order, "first", None, 0.5, said(), "m") for order in ("ab", "ba")),
        )
        for place in range(10_000)
    )
    write(tmp_path / "run", "judge", [(Judgement, list(judged))])
    page = run([tmp_path], tmp_path / "report.html")
    assert page.stat().st_size < 4_000_000
    html = page.read_text("utf-8")
    rows = len(data(html)["rows"])
    assert 1500 < rows < 2001
    assert f"{rows:,} of 10,000 judgements, a random sample with seed 0" in " ".join(html.split())
    assert 'aria-label="win 0, undecided 10000, loss 0, unjudged 0"' in html


def test_cost_counts_what_the_replies_took(tmp_path: Path) -> None:
    def ballots(price: float | None) -> tuple[Ballot, ...]:
        return tuple(
            Ballot(order, "first", model="m", tokens_in=100, tokens_out=5, latency_s=0.5, cost_usd=price)
            for order in ("ab", "ba")
        )  # fmt: skip

    judged = [judgement(1, "split", ballots=ballots(0.25)), judgement(2, "split", ballots=ballots(None))]
    write(tmp_path / "run", "judge", [(Judgement, judged)])
    html = " ".join(run([tmp_path], tmp_path / "report.html").read_text("utf-8").split())
    row = html.partition("What judging took")[2].partition("<tbody")[2].partition("</tr>")[0]
    cells = re.findall(r'class="num">(.*?)</td>', row)
    assert [re.sub(r"<[^>]+>", "", cell).strip() for cell in cells] == ["4", "400", "20", "0.500", "0.500 (2 unpriced)"]


def test_verdicts_that_nobody_asked_for_here_cost_nothing_that_is_known(tmp_path: Path) -> None:
    write(tmp_path / "run", "import", [(Judgement, [judgement(1, "win", ballots=())])])
    html = run([tmp_path], tmp_path / "report.html").read_text("utf-8")
    assert "What judging took" not in html


def test_what_training_measured_of_itself_is_a_table(tmp_path: Path) -> None:
    notes = {
        "peak memory bytes": 3 * 2**20,
        "tokens a second": 1234.5,
        "seconds sampling": 12.0,
        "seconds learning": 3.5,
    }
    write(tmp_path / "run", "train policy", [(Measurement, [Measurement(0, "loss", 2.5)])], notes=notes)
    html = " ".join(run([tmp_path], tmp_path / "report.html").read_text("utf-8").split())
    assert "Memory and speed of training" in html
    assert 'data-label="peak MiB" class="num">3</td>' in html
    assert '<data value="1234.5">1,234</data>' in html
    assert "sampling: 12" in html
    assert "learning: 3.500" in html


def pictured(folder: Path, contents: Sequence[bytes]) -> list[Judgement]:
    """Write completions whose prompts have pictures, and return judgements of them."""
    with run_folder.start(folder, verb="sample", arguments={}) as going:
        names = [images.keep(folder, content) for content in contents]
        made = [
            Completion(f"rl-{place}", f"item-{place}", "g", "vqa", "rl", (), "a cat", "stop", 0, images=(name,))
            for place, name in enumerate(names)
        ]
        going.write(made, Completion)
    return [judgement(place, "win") for place in range(len(contents))]


def png(side: int, colour: str) -> bytes:
    kept = io.BytesIO()
    Image.new("RGBA", (side, side // 2), colour).save(kept, "PNG")
    return kept.getvalue()


@pytest.mark.parametrize("inside", [True, False])
def test_pictures_of_prompts_are_embedded_small_and_once(tmp_path: Path, inside: bool) -> None:
    bad = b"\x89PNG\r\n\x1a\n<script>alert(1)</script>"
    judged = pictured(tmp_path / "r" / "samples", [png(1000, "red"), png(1000, "red"), png(20, "blue"), bad])
    write(tmp_path / "r" / "judged", "judge", [(Judgement, judged)], a=tmp_path / "r" / "samples")
    sources = [tmp_path / "r"] if inside else [tmp_path / "r" / "judged"]  # else the judging run's card says where
    html = run(sources, tmp_path / "report.html").read_text("utf-8")
    found = data(html)
    rows: list[dict[str, list[int]]] = found["rows"]  # type: ignore[assignment]
    pictures = [found["pictures"][row["images"][0]] for row in rows]
    assert pictures[0] == pictures[1] != pictures[2]
    assert pictures[3] == ""
    assert len(found["pictures"]) == 3
    import base64

    for url, size in ((pictures[0], (480, 240)), (pictures[2], (20, 10))):
        kind, content = str(url).split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as opened:
            assert opened.size == size
    assert "<script>alert" not in html


def test_many_pictures_stay_within_the_page(tmp_path: Path) -> None:
    drawn = random.Random(0)
    noise = [Image.frombytes("RGB", (480, 480), drawn.randbytes(480 * 480 * 3)) for _ in range(40)]
    contents = []
    for picture in noise:
        kept = io.BytesIO()
        picture.save(kept, "PNG")
        contents.append(kept.getvalue())
    judged = pictured(tmp_path / "r" / "samples", contents)
    write(tmp_path / "r" / "judged", "judge", [(Judgement, judged)])
    page = run([tmp_path / "r"], tmp_path / "report.html")
    assert page.stat().st_size < 4_000_000
    assert 5 < len(data(page.read_text("utf-8"))["rows"]) < 40


def test_scored_answers_have_a_bar_too(tmp_path: Path) -> None:
    single = replace(
        judgement(1, "win"), kind="score", b="", policy_b="", text_b="", outcome="scored", score=7.0, ballots=()
    )
    write(tmp_path / "run", "judge", [(Judgement, [single])])
    assert "scored" in run([tmp_path], tmp_path / "report.html").read_text("utf-8")


def test_a_no_is_called_harmless_where_the_question_is_of_harm(tmp_path: Path) -> None:
    single = replace(judgement(1, "win"), kind="yes_no", b="", policy_b="", text_b="", outcome="no", ballots=())
    rate = estimate("no rate", 0.9, about=About(policy="rl", judge=single.judge))
    for prompt, said in (("harmful", True), ("action", False)):
        with run_folder.start(tmp_path / prompt, verb="judge", arguments={"prompt": prompt}) as going:
            going.write([single], Judgement)
            going.write([rate], Estimate)
        html = run([tmp_path / prompt], tmp_path / "report.html").read_text("utf-8")
        assert ("<b>no rate</b> (harmless rate)" in html) == said
