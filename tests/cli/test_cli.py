"""The command line: help everywhere, and one line for whatever a user gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from command_line import Command

from perl_eval import cli
from perl_eval.records import Completion, HumanLabel, Judgement, Message
from perl_eval.storage import parquet, run_folder
from perl_eval.worlds import coffee, pictures

# ---------------------------------------------------------------------------------------------------- things to give

ASKED = (Message("user", "a small latte with oat milk please"),)


def completions(folder: Path, policy: str, text: str, n: int = 6) -> Path:
    with run_folder.start(folder, verb="sample", arguments={"policy": policy}) as run:
        answers = [
            Completion(f"{policy}{item}", f"item {item}", f"g{item}", "d", policy, ASKED, text, "stop", 0)
            for item in range(n)
        ]
        run.write(answers, Completion)
    return folder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one of everything, good and bad; tests write elsewhere."""
    shelf = tmp_path_factory.mktemp("shelf")
    completions(shelf / "a", "rl", "sure , one small oat milk latte coming up")
    completions(shelf / "b", "sft", "sure , one large oat milk latte coming up")
    (shelf / "text.parquet").write_text("these are words\n")
    (shelf / "file").write_text("x")
    (shelf / "empty").mkdir()
    answers = run_folder.read(shelf / "a", Completion)
    broken = parquet.schema_of(Completion).empty_table().to_pylist()
    parquet.write(shelf / "broken.parquet", answers, Completion)
    broken = pq.read_table(shelf / "broken.parquet").to_pylist()
    broken[3]["finish"] = "exploded"
    pq.write_table(pa.Table.from_pylist(broken), shelf / "broken.parquet")
    parquet.write(shelf / "labels.parquet", [HumanLabel("elsewhere", "i", "g", "p1", "win")], HumanLabel)
    coffee.build(shelf / "data", demonstrations=20, preferences=20, prompts=20)
    (shelf / "weightless").mkdir()
    (shelf / "weightless" / "config.json").write_text("{}")
    (shelf / "changed").mkdir()
    completions(shelf / "changed", "rl", "one")
    parquet.write(shelf / "changed" / "completions.parquet", [replace(answers[0], text="two")], Completion)
    return shelf


@pytest.fixture
def at(shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Stand in a fresh folder from which the shelf is reached as ``s``."""
    (tmp_path / "s").symlink_to(shelf)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "out" / "run.json").exists()


# ---------------------------------------------------------------------------------------------------- help


def every_command() -> list[str]:
    def walk(found: Any, path: str) -> Iterator[str]:
        yield path
        for name, inner in getattr(found, "commands", {}).items():
            yield from walk(inner, f"{path} {name}".strip())

    return list(walk(typer.main.get_command(cli.whole_program()), ""))


def test_the_commands_are_these() -> None:
    named = {"build", "sample", "recorded", "judge", "score", "agree", "report", "demo", "train"}
    assert {*named, "", "train sft", "train reward", "train policy"} <= set(every_command())


@pytest.mark.parametrize("path", every_command())
def test_every_command_has_help(path: str, command: Command) -> None:
    shown = command(f"{path} --help")
    assert shown.code in (None, 0)
    assert shown.err == ""
    assert f"Usage: perl-eval{' ' if path else ''}{path}" in " ".join(shown.out.split())


@pytest.mark.parametrize("path", ["", "train"])
def test_a_group_without_a_command_shows_its_help(path: str, command: Command) -> None:
    shown = command(path)
    assert "Usage: perl-eval" in shown.out
    assert (shown.code, shown.err) == (2, "")


# ---------------------------------------------------------------------------------------------------- typed wrongly

TRAIN = "train policy --data s/data/prompts --prior s/none --reward s/none --out out"
SAMPLE = "sample --model s/none --data s/data/prompts --out out"
SFT = "train sft --data s/data/demonstrations --out out"
REWARD = "train reward --data s/data/preferences --prior s/none --out out"
JUDGE = "judge s/a s/b --out out --prompt dialogue --judge"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nosuch", "No such command 'nosuch'"),
        ("train nosuch", "No such command 'nosuch'"),
        ("score", "Missing argument"),
        ("sample --data s/data/prompts --out out", "Missing option '--model'"),
        ("score s/a --out out --nosuch 1", "No such option: --nosuch"),
        ("score s/a --out out --nosuch '[bold]\nx'", "No such option"),
        (f"{TRAIN} --steps many", "Invalid value for '--steps'"),
        (f"{SAMPLE} --seed -1", "Invalid value for '--seed'"),
        (f"{SAMPLE} --seed {2**32}", "Invalid value for '--seed'"),
        ("build taskmaster-coffee --num-proc 0 --out out", "Invalid value for '--num-proc'"),
        (f"{REWARD} --folds -1", "Invalid value for '--folds'"),
        (f"{REWARD} --members 2", "--members is for --folds only"),
        (f"{REWARD} --rank 0", "--rank is 0; give at least 1"),
        (f"{TRAIN} --rank -3", "--rank is -3"),
        (f"{TRAIN} --targets ' , '", "--targets ' , ' names no projection"),
        (f"{TRAIN} --kl-weight 1.5", "--kl-weight is 1.5; give a number in [0, 1), such as 0.05"),
        (f"{TRAIN} --kl-weight 1", "--kl-weight is 1.0; give a number in [0, 1), such as 0.05"),
        (f"{TRAIN} --kl-weight nan", "--kl-weight is nan; give a number in [0, 1), such as 0.05"),
        (f"{TRAIN} --value none", "--value 'none' is not known; choose from head, adapter"),
        ("report s/a --format pdf", "--format 'pdf' is not known; choose from html, md, json"),
        ("build nosuch --out out", "nosuch"),
        ("build taskmaster-coffee --config nosuch --data-dir s --out out", "nosuch"),
        ("build taskmaster-coffee --checksums maybe --data-dir s --out out", "maybe"),
        ("build taskmaster-coffee --data-dir s/none --out out", "s/none"),
        ("build coffee-world --config ratings --out out", "coffee-world is made on the spot and takes no --config"),
        ("build coffee-world --check --out out", "takes no --check"),
        ("build coffee-world --drop-leaks --out out", "takes no --drop-leaks"),
        ("build coffee-world --column prompt=q --out out", "takes no --column"),
        ("build shp --check --drop-leaks --data-dir s --out out", "--drop-leaks is about texts to look for"),
        ("build shp --column prompt --data-dir s --out out", "--column is 'prompt'; give NAME=COLUMN"),
        ("build coffee-world --push-to-hub me/it --out out", "takes no --push-to-hub"),
        ("build coffee-world --setting a=b --out out", "takes no --setting"),
        ("build shp --setting min_score_ratio --out out", "--setting 'min_score_ratio' is not NAME=VALUE"),
        ("build shp --setting a=1 --setting a=2 --out out", "--setting a is given twice"),
        ("build shp --setting min_score_ratio=high --data-dir s --out out", "min_score_ratio='high' is not a number"),
        (f"{JUDGE} nosuch", "no judge 'nosuch'; give scripted:world"),
        (f"{JUDGE} scripted:nosuch", "no judge 'scripted:nosuch'"),
        (f"{JUDGE} reward:s/none", "no model at s/none"),
        (f"{JUDGE} reward:s/weightless", "the model at s/weightless has no safetensors weights"),
        (f"{JUDGE} scripted:world --noise -1", "--noise is -1"),
        (f"{JUDGE} scripted:world --tie-margin nan", "--tie-margin is nan"),
        (f"{JUDGE} scripted:world --limit 0", "--limit is 0"),
        (f"{JUDGE} chat:m --base-url ftp://x/", "address"),
        ("judge s/a s/b --out out --judge scripted:world --prompt nosuch", "nosuch"),
        ("judge s/a s/b --out out --judge scripted:world --prompt harmful", "harmful"),
        ("judge s/a --out out --judge scripted:world --prompt dialogue", "dialogue"),
    ],
)
def test_a_mistake_is_one_line(line: str, said: str, fails: Callable[[str], str], at: Path) -> None:
    assert said in fails(line)
    assert not (at / "out" / "completions.parquet").exists()


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize(
    "line",
    [
        *(f"{TRAIN} --{option}" for option in ("steps", "batch", "max-tokens", "max-new-tokens", "learning-rate")),
        *(f"{REWARD} --{option}" for option in ("epochs", "batch", "max-tokens", "max-new-tokens", "learning-rate")),
        *(f"{SFT} --{option}" for option in ("epochs", "batch", "max-tokens", "learning-rate")),
        *(f"{SAMPLE} --{option}" for option in ("draws", "batch", "max-tokens", "max-new-tokens")),
        f"{TRAIN} --temperature",
    ],
)
def test_what_must_be_above_zero_is(line: str, value: str, fails: Callable[[str], str], at: Path) -> None:
    option = line.rpartition("--")[2]
    message = fails(f"{line} {value}")
    assert f"--{option} is {value}" in message
    assert not (at / "out").exists()


@pytest.mark.parametrize(
    "line", [f"{TRAIN} --beta -1", f"{SAMPLE} --temperature -0.5", f"{SAMPLE} --limit -2", f"{TRAIN} --beta nan"]
)
def test_what_must_not_be_negative_is_not(line: str, fails: Callable[[str], str], at: Path) -> None:
    *_, option, value = line.split()
    message = fails(line)
    assert f"{option} is {value}" in message


@pytest.mark.parametrize("line", [TRAIN, SAMPLE, REWARD])
def test_a_prompt_needs_room(line: str, fails: Callable[[str], str], at: Path) -> None:
    assert "--max-tokens is 64; give more than --max-new-tokens, 64" in fails(
        f"{line} --max-tokens 64 --max-new-tokens 64"
    )


# ---------------------------------------------------------------------------------------------------- given wrongly


@pytest.mark.parametrize(
    ("line", "said"),
    [
        # Nothing there.
        ("score nothing --out out", "no such file"),
        ("agree nothing s/labels.parquet --out out", "no such file"),
        ("judge nothing s/b --out out --prompt dialogue --judge scripted:world", "nothing"),
        ("report nothing --out page.html", "nothing does not exist"),
        ("recorded --data nothing --out out", "nothing"),
        ("train sft --data nothing --out out", "nothing"),
        ("sample --model nothing --data s/data/prompts --out out", "nothing"),
        (f"{TRAIN}", "s/none"),
        (f"{SFT} --model s/none", "s/none"),
        (f"{SFT} --model scratch:huge", "no from-scratch size 'huge'; choose one of tiny, small, medium"),
        (f"{SFT} --model s/weightless", "has no safetensors weights"),
        ("sample --model s/weightless --data s/data/prompts --out out", "has no safetensors weights"),
        # Something else.
        ("score s/text.parquet --out out", "s/text.parquet: is not a parquet file"),
        ("agree s/text.parquet s/labels.parquet --out out", "s/text.parquet: is not a parquet file"),
        ("judge s/text.parquet s/b --out out --prompt dialogue --judge scripted:world", "is not a parquet file"),
        ("score s/labels.parquet --out out", "s/labels.parquet, field 'id': no such column"),
        ("score s/empty --out out", "s/empty has no judgements.parquet"),
        ("report s/empty --out page.html", "no run folder at or below s/empty"),
        ("report s/file --out page.html", "s/file is a file"),
        ("report s/a --out s/empty", "s/empty is a folder"),
        ("judge s/broken.parquet s/b --out out --prompt dialogue --judge scripted:world", "row 3, field 'finish'"),
        ("judge s/changed s/b --out out --prompt dialogue --judge scripted:world", "does not match the sha256"),
        ("train sft --data s/data --out out", "it has the configs demonstrations, preferences, prompts"),
        ("train sft --data s/data/prompts --out out", "field 'completion': no such column"),
        ("sample --model s/weightless --data s/data/prompts --split nosuch --out out", "has no split 'nosuch'"),
        ("recorded --data s/data/demonstrations --split train --out out", "field 'label': no such column"),
        # No place for the output.
        ("score s/a --out s/file", "s/file is a file; give a folder"),
        ("score s/a --out s/file/out", "cannot write s/file/out"),
        ("build coffee-world --out s/file/out", "cannot write s/file/out"),
        ("report s/a --out s/file/page.html", "cannot write s/file/page.html"),
        ("build coffee-world --out s/a", "s/a holds the output of another `sample` run: this one is `build`"),
        ("build coffee-world --out s/empty/..", "is not empty and not an unfinished run"),
        (f"score s/a --out {'x' * 300}", "File name too long"),
    ],
)
def test_a_wrong_input_or_output_is_one_line(line: str, said: str, fails: Callable[[str], str], at: Path) -> None:
    assert said in fails(line)


# ---------------------------------------------------------------------------------------------------- what goes well


def test_judge_score_agree_and_report_say_where_they_wrote(command: Command, shelf: Path, tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("judged", "scored", "agreed", "diverse")}
    judge = f"judge {shelf}/a {shelf}/b --prompt dialogue --judge scripted:world --out {out['judged']}"
    for _ in range(2):  # a finished command says the same again
        shown = command(judge)
        assert (shown.code, shown.out.splitlines()[-1]) == (None, str(out["judged"]))
    judged = run_folder.read(out["judged"], Judgement)
    assert [(one.outcome, one.policy_a, one.policy_b) for one in judged] == [("win", "rl", "sft")] * 6
    labels = [HumanLabel(one.unit, one.item, one.group, person, "win") for one in judged for person in ("p1", "p2")]
    parquet.write(tmp_path / "labels.parquet", labels, HumanLabel)
    for line, name in (
        (f"score {out['judged']}", "scored"),
        (f"score {shelf}/a", "diverse"),
        (f"agree {out['judged']} {tmp_path}/labels.parquet", "agreed"),
    ):
        shown = command(f"{line} --out {out[name]}")
        assert (shown.code, shown.out.splitlines()[-1]) == (None, str(out[name]))
        assert "interval" in shown.out
    for form in ("html", "md", "json"):
        page = tmp_path / f"report.{form}"
        shown = command(f"report {out['judged']} {out['scored']} --out {page} --format {form}")
        assert (shown.code, shown.out) == (None, f"{page}\n")
        assert "win rate" in page.read_text("utf-8")


def test_labels_of_other_units_are_one_line(fails: Callable[[str], str], command: Command, at: Path) -> None:
    assert command("judge s/a s/b --prompt dialogue --judge scripted:world --out judged").code is None
    message = fails("agree judged s/labels.parquet --out out")
    assert "no judged unit is labelled" in message
    assert "such as elsewhere" in message


def test_rated_rows_become_completions_and_labels(command: Command, tmp_path: Path) -> None:
    def turns(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    rated = [
        {"id": f"r{row}", "group": f"g{row}", "dataset": "d", "prompt": turns("user", "a latte"), "label": row == 0}
        | {"completion": turns("assistant", f"answer {row}")}
        for row in range(2)
    ]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rated), tmp_path / "data" / "test.parquet")
    assert command(f"recorded --data {tmp_path}/data --out {tmp_path}/out").out == f"{tmp_path}/out\n"
    assert [one.text for one in run_folder.read(tmp_path / "out", Completion)] == ["answer 0", "answer 1"]
    assert [label.label for label in run_folder.read(tmp_path / "out", HumanLabel)] == ["yes", "no"]


def test_build_passes_its_options_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from perl_eval import building

    asked: list[building.BuildOptions] = []

    def stand_in(_: str, out: Path, **options: Any) -> Path:
        asked.append(options["options"])
        return out

    monkeypatch.setattr(building, "run", stand_in)
    command("build shp --setting min_score_ratio=2 --setting max_pairs_per_post=5 --cache-dir c --public --out o")
    assert asked[0].settings == {"min_score_ratio": "2", "max_pairs_per_post": "5"}
    assert (asked[0].cache_dir, asked[0].public) == (Path("c"), True)
    assert (asked[0].drop_leaks, asked[0].columns) == (False, {})
    command("build shp --check --against e.csv --column prompt=q --column item=case_id --drop-leaks --out o")
    assert (asked[1].drop_leaks, asked[1].columns) == (True, {"prompt": "q", "item": "case_id"})


def test_build_takes_the_embedded_world_under_both_spellings(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int]] = []

    def build(out: Path, *, seed: int) -> Path:
        asked.append((out, seed))
        return out

    monkeypatch.setattr(coffee, "build", build)
    assert command(f"build coffee-world --out {tmp_path} --seed 3").out == f"{tmp_path}\n"
    assert command(f"build coffee_world --out {tmp_path}").out == f"{tmp_path}\n"
    assert asked == [(tmp_path, 3), (tmp_path, 0)]
    monkeypatch.setattr(pictures, "build", build)
    assert command(f"build picture-world --out {tmp_path} --seed 4").out == f"{tmp_path}\n"
    assert asked[2:] == [(tmp_path, 4)]


def test_a_missing_extra_is_one_line(fails: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    for line in (SAMPLE, TRAIN, SFT, REWARD, "demo --out out", f"{JUDGE} reward:x"):
        said = (
            "error: this verb needs torch; install the extra: pip install 'perl-eval[train]'"
            " (see `perl-eval docs README#install`)\n"
        )
        assert fails(line) == said


# ---------------------------------------------------------------------------------------------------- as a program
