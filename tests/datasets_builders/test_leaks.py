"""Rows that are in another set of texts: told by kind, with the ids of both sides, each row counted once."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_checks import Rows, write

from datasets_builders import BuilderError
from datasets_builders.leaks import Held, drop_rows, findings, held_in, leaks, write_leaks

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
ASKED = "please tell me about the sea"
SAID = "the sea is salty and very deep"


def kinds(row: Held, *others: Held) -> dict[str, tuple[str, int]]:
    """Return what a row matches, by kind: the other's id, and how many others."""
    return {one.kind: (one.other_id, one.matches) for one in leaks([("c", "s", row)], others)}


@pytest.mark.parametrize(
    ("row", "other", "found"),
    [
        (Held("r", (ASKED,)), Held("o", (f" {ASKED.upper()}\n",)), {"equal prompt"}),
        (Held("r", (f"{ASKED}?",)), Held("o", (ASKED.replace(" me ", " me,  "),)), {"equal prompt"}),
        *(
            (Held("r", (one,)), Held("o", (other,)), set())
            for one, other in (
                ("What is 2+2?", "What is 2-2?"),
                ("Is it C++?", "Is it C?"),
                ("Is it C#?", "Is it C?"),
                ("कि", "का"),
            )
        ),
        (Held("r", ("«Is it C#»?",)), Held("o", ("is it c# ?",)), {"equal prompt"}),
        (Held("r", ("A caf\u00e9?",)), Held("o", ("a cafe\u0301",)), {"equal prompt"}),
        (Held("r", ("?!",)), Held("o", ("...",)), set()),  # no word: compared as they are
        (Held("r", ("Straße 5, bitte",)), Held("o", ("STRASSE 5 bitte",)), {"equal prompt"}),
        (Held("r", ("hi",)), Held("o", ("hi",)), {"equal prompt"}),  # a whole prompt may be short
        (Held("r", (ASKED,)), Held("o", ("hello", "hi", ASKED)), {"prompt inside a dialogue"}),
        (Held("r", ("hello", ASKED, "go on")), Held("o", (ASKED,)), {"prompt inside a dialogue"}),
        (Held("r", ("x",), (SAID,)), Held("o", ("y",), ("other", SAID)), {"equal answer"}),
        (Held("r", ("x",), (SAID,)), Held("o", ("y", SAID, "z")), {"answer inside a dialogue"}),
        (Held("r", ("y", SAID, "z")), Held("o", ("x",), (SAID,)), {"answer inside a dialogue"}),
        (Held("r", (f"a {WORDS}",)), Held("o", ("y",), (f"{WORDS} b",)), {"run of 13 words"}),
        (Held("r", ("x",), ("yes",)), Held("o", ("y",), ("yes",)), set()),  # short answers are everywhere
        (Held("r", ("hi",)), Held("o", ("hi", "yes", "z")), set()),
        (Held("r", (ASKED, "yes", "and")), Held("o", (SAID, "yes", "and")), set()),
        (Held("r", ()), Held("o", (), ("one",)), set()),
    ],
)
def test_the_ways_in_which_a_row_leaks(row: Held, other: Held, found: set[str]) -> None:
    assert set(kinds(row, Held("else", ("nothing of the kind here",)), other)) == found


def test_runs_that_many_rows_share_are_boilerplate() -> None:
    row = Held("r", (f"{WORDS} end",))
    ten = [Held(str(at), (f"{at} {WORDS}",)) for at in range(10)]
    assert kinds(row, *ten)["run of 13 words"] == ("0", 10)
    assert kinds(row, *ten, Held("10", (f"10 {WORDS}",))) == {}


def test_the_file_lists_both_ids_and_a_row_counts_once(tmp_path: Path) -> None:
    mine = Rows().rated(ASKED, answer=SAID).rated("nothing of the kind").rated("x", answer=SAID)
    folder = write(tmp_path / "mine" / "ratings", {"test": mine.rows})
    others = [Held("first", (ASKED,), (SAID,)), Held("second", ("y",), (SAID,))]
    listed = write_leaks(folder.parent, ["ratings"], others, tmp_path / "leaks.csv")
    with (tmp_path / "leaks.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    one, _, three = (row["id"] for row in mine.rows)
    assert [(line["id"], line["kind"], line["other_id"], line["matches"]) for line in lines] == [
        (one, "equal prompt", "first", "1"),
        (one, "equal answer", "first", "2"),
        (three, "equal answer", "first", "2"),
    ]
    assert {(line["config"], line["split"]) for line in lines} == {("ratings", "test")}
    (found,) = findings(listed, {("ratings", "test"): 3}, "eval").values()
    assert {(line.check, line.count, line.of) for line in found if line.count} == {
        ("equal prompt", 1, 3),
        ("equal answer", 2, 3),
        ("leaks in any way", 2, 3),
    }


def test_a_built_folder_is_read_from_either_level_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine" / "ratings", {"test": Rows().rated("a", "b", "c", answer="d").rows})
    assert held_in(folder) == held_in(folder.parent)
    assert (held_in(folder)[0].prompt, held_in(folder)[0].answers) == (("a", "b", "c"), ("d",))
    with pytest.raises(BuilderError, match="holds no built rows"):
        held_in(tmp_path)


def test_a_leak_shows_the_text_of_the_other_row_cut_and_on_one_line() -> None:
    row = Held("r", (f"a {WORDS}",), (SAID,))
    (found,) = leaks([("c", "s", row)], [Held("o", (f"first\n\nline {WORDS} {'x' * 300}",))])
    assert found.other_text.startswith("first line one two three")
    assert (len(found.other_text), found.other_text[-4:]) == (200, "x...")
    (found,) = leaks([("c", "s", row)], [Held("o", (), (SAID,))])  # no question there: the answer is shown
    assert found.other_text == SAID


def test_rows_are_left_out_of_their_files_and_the_rest_stays_as_it_was(tmp_path: Path) -> None:
    mine = Rows().rated(ASKED, answer=SAID).rated("nothing of the kind").rated("x", answer=SAID)
    folder = write(tmp_path / "ratings", {"test": mine.rows})
    (path,) = folder.glob("*.parquet")
    before = pq.read_table(path)
    ids = before["id"].to_pylist()
    assert drop_rows([path], {ids[0], ids[2], "no such row"}) == 2
    after = pq.read_table(path)
    assert after.to_pylist() == before.to_pylist()[1:2]
    assert after.schema.equals(before.schema, check_metadata=True)
    assert drop_rows([path], {ids[1]}) == 1
    assert (pq.read_table(path).num_rows, list(folder.iterdir())) == (0, [path])
