"""Dumps of trainers: read, held against the exact gradient, and refused where they cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds_at_hand import Loss, reinforce

from perl_eval.conformance import ConformanceOptions, run
from perl_eval.conformance.batch_gradients import BatchMaking, make_batch
from perl_eval.conformance.dump_check import check_dump
from perl_eval.conformance.dump_file import read_dump
from perl_eval.conformance.listed_language import WorldShape, listed, summed_log_probs
from perl_eval.conformance.objective_list import exact_gradient
from perl_eval.errors import DataError, UserError
from perl_eval.records import Estimate
from perl_eval.storage import run_folder

SHAPE = WorldShape("dumped", 3, 2, end_rate=0.4, apart=0.5, seed=8)


def lines_of(loss: Loss, *, batches: int = 500, end: int = 0) -> list[dict[str, Any]]:
    """What a trainer that samples groups of 2, 4 a batch, writes down; its end is any word."""
    language = listed(SHAPE)
    order = [0, 1, 2] if end == 0 else [1, 0, 2]  # word of the trainer: word of the language
    random = torch.Generator().manual_seed(2)
    chances = summed_log_probs(language, language.theta).exp()
    drawn = torch.multinomial(chances, batches * 8, replacement=True, generator=random).view(batches, 8)
    policy, prior = torch.log_softmax(language.theta, -1), torch.log_softmax(language.prior, -1)
    head = {"vocabulary": 3, "end": end, "longest": 2, "beta": SHAPE.beta, "group_size": 2, "objective": "kl"}
    found: list[dict[str, Any]] = [head]
    for number, rows in enumerate(drawn):
        batch, places = make_batch(language, rows, language.theta, BatchMaking())
        (gradient,) = torch.autograd.grad(loss(batch), batch.logits)
        for row in range(8):
            live = batch.mask[row]
            at = places[row][live]
            found.append(
                {
                    "batch": number,
                    "tokens": [order.index(word) for word in batch.tokens[row][live].tolist()],
                    "log_probs": policy[at][:, order].tolist(),
                    "prior_log_probs": prior[at][:, order].tolist(),
                    "reward": float(batch.rewards[row]),
                    "gradient": gradient[row][live][:, order].tolist(),
                }
            )
    return found


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("end", [0, 1])
def test_a_dump_is_read_as_the_language_that_made_it(tmp_path: Path, end: int) -> None:
    dump = read_dump(written(tmp_path / "dump.jsonl", lines_of(reinforce, batches=300, end=end)))
    language = listed(SHAPE)
    torch.testing.assert_close(
        exact_gradient(dump.language, "kl"), exact_gradient(language, "kl"), atol=1e-12, rtol=1e-9
    )
    assert dump.law.batches == 300
    assert dump.unseen < 1e-3


def test_a_right_trainer_is_unbiased(tmp_path: Path) -> None:
    found = check_dump(written(tmp_path / "dump.jsonl", lines_of(reinforce)))
    assert (found.verdict, found.faults) == ("unbiased", ())
    assert 0 < found.bias.largest < found.bias.half_width < 0.2


@pytest.mark.parametrize(
    ("fault", "verdict", "named"),
    [
        ("sign of the KL", "biased", "sign of the KL"),
        ("sign of the loss", "against", "sign of the loss"),
        ("mean for sum", "right direction", "mean for sum"),
    ],
)
def test_a_faulty_trainer_is_told_by_its_dump(tmp_path: Path, fault: str, verdict: str, named: str) -> None:
    """So few batches do not resolve what an average over tokens turns; the nearest formula shows it all the same."""
    found = check_dump(written(tmp_path / "dump.jsonl", lines_of(partial(reinforce, fault=fault))))
    assert found.verdict == verdict
    assert named in " ".join(found.faults)


def test_the_verb_writes_what_a_dump_comes_to(tmp_path: Path) -> None:
    path = written(tmp_path / "dump.jsonl", lines_of(reinforce, batches=300))
    folder = run(tmp_path / "out", options=ConformanceOptions(dump=path))
    told = json.loads((folder / "dump.json").read_text("utf-8"))
    bias = next(one for one in run_folder.read(folder, Estimate) if one.name == "gradient bias")
    assert (bias.value, bias.n) == (told["bias"]["largest"], 300)
    assert (bias.low or 0) <= bias.value <= (bias.high or 0)
    assert run(tmp_path / "out", options=ConformanceOptions(dump=path)) == folder


def test_a_dump_is_checked_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a dump is checked alone"):
        ConformanceOptions(dump=tmp_path, corner=True)


def _without(key: str, line: int) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[line].pop(key)


def _set(key: str, value: Any, line: int = 1) -> Callable[[list[dict[str, Any]]], None]:
    return lambda lines: lines[line].update({key: value})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without("beta", 0), "line 1 has no beta"),
        (_set("vocabulary", "many", 0), "line 1: "),
        (_set("end", 7, 0), "end is 7"),
        (_set("longest", 40, 0), "too many to list"),
        (_without("gradient", 3), "line 4 has no gradient"),
        (_set("tokens", [2, 9]), "line 2: "),
        (_set("tokens", []), "line 2"),
        (_set("reward", float("nan")), "not finite"),
        (_set("gradient", [[0.0, 0.0]]), "line 2"),
        (_set("gradient", [0.0, 0.0, 0.0]), "line 2"),
        (lambda lines: lines.__delitem__(slice(1, None)), "no completion"),
        (lambda lines: lines.__delitem__(slice(3, None)), "do not occur"),
        (lambda lines: lines.__delitem__(slice(0, None)), "empty"),
    ],
)
def test_a_dump_that_cannot_be_told_is_refused(
    tmp_path: Path, spoil: Callable[[list[dict[str, Any]]], object], said: str
) -> None:
    lines = lines_of(reinforce, batches=20)
    spoil(lines)
    path = written(tmp_path / "dump.jsonl", lines) if lines else tmp_path / "dump.jsonl"
    path.touch()
    with pytest.raises(DataError, match=said) as caught:
        read_dump(path)
    assert "dump.jsonl" in str(caught.value)


@pytest.mark.parametrize(("key", "said"), [("log_probs", "two distributions"), ("reward", "two rewards")])
def test_a_policy_that_moves_is_refused(tmp_path: Path, key: str, said: str) -> None:
    lines = lines_of(reinforce, batches=20)
    line = lines[-1]
    line[key] = line[key] + 1 if key == "reward" else [[-1.0, -1.1, -1.2] for _ in line[key]]
    with pytest.raises(DataError, match=said):
        read_dump(written(tmp_path / "dump.jsonl", lines))


def test_a_line_that_is_no_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text("{\n", "utf-8")
    with pytest.raises(DataError, match="line 1 is not JSON"):
        read_dump(path)
