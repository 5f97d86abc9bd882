from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_story import AGREEMENT, ESTIMATES, JUDGE, estimate, held, judgement, write

from perl_eval.errors import DataError, UserError
from perl_eval.records import About, Estimate, HumanLabel, Judgement, Measurement
from perl_eval.reporting import run
from perl_eval.reporting.format import number


class Page(HTMLParser):
    """The page as a parser sees it: elements, texts of scripts and styles, and exact values of figures by row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.rows: list[list[float]] = []
        self.text = ""
        self._inside = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag in self.raw:
            self.raw[tag].append("")
        if tag == "tr":
            self.rows.append([])
        if tag == "data" and self.rows:
            self.rows[-1].append(float(str(dict(attrs)["value"])))

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside][-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page(story: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(run([story], tmp_path_factory.mktemp("page") / "report.html", title="Coffee & <tea>"))


def test_every_estimate_stands_on_the_page_to_the_last_digit(page: Page) -> None:
    for made in (*ESTIMATES, *AGREEMENT):
        if made.value is not None:
            exact = [made.value] if made.low is None else [made.value, made.low, made.high]
            assert exact in page.rows, made
            assert number(made.value) in page.text
    assert "not defined: all answers are equally long" in page.text


def test_counts_and_rates_stand_under_their_bar(page: Page) -> None:
    (bar,) = [dict(attrs) for tag, attrs in page.elements if tag == "svg" and attrs.get("class") == "bar"]
    assert bar["aria-label"] == "win 120, undecided 45, loss 60, unjudged 25"
    widths = [attrs["width"] for tag, attrs in page.elements if tag == "rect" and str(attrs["width"]).endswith("%")]
    assert widths == ["48.0%", "18.0%", "24.0%", "10.0%"]
    links = [(attrs["data-outcome"], attrs["data-judge"]) for tag, attrs in page.elements if "data-outcome" in attrs]
    assert links == [(outcome, JUDGE) for outcome in ("win", "split", "tie", "mixed", "loss", "unjudged")]
    words = " ".join(page.text.split())
    assert "of 225 with a verdict in both orders, 30 named the first shown twice, 0 the second twice" in words
    assert "3 of 10 without a value" in words
    assert "25 × no verdict in the reply" in words


def test_what_is_simulated_is_said(page: Page) -> None:
    words = " ".join(page.text.split())
    simulated = sum(made.simulated for made in (*ESTIMATES, *AGREEMENT))
    for line in (
        f"The judge {JUDGE} is simulated, no model was asked (250 judgements).",
        "600 labels of 3 annotators are simulated: no person was asked.",
        f"{simulated} of {len(ESTIMATES) + len(AGREEMENT)} figures rest on simulated judges or people; marked as such.",
        "Runs that rest on simulated judges or people: judged, scores, labels, agreement.",
    ):
        assert line in words


def test_nothing_simulated_no_banner(tmp_path: Path) -> None:
    real = judgement(1, "win", simulated=False)
    label = HumanLabel(real.unit, "i", "g", "p", "win")
    write(tmp_path / "run", "judge", [(Judgement, [real]), (HumanLabel, [label])])
    page = Page(run([tmp_path], tmp_path / "report.html"))
    assert not {"banner", "tag"} & {attrs.get("class") for _, attrs in page.elements}


@pytest.mark.parametrize(
    ("flags", "marked"), [((True, True), ["subject"]), ((True, False), ["one"]), ((False, False), [])]
)
def test_simulated_figures_are_marked_once(tmp_path: Path, flags: tuple[bool, bool], marked: list[str]) -> None:
    made = [
        estimate(name, 0.5, about=About(policy="subject"), simulated=flag)
        for name, flag in zip(("one", "two"), flags, strict=True)
    ]
    write(tmp_path / "run", "score", [(Estimate, made)])
    html = run([tmp_path], tmp_path / "report.html").read_text("utf-8")
    assert re.findall(r">([^<]*) <span class=\"tag\">simulated", html) == marked


def test_run_cards_are_on_the_page(page: Page, story: Path) -> None:
    for card in story.rglob("run.json"):
        content = json.loads(card.read_text())
        for value in (*content["outputs"].values(), *content["inputs"].values(), *content["versions"].values()):
            assert value in page.text
        assert content["started"][:19].replace("T", " ") in page.text


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(page: Page) -> None:
    (policy,) = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    data, script = page.raw["script"]
    for rule, content in (("script-src", script), ("style-src", page.raw["style"][0])):
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    assert held(data)["rows"]
    for tag, attrs in page.elements:
        assert not {name for name in attrs if name.startswith("on") or name in ("src", "style", "srcset")}, tag
        assert str(attrs.get("href", "#")).startswith("#"), tag
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(", script)


def test_links_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {str(attrs["href"])[1:] for _, attrs in page.elements if "href" in attrs}
    assert targets <= set(ids)


def test_the_title_is_text(page: Page) -> None:
    assert page.text.count("Coffee & <tea>") == 2


def test_the_same_folders_give_the_same_bytes(story: Path, tmp_path: Path) -> None:
    one = run([story], tmp_path / "one.html")
    other = run([story, story / "judged", story / "scores"], tmp_path / "deep" / "other.html")
    assert one.read_bytes() == other.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["one.html", "deep"] or len(list(tmp_path.iterdir())) == 2


def test_a_sample_says_so(tmp_path: Path) -> None:
    judged = (judgement(place, "win") for place in range(2500))
    write(tmp_path / "run", "judge", [(Judgement, list(judged))])
    page = Page(run([tmp_path], tmp_path / "report.html", seed=11))
    assert "2,000 of 2,500 judgements, a random sample with seed 11" in " ".join(page.text.split())
    assert len(held(page.raw["script"][0])["rows"]) == 2000
    assert "win 2500," in str(page.elements)


def test_a_folder_without_judgements_or_figures_makes_a_page(tmp_path: Path) -> None:
    write(tmp_path / "run", "train sft", [(Measurement, [Measurement(0, "loss", 2.5)])])
    page = Page(run([tmp_path], tmp_path / "report.html"))
    assert "1 run folder without judgements, made " in page.text
    assert "No estimates are in these folders." in " ".join(page.text.split())
    assert len(page.raw["script"]) == 1


def test_figures_of_a_judge_alone_say_whether_it_may_stand_in(tmp_path: Path) -> None:
    about = About(judge="gpt")
    made = [
        Estimate("human-judge exact agreement", 0.7, 0.6, 0.8, 90, 0, "Wilson", about=about),
        Estimate("agreement of a constant judge", 0.5, None, None, 90, 0, "share of labels", about=about),
    ]
    write(tmp_path / "agreed", "agree", [(Estimate, made)])
    page = Page(run([tmp_path], tmp_path / "report.html"))
    assert "gpt does better than without reading the answers: it agrees with 70% of labels" in page.text


def test_json_holds_the_estimates(story: Path, tmp_path: Path) -> None:
    content = json.loads(run([story], tmp_path / "report.json", format="json").read_text("utf-8"))
    rows = content["estimates"]
    written = [{**row, "about": About(**row["about"])} for row in rows]
    assert [Estimate(**{key: row[key] for key in row if key not in ("run", "subject")}) for row in written] == [
        *ESTIMATES,
        *AGREEMENT,
    ]
    assert [row["run"] for row in content["estimates"]] == ["scores"] * len(ESTIMATES) + ["agreement"] * len(AGREEMENT)
    assert content["simulated"][0] == f"The judge {JUDGE} is simulated, no model was asked (250 judgements)."


def test_markdown_holds_the_estimates(story: Path, tmp_path: Path) -> None:
    text = run([story], tmp_path / "report.md", format="md", title="A *title*").read_text("utf-8")
    assert text.startswith("# A \\*title\\*\n\n> **Simulated**\n> - The judge scripted:lean=0.2")
    assert "\n## rl against sft, judge scripted:lean=0.2\n" in text
    assert "\n| win rate (simulated) | 0.533 | 0.483 to 0.583 (95%) | 225 | 25 | Wilson | scores |\n" in text
    assert "| not defined: all answers are equally long |" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| figure")]
    assert len(rows) == len(ESTIMATES) + len(AGREEMENT)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", "score", [(Estimate, ESTIMATES)])
    other = write(tmp_path / "other", "score", [(Estimate, ESTIMATES[:2])])
    (folder / "estimates.parquet").write_bytes((other / "estimates.parquet").read_bytes())
    with pytest.raises(DataError, match=r"estimates.parquet: does not match the sha256"):
        run([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_a_figure_that_is_no_number_is_refused(tmp_path: Path, format: str) -> None:
    write(tmp_path / "run", "score", [(Estimate, [estimate("win rate", float("nan"))])])
    with pytest.raises(DataError, match="'win rate' is nan"):
        run([tmp_path], tmp_path / "report.html", format=format)  # type: ignore[arg-type]


def test_requests_that_cannot_be_served(story: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    out = tmp_path / "report.html"
    for sources, target, format, words in (
        ([tmp_path / "nowhere"], out, "html", "nowhere does not exist; give folders"),
        ([tmp_path / "file"], out, "html", "file is a file; give folders"),
        ([tmp_path / "empty"], out, "html", "no run folder at or below"),
        ([], out, "html", "no folder given"),
        ([story], tmp_path / "empty", "html", "empty is a folder; name a file"),
        ([story], out, "pdf", "no format 'pdf'; choose one of html, md, json"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            run(sources, target, format=format)  # type: ignore[arg-type]


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write(folder, "score", [(Estimate, ESTIMATES)])
    (folder / "estimates.parquet").write_bytes(b"nothing")
    (folder / "run.json").write_text(json.dumps({**json.loads((folder / "run.json").read_text()), "outputs": {}}))
    with pytest.raises(DataError, match=r"estimates.parquet: is not a parquet file"):
        run([tmp_path], tmp_path / "report.html")
