"""The files that the guides of docs/ start from, made small, and a judge that is right more often than not."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_server import Body

_TOPICS = ("a bicycle", "a recipe", "a contract", "a poem", "a budget", "a letter", "a map", "a battery")
_PEOPLE = ("ann", "ben", "cleo", "dan", "eve")


def chance(*words: object) -> float:
    """Return a number in [0, 1) that depends on nothing but the words."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def mostly_right(body: Body) -> str:
    """Judge a pair by the number of steps that each answer gives; now and then by its position, or wrongly."""
    text = body["messages"][-1]["content"]
    first, second = text.split("=== answer A")[1].split("=== answer B")[:2]
    steps = [part.split("=== end")[0].count("Step") for part in (first, second)]
    drawn = chance("judge", body["model"], text)
    if drawn < 0.08:
        verdict = "A"
    elif drawn < 0.16 or steps[0] == steps[1]:
        verdict = "B" if chance("other", text) < 0.5 else "A"
    else:
        verdict = "A" if steps[0] > steps[1] else "B"
    return json.dumps({"verdict": verdict})


def _asked(n: int) -> str:
    return f"How do I look after {_TOPICS[n % len(_TOPICS)]}, case {n}?"


def _answer(policy: str, n: int, more: float) -> str:
    steps = 2 + (chance(policy, n) < more)
    return " ".join(f"Step {step}: check part {step} of case {n}." for step in range(1, steps + 1))


def _write_answers(path: Path, policy: str, count: int, more: float) -> None:
    rows = [{"prompt": _asked(n), "answer": _answer(policy, n, more)} for n in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def _preferred(n: int, person: str, more: Mapping[str, float]) -> str:
    steps = {policy: _answer(policy, n, share).count("Step") for policy, share in more.items()}
    if len(set(steps.values())) == 1:
        return "tie"
    best = max(steps, key=steps.__getitem__)
    return best if chance("person", person, n) < 0.9 else min(steps, key=steps.__getitem__)


def _write_people(path: Path, more: Mapping[str, float], count: int, people: Sequence[str]) -> None:
    first, second = more
    with path.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["prompt", "policy_a", "policy_b", "winner", "annotator"])
        for n in range(count):
            table.writerows([_asked(n), first, second, _preferred(n, person, more), person] for person in people)


def compare_prompts(folder: Path) -> None:
    """Answers of two versions of a prompt, and one person's preferences for a part, also as a sheet of their own."""
    more = {"v2": 0.8, "v1": 0.3}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 200, share)
    _write_people(folder / "people.csv", more, 60, _PEOPLE[:1])
    with (folder / "people.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    words = {"v2": "new", "v1": "old", "tie": "same"}
    with (folder / "sheet.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["question", "who", "better"])
        table.writerows([row["prompt"], row["annotator"], words[row["winner"]]] for row in rows)
    sides = [[json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()] for name in more]
    with (folder / "both.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["question", "reply_v2", "reply_v1"])
        table.writerows([new["prompt"], new["answer"], old["answer"]] for new, old in zip(*sides, strict=True))


def start(folder: Path) -> None:
    """Answers of two models, and one person's preferences for a part."""
    more = {"ours": 0.8, "theirs": 0.3}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 200, share)
    _write_people(folder / "people.csv", more, 60, _PEOPLE[:1])


def replace_annotators(folder: Path) -> None:
    """Answers of two models, labels of five people for half of them, of two a column each; a judge's verdicts."""
    more = {"ours": 0.7, "theirs": 0.4}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 200, share)
    _write_people(folder / "people.csv", more, 100, _PEOPLE)
    about = [[_asked(n), *more] for n in range(100)]
    with (folder / "wide.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["prompt", "policy_a", "policy_b", *_PEOPLE[:2]])
        said = ([_preferred(n, person, more) for person in _PEOPLE[:2]] for n in range(100))
        table.writerows([*row, *labels] for row, labels in zip(about, said, strict=True))
    with (folder / "verdicts.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["prompt", "policy_a", "policy_b", "said"])
        table.writerows([*row, _preferred(n, "judge", more)] for n, row in enumerate(about))
    raters = ("ann", "ben", "eve", "judge")
    with (folder / "sheet.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["question", "answer_1", "answer_2", *raters])
        for n in range(100):
            texts = [_answer(policy, n, share) for policy, share in more.items()]
            table.writerow([_asked(n), *texts, *(_preferred(n, name, more) for name in raters)])


_MONTHS = (("october", "gpt-4o", 0.02), ("october-again", "gpt-4o", 0.04), ("november", "gpt-5", 0.3))
"""Files of verdicts, who judged, and how often they say tie for no reason."""


def judge_drift(folder: Path) -> None:
    """Answers of two models, one person's preferences for most of them, and what a judge said in files, twice over."""
    more = {"ours": 0.7, "theirs": 0.4}
    for policy, share in more.items():
        _write_answers(folder / f"{policy}.jsonl", policy, 150, share)
    _write_people(folder / "people.csv", more, 120, _PEOPLE[:1])
    for month, judge, wrong in (
        ("october", "gpt-4o", 0.02),
        ("october-again", "gpt-4o", 0.04),
        ("november", "gpt-5", 0.3),
    ):
        said = [_preferred(n, "judge", more) for n in range(150)]
        said = ["tie" if chance(month, n) < wrong else one for n, one in enumerate(said)]
        with (folder / f"{month}.csv").open("w", encoding="utf-8", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["prompt", "model_a", "model_b", "verdict", "judge"])
            table.writerows([_asked(n), *more, one, judge] for n, one in enumerate(said))
        words = {"ours": "new", "theirs": "old", "tie": "same"}
        with (folder / f"sheet-{month}.csv").open("w", encoding="utf-8", newline="") as handle:
            table = csv.writer(handle)
            table.writerow(["id", "better"])
            table.writerows([n, words[one]] for n, one in reversed(list(enumerate(said))))


def lora_against_full(folder: Path) -> None:
    """Preferences for the answer with more steps."""
    rows = [
        {"prompt": _asked(n), "chosen": _answer("good", n, 0.9), "rejected": f"Just look after case {n} somehow."}
        for n in range(30)
    ]
    (folder / "preferences.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")


def leak_check(folder: Path) -> None:
    """Transcripts and posts as they are published, of which the evaluation files hold two and one."""
    harmless = folder / "upstream" / "hh-rlhf" / "harmless-base"
    harmless.mkdir(parents=True)
    for split, first in (("train", 0), ("test", 40)):
        turns = [f"\n\nHuman: {_asked(n)}\n\nAssistant: " for n in range(first, first + 20)]
        lines = [json.dumps({"chosen": f"{turn}I would rather not.", "rejected": f"{turn}Sure."}) for turn in turns]
        with gzip.open(harmless / f"{split}.jsonl.gz", "wt", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")
    shp = folder / "upstream" / "shp" / "askculinary"
    shp.mkdir(parents=True)
    for split, first in (("train", 100), ("validation", 140), ("test", 160)):
        posts = [_post(n, f"askculinary_{split}") for n in range(first, first + 20)]
        (shp / f"{split}.json").write_text("".join(f"{json.dumps(post)}\n" for post in posts), "utf-8")
    (folder / "evaluation.jsonl").write_text(
        "".join(f"{json.dumps({'prompt': _asked(n)})}\n" for n in (3, 105, 900)), "utf-8"
    )
    (folder / "ours.csv").write_text(f'case_id,user_query,expected\nc7,"{_asked(5)}",steps\n', "utf-8")


def _post(n: int, domain: str) -> Mapping[str, Any]:
    return {
        **{"post_id": f"p{n}", "domain": domain, "upvote_ratio": 0.98, "history": _asked(n)},
        **{"c_root_id_A": f"a{n}", "c_root_id_B": f"b{n}", "created_at_utc_A": 2, "created_at_utc_B": 1},
        **{"score_A": 30, "score_B": 10, "human_ref_A": _answer("a", n, 1), "human_ref_B": f"No idea, {n}."},
        **{"labels": 1, "seconds_difference": 1.0, "score_ratio": 3.0},
    }


MAKERS: Mapping[str, Callable[[Path], Any]] = {
    "compare-prompts": compare_prompts,
    "judge-drift": judge_drift,
    "leak-check": leak_check,
    "lora-against-full": lora_against_full,
    "replace-annotators": replace_annotators,
    "start": start,
}
"""By the name of a guide, what makes the files that it starts from."""
