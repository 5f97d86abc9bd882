"""The verb ``sample``: prompts to completions, with log-probabilities that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from perl_eval.errors import DataError, UserError
from perl_eval.models.backbone import LoraShape, open_backbone
from perl_eval.models.reward_model import RewardScale
from perl_eval.models.tokenize import encode_prompt
from perl_eval.records import Completion
from perl_eval.sampling import in_process
from perl_eval.storage import run_folder

torch.set_num_threads(1)
OPTIONS = in_process.SampleOptions(max_new_tokens=6, max_tokens=40, batch=5, temperature=0.8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def prior(folder: Path) -> Path:
    return tiny_models.save_blank(folder / "prior")


@pytest.fixture(scope="module")
def tuned(folder: Path, prior: Path) -> Path:
    """Return a policy of random weights."""
    backbone = open_backbone(prior)
    backbone.attach("policy", LoraShape(4), seed=0)
    tiny_models.stir(backbone, "policy", size=0.1)
    backbone.save("policy", folder / "tuned")
    return folder / "tuned"


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """Return twelve prompts, two of them the same dialogue."""
    asked = [tiny_models.row(f"q{number}", f"paint {number}") for number in range(11)]
    return tiny_models.write_rows(folder / "data", test=[*asked, tiny_models.row("again", "paint 3")], train=asked[:2])


def slow_log_prob(model: Path, adapter: str | None, completion: Completion, temperature: float) -> float:
    backbone = open_backbone(model)
    if adapter:
        backbone.attach_saved(adapter, model)
    prompt = encode_prompt(backbone.tokenizer, completion.prompt, max_tokens=34)
    whole = [*prompt, *completion.token_ids]
    with torch.no_grad(), backbone.adapter(adapter):
        logits = backbone.causal(input_ids=torch.tensor([whole])).logits[0].double()
    table = torch.log_softmax(logits / temperature, -1)
    return sum(float(table[place - 1, whole[place]]) for place in range(len(prompt), len(whole)))


def test_completions_of_a_policy_carry_both_log_probabilities(
    tuned: Path, prior: Path, data: Path, folder: Path
) -> None:
    answers = run_folder.read(in_process.run(tuned, data, folder / "both", options=OPTIONS), Completion)
    for answer in answers[:4]:
        assert answer.logprob == pytest.approx(slow_log_prob(tuned, "policy", answer, 0.8), abs=1e-4)
        assert answer.prior_logprob == pytest.approx(slow_log_prob(prior, None, answer, 0.8), abs=1e-4)
    assert np.std([(a.logprob or 0) - (a.prior_logprob or 0) for a in answers]) > 0.1


def test_completions_of_a_whole_model_are_the_priors(prior: Path, data: Path, folder: Path) -> None:
    answers = run_folder.read(in_process.run(prior, data, folder / "prior-out", options=OPTIONS), Completion)
    assert all(answer.logprob == answer.prior_logprob for answer in answers)
    assert answers[0].logprob == pytest.approx(slow_log_prob(prior, None, answers[0], 0.8), abs=1e-4)
    assert {answer.policy for answer in answers} == {"prior"}


def test_what_a_completion_says(prior: Path, data: Path, folder: Path) -> None:
    options = replace(OPTIONS, draws=3, name="mine")
    answers = run_folder.read(in_process.run(prior, data, folder / "draws", options=options, seed=4), Completion)
    tokenizer = open_backbone(prior).tokenizer
    assert len(answers) == 33  # eleven dialogues: the same one is answered once, under its first row
    assert "again" not in {answer.item for answer in answers}
    assert len({answer.id for answer in answers}) == 33
    assert sorted((answer.item, answer.draw) for answer in answers) == [
        (f"q{number}", draw) for number in sorted(range(11), key=str) for draw in range(3)
    ]
    for answer in answers:
        ended = answer.token_ids[-1] == tokenizer.eos_token_id
        assert answer.finish == ("stop" if ended else "length")
        assert ended or len(answer.token_ids) == 6
        said = answer.token_ids[:-1] if ended else answer.token_ids
        assert answer.text == tokenizer.decode(said).strip()
        assert (answer.policy, answer.group, answer.dataset) == ("mine", answer.prompt[0].content, "paint")


def test_fewer_prompts_are_some_of_the_same_answers(prior: Path, data: Path, folder: Path) -> None:
    """Neither limit nor batch changes what an item gets: only which items are asked."""
    whole = run_folder.read(in_process.run(prior, data, folder / "whole", options=OPTIONS), Completion)
    options = replace(OPTIONS, limit=4, batch=3, name="whole")
    some = run_folder.read(in_process.run(prior, data, folder / "some", options=options), Completion)
    assert len({answer.item for answer in some}) == 4
    texts = {answer.item: answer.token_ids for answer in whole}
    assert all(answer.token_ids == texts[answer.item] for answer in some)


def test_the_seed_and_the_draw_decide(prior: Path, data: Path, folder: Path) -> None:
    found = []
    for seed, out in ((0, "seed-0"), (0, "seed-0-again"), (1, "seed-1")):
        options = replace(OPTIONS, draws=2, limit=3, name="same", temperature=1.0)
        found.append(run_folder.read(in_process.run(prior, data, folder / out, options=options, seed=seed), Completion))
    assert found[0] == found[1]
    assert [answer.token_ids for answer in found[0]] != [answer.token_ids for answer in found[2]]
    for item in {answer.item for answer in found[0]}:
        assert len({answer.token_ids for answer in found[0] if answer.item == item}) == 2


def test_a_second_call_is_done(prior: Path, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = in_process.run(prior, data, folder / "once", options=OPTIONS)
    before = (out / "completions.parquet").read_bytes()
    monkeypatch.setattr(in_process, "open_backbone", lambda _: pytest.fail("a finished run was done again"))
    assert in_process.run(prior, data, folder / "once", options=OPTIONS) == out
    assert (out / "completions.parquet").read_bytes() == before
    with pytest.raises(UserError, match="another `sample` run"):
        in_process.run(prior, data, folder / "once", options=replace(OPTIONS, draws=2))


def test_changed_inputs_and_outputs_are_refused(prior: Path, data: Path, tmp_path: Path) -> None:
    out = in_process.run(prior, data, tmp_path / "out", options=replace(OPTIONS, limit=2))
    file = out / "completions.parquet"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DataError, match="does not match the sha256"):
        run_folder.read(out, Completion)
    with pytest.raises(DataError, match="does not match the sha256"):
        in_process.run(prior, data, tmp_path / "out", options=replace(OPTIONS, limit=2))


def test_models_that_cannot_answer(prior: Path, data: Path, tmp_path: Path) -> None:
    backbone = open_backbone(prior)
    backbone.attach("reward", LoraShape(2), seed=0, head=1)
    backbone.save("reward", tmp_path / "reward")
    RewardScale("pairwise", 0.0, 1.0, 40).save(tmp_path / "reward")
    with pytest.raises(UserError, match="is a reward model, which gives no answers"):
        in_process.run(tmp_path / "reward", data, tmp_path / "out", options=OPTIONS)
    with pytest.raises(UserError, match="no model at"):
        in_process.run(data, data, tmp_path / "other", options=OPTIONS)
    with pytest.raises(UserError, match=r"has no split 'validation' \(it has test, train\)"):
        in_process.run(prior, data, tmp_path / "third", options=replace(OPTIONS, split="validation"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 64}, "max_tokens is 64; give more than `max_new_tokens`, 64"),
        ({"draws": 0}, "draws is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"limit": -1}, "limit is -1"),
        ({"temperature": -0.5}, "temperature is -0.5"),
    ],
)
def test_impossible_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        in_process.SampleOptions(**options)


def test_the_likeliest_tokens_carry_no_probability(tuned: Path, data: Path, folder: Path) -> None:
    """At temperature 0 nothing is drawn: two draws are alike, and no log-probability is claimed."""
    options = replace(OPTIONS, draws=2, limit=2, temperature=0)
    out = in_process.run(tuned, data, folder / "greedy", options=options)
    found = run_folder.read(out, Completion)
    assert all(one.logprob is None and one.prior_logprob is None for one in found)
    for item in {one.item for one in found}:
        first, second = (one.token_ids for one in found if one.item == item)
        assert first == second
