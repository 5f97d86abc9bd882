"""What a frozen tower makes of a picture is computed once, and is what pixels would have given."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import tiny_vision
import torch
from PIL import Image

from perl_eval.models.adapters import ATTENTION, LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.tokenize import PaddedBatch, encode_dialogue, pad
from perl_eval.records import PICTURE, Message
from perl_eval.storage import images
from perl_eval.storage.images import Picture, in_files


@pytest.fixture(scope="module", params=tiny_vision.SAVERS)
def seeing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backbone]:
    with tiny_vision.without_films():
        yield open_backbone(tiny_vision.save(request.param, tmp_path_factory.mktemp("features") / request.param))


@pytest.fixture
def llava(tmp_path: Path) -> Backbone:
    return open_backbone(tiny_models.save_blank_vision(tmp_path / "llava"))


@pytest.fixture
def shown(tmp_path: Path) -> tuple[Picture, ...]:
    """Return three pictures of different shapes."""
    names = []
    for colour, size in (("red", (32, 32)), ("lime", (64, 20)), ("blue", (18, 50))):
        image = Image.new("RGB", size, colour)
        image.paste("black", (0, 0, size[0] // 3, size[1] // 2))
        image.save(tmp_path / "drawn.png")
        names.append(images.keep(tmp_path, (tmp_path / "drawn.png").read_bytes()))
    return in_files(images.locate(tmp_path, names))


def batch_of(backbone: Backbone, *rows: tuple[Picture, ...]) -> PaddedBatch:
    encoded = [
        encode_dialogue(
            backbone.processor,
            (Message("user", PICTURE * len(row) + "what colour"),),
            (Message("assistant", "red"),),
            max_tokens=900,
            pictures=row,
        )
        for row in rows
    ]
    return pad(encoded, pad_id=backbone.pad_id)


def looks(backbone: Backbone, patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of elements of all pixels that the tower is given, call by call."""
    seen: list[int] = []
    inner = backbone.causal.base_model
    own = inner.get_image_features

    def counted(pixel_values: torch.Tensor, *given: object, **how: object) -> object:
        seen.append(pixel_values.numel())
        return own(pixel_values, *given, **how)

    functools.update_wrapper(counted, own)
    patch.setattr(inner, "get_image_features", counted)
    return seen


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_kept_features_are_what_pixels_give(
    seeing: Backbone, shown: tuple[Picture, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as from pixels but for rounding, for pictures in any order and number; and the same bits again."""
    backbone = seeing
    if dtype == "bf16":
        with tiny_vision.without_films():
            backbone = open_backbone(seeing.path, Placement(device="cpu", dtype="bf16"))
    batch = batch_of(backbone, shown[:1], (shown[2], shown[1]), (), shown)
    first, again = backbone.hidden(batch), backbone.hidden(batch)
    assert torch.equal(first, again)
    alone = backbone.hidden(batch_of(backbone, shown[:1]))
    assert torch.allclose(first[0][batch.live[0]], alone[0], atol=2e-5 if dtype == "fp32" else 0.1)
    monkeypatch.setattr("perl_eval.models.vision.can_keep", lambda _: False)
    pixels = backbone.hidden(batch)
    assert torch.allclose(first[batch.live], pixels[batch.live], atol=2e-5 if dtype == "fp32" else 0.1)
    seeing.processor._features.forget()


@torch.no_grad()
def test_a_picture_is_looked_at_once_and_alone(
    seeing: Backbone, shown: tuple[Picture, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeing.processor._features.forget()
    seen = looks(seeing, monkeypatch)
    batch = batch_of(seeing, shown[:1], shown[:1], shown[1:], shown)
    for name in ("policy", "reward"):
        if name not in (seeing._peft.peft_config if seeing._peft else {}):
            seeing.attach(name, LoraShape(), seed=0)
    for adapter in (None, "policy", "reward"):
        with seeing.adapter(adapter):
            seeing.hidden(batch)
    assert len(seen) == 3
    monkeypatch.undo()
    # whatever else is looked at, and whenever, a picture becomes the same bits
    backbone = open_backbone_like(seeing)
    backbone.hidden(batch_of(backbone, (shown[2],), (shown[0], shown[1])))
    ours, theirs = (one.processor._features._kept[shown[1].sha256].features for one in (seeing, backbone))
    assert all(torch.equal(one, other) for one, other in zip(flat(ours), flat(theirs), strict=True))


def open_backbone_like(backbone: Backbone) -> Backbone:
    with tiny_vision.without_films():
        return open_backbone(backbone.path)


def flat(features: object) -> list[torch.Tensor]:
    if isinstance(features, torch.Tensor):
        return [features]
    parts = features.values() if isinstance(features, dict) else features
    return [one for part in parts for one in flat(part)]  # type: ignore[attr-defined]


def test_features_are_made_anew_where_the_tower_may_change(
    llava: Backbone, shown: tuple[Picture, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = looks(llava, monkeypatch)
    batch = batch_of(llava, shown)
    llava.hidden(batch)
    llava.train_only(None)
    before = llava.hidden(batch)
    assert len(seen) == 4  # one by one while it is frozen, then all at once
    weight = llava.causal.model.vision_tower.embeddings.patch_embedding.weight
    with torch.no_grad():
        weight.mul_(-1)
    assert not torch.allclose(llava.hidden(batch), before, atol=1e-3)
    llava.train_only()
    after = llava.hidden(batch)
    assert not torch.allclose(after, before, atol=1e-3)


def test_features_are_made_anew_under_an_adapter_on_the_tower(llava: Backbone, shown: tuple[Picture, ...]) -> None:
    batch = batch_of(llava, shown)
    llava.hidden(batch)
    llava.attach("policy", LoraShape(targets=(*ATTENTION, "out_proj"), vision=True), seed=0)
    tiny_models.stir(llava, "policy")
    with torch.no_grad(), llava.adapter(None):
        bare = llava.hidden(batch)
    tower = {name: one for name, one in llava.parameters_of("policy").items() if "vision_tower" in name}
    assert tower
    with torch.no_grad(), llava.adapter("policy"):
        with_tower = llava.hidden(batch)
        for one in tower.values():
            one.zero_()
        without = llava.hidden(batch)
    assert not torch.allclose(with_tower, without, atol=1e-4)
    assert not torch.allclose(with_tower, bare, atol=1e-4)


@torch.no_grad()
def test_features_kept_are_bounded(
    llava: Backbone, shown: tuple[Picture, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    llava.hidden(batch_of(llava, shown[:1]))
    one = llava.processor._features._kept_bytes
    assert one == 4 * 48 * 4  # four pieces, as wide as the model, in float32
    monkeypatch.setattr("perl_eval.models.vision_cache._KEPT_BYTES", 2 * one)
    expected = llava.hidden(batch_of(llava, shown))
    assert llava.processor._features._kept_bytes == 3 * one  # what a batch needs, however much
    llava.hidden(batch_of(llava, shown[:1]))
    assert list(llava.processor._features._kept) == [shown[2].sha256, shown[0].sha256]
    assert llava.processor._features._kept_bytes == 2 * one
    assert torch.equal(llava.hidden(batch_of(llava, shown)), expected)


def test_gradients_reach_adapters_past_kept_features(llava: Backbone, shown: tuple[Picture, ...]) -> None:
    llava.attach("policy", LoraShape(), seed=0)
    llava.train_only("policy")
    with llava.adapter("policy"):
        llava.logits(llava.hidden(batch_of(llava, shown))).logsumexp(-1).sum().backward()
    moved = {name: one for name, one in llava.parameters_of("policy").items() if "lora_B" in name}
    assert len(moved) == 2 * 7  # two layers, four projections of attention and three of the rest
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in moved.values())
