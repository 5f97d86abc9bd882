"""Devices and precision by name, and ends of samples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.tokenize import Encoded, encode_prompt, pad
from perl_eval.records import Message


def test_auto_is_the_gpu_of_this_process_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Placement().resolve() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Placement().resolve() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert Placement().resolve() == torch.device("cuda", 3)
    assert Placement("cpu").resolve() == torch.device("cpu")


@pytest.mark.parametrize("device", ["warp", "cuda:99", ""])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UserError, match=r"no device '.*' here \(.*\); give cpu, or auto"):
        Placement(device).resolve()


def test_a_precision_that_is_not_there() -> None:
    with pytest.raises(UserError, match="dtype 'fp8' is not known"):
        Placement(dtype="fp8")  # type: ignore[arg-type]


def test_a_backbone_is_put_where_it_is_asked(blank: Path) -> None:
    backbone = open_backbone(blank, Placement(device="meta"))
    assert backbone.device == torch.device("meta")
    assert {parameter.device.type for parameter in backbone.causal.parameters()} == {"meta"}


@torch.no_grad()
def test_bfloat16_halves_a_frozen_backbone_and_stays_near(blank: Path) -> None:
    wide, narrow = open_backbone(blank), open_backbone(blank, Placement(dtype="bf16"))
    assert narrow.resident_bytes() * 2 == wide.resident_bytes()
    assert narrow.sha256 == wide.sha256
    batch = pad([Encoded((3, 20, 21, 22, 1), (False,) * 5)], pad_id=0)
    found, expected = narrow.logits(narrow.hidden(batch)), wide.logits(wide.hidden(batch))
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.05)
    assert not torch.equal(found, expected)


def test_a_bfloat16_checkpoint_has_one_sum_in_either_precision(blank: Path, tmp_path: Path) -> None:
    open_backbone(blank).causal.to(torch.bfloat16).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((blank / name).read_bytes())
    sums = {open_backbone(tmp_path, Placement(dtype=dtype)).sha256 for dtype in ("fp32", "bf16")}
    assert len(sums) == 1
    assert sums != {open_backbone(blank).sha256}


def test_every_end_of_the_generation_config_ends_a_sample(blank: Path) -> None:
    """Chat models name several; the pad token among them (it happens) ends nothing."""
    plain = open_backbone(blank)
    prompt = encode_prompt(plain.tokenizer, (Message("user", "hi"),), max_tokens=20)
    (long,) = generate(plain, [prompt], [3], Sampling(1.0, 8))
    assert len(long.ids) == 8
    other = long.ids[4]
    model = open_backbone(blank).causal
    model.generation_config.eos_token_id = [plain.tokenizer.eos_token_id, other, plain.tokenizer.pad_token_id]
    several = Backbone(model, plain.tokenizer, blank)
    assert several.end_ids == (plain.tokenizer.eos_token_id, other)
    assert several.end_id == plain.tokenizer.eos_token_id
    (short,) = generate(several, [prompt], [3], Sampling(1.0, 8))
    first = long.ids.index(other)
    assert short.ids == long.ids[: first + 1]
    assert short.finished
    assert short.text == plain.tokenizer.decode(long.ids[:first]).strip()


def test_a_model_that_cannot_compute_anew_is_refused() -> None:
    from perl_eval.models.families import recomputing_layers

    with pytest.raises(UserError, match="SimpleNamespace cannot compute activations anew"):
        recomputing_layers(SimpleNamespace(modules=list))
