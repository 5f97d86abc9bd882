"""Vision-language models as backbones: pictures to placeholders once, to pixels with the batch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_vision
import torch
import transformers
from PIL import Image
from transformers.utils import is_torchvision_available

from perl_eval.errors import DataError, UserError
from perl_eval.models.adapters import ALL_PROJECTIONS, LoraShape
from perl_eval.models.backbone import NEVER, Backbone, open_backbone
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import Encoded, encode_dialogue, encode_prompt, pad
from perl_eval.records import PICTURE, Message
from perl_eval.sources import rows
from perl_eval.storage import images
from perl_eval.storage.images import Picture, in_files
from perl_eval.worlds import pictures as picture_world


@pytest.fixture(scope="module", params=tiny_vision.SAVERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with tiny_vision.without_films():
        return tiny_vision.save(request.param, tmp_path_factory.mktemp("vision") / request.param)


@pytest.fixture
def seeing(folder: Path) -> Iterator[Backbone]:
    with tiny_vision.without_films():
        yield open_backbone(folder)


@pytest.fixture
def llava(tmp_path: Path) -> Backbone:
    return open_backbone(tiny_models.save_blank_vision(tmp_path / "llava"))


def picture(folder: Path, colour: str, size: tuple[int, int]) -> Picture:
    """Return a picture of one colour with a black corner, in a file of its own."""
    written = io.BytesIO()
    image = Image.new("RGB", size, colour)
    image.paste("black", (0, 0, size[0] // 3, size[1] // 2))
    image.save(written, "PNG")
    (found,) = in_files(images.locate(folder, [images.keep(folder, written.getvalue())]))
    return found


@pytest.fixture
def shown(tmp_path: Path) -> list[Picture]:
    """Return pictures of different sizes and shapes."""
    return [picture(tmp_path, *one) for one in (("red", (32, 32)), ("lime", (64, 20)), ("blue", (18, 50)))]


def asked(count: int, text: str = "what colour") -> tuple[Message, ...]:
    return (Message("user", PICTURE * count + text),)


def answered(backbone: Backbone, pictures: Sequence[Picture], text: str = "what colour") -> Encoded:
    said = (Message("assistant", "red"),)
    return encode_dialogue(
        backbone.processor, asked(len(pictures), text), said, max_tokens=900, pictures=tuple(pictures)
    )


def test_ids_are_those_of_the_models_own_processor(seeing: Backbone, shown: list[Picture]) -> None:
    """The processor given the whole text and all pictures at once makes the same ids, placeholders and pixels."""
    prompt = (Message("user", f"a{PICTURE}b {PICTURE}"), Message("assistant", "red"), Message("user", f"{PICTURE} hi"))
    ids = encode_prompt(seeing.processor, prompt, max_tokens=900, pictures=shown)
    text = seeing.processor.rendered(prompt, open_turn=True)
    seen = [Image.open(one.file).convert("RGB") for one in shown]
    whole = seeing.processor.processor(text=[text], images=[seen], add_special_tokens=False, return_tensors="pt")
    assert list(ids) == whole["input_ids"][0].tolist()
    assert seeing.tokenizer.decode(ids).replace("<image>", "").count("<|user|>") == 2
    own, theirs = seeing.processor.pixels(shown)["pixel_values"], whole["pixel_values"]
    assert torch.equal(tiles(own), tiles(theirs))


def tiles(pixels: torch.Tensor) -> torch.Tensor:
    """Return pictures, or the tiles of all pictures, one after another; a tile of zeros is padding."""
    if pixels.dim() < 3:
        return pixels  # patches
    flat = pixels.flatten(0, -4)
    return flat[flat.abs().sum((1, 2, 3)) > 0]


def test_only_the_answer_is_trained(seeing: Backbone, shown: list[Picture]) -> None:
    row = answered(seeing, shown)
    spoken = [token for token, trained in zip(row.ids, row.trained, strict=True) if trained]
    assert seeing.tokenizer.decode(spoken) == "red<|end|>"
    assert row.pictures == tuple(shown)
    assert not set(spoken) & set(seeing.unsaid)


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
def test_a_batch_of_mixed_pictures_is_what_each_row_is_alone(
    seeing: Backbone, shown: list[Picture], left: bool
) -> None:
    """Other sizes, several pictures, none: neither company nor padding, on either side, changes a row."""
    batches = [[shown[0]], [shown[1], shown[2]], [], [shown[2]], [shown[1]]]
    encoded = [answered(seeing, pictures, "what colour " * (place + 1)) for place, pictures in enumerate(batches)]
    batch = pad(encoded, pad_id=seeing.pad_id, left=left)
    together = seeing.hidden(batch)
    for place, row in enumerate(encoded):
        alone = seeing.hidden(pad([row], pad_id=seeing.pad_id))[0]
        assert torch.allclose(together[place][batch.live[place]], alone, atol=2e-5), place


@torch.no_grad()
def test_an_answer_sees_nothing_that_comes_after_it(seeing: Backbone, shown: list[Picture]) -> None:
    """Families differ in what they read both ways; of an answer it may be nothing, or its probability means nothing."""
    row = answered(seeing, shown[:2])
    first = row.trained.index(True)
    other = Encoded((*row.ids[:-1], row.ids[-1] - 1), row.trained, row.pictures)
    one, two = (seeing.hidden(pad([each], pad_id=seeing.pad_id))[0] for each in (row, other))
    assert len(row.ids) > first + 1
    assert torch.equal(one[first:-1], two[first:-1])
    assert not torch.allclose(one[-1], two[-1], atol=1e-4)


@torch.no_grad()
def test_pictures_are_seen_and_their_order_counts(seeing: Backbone, shown: list[Picture]) -> None:
    """Pictures of one size take the same ids, so all that can differ is what is seen."""
    pair = [picture(shown[0].file.parent.parent, colour, (32, 32)) for colour in ("red", "blue")]
    one, other = (answered(seeing, order) for order in (pair, pair[::-1]))
    assert one.ids == other.ids
    first, second = (seeing.hidden(pad([row], pad_id=seeing.pad_id))[0, -1] for row in (one, other))
    assert not torch.allclose(first, second, atol=1e-4)
    same = seeing.hidden(pad([answered(seeing, [pair[0], pair[0]])], pad_id=seeing.pad_id))[0, -1]
    assert not torch.allclose(first, same, atol=1e-4)


def test_samples_do_not_depend_on_their_company_and_are_scored_as_sampled(
    seeing: Backbone, shown: list[Picture]
) -> None:
    sets = [(shown[0],), (shown[1], shown[2]), (), (shown[2],)]
    prompts = [encode_prompt(seeing.processor, asked(len(s)), max_tokens=900, pictures=s) for s in sets]
    warm = Sampling(1.0, 6)
    rollouts = generate(seeing, prompts, [1, 2, 3, 4], warm, pictures=sets)
    for place, rollout in enumerate(rollouts):
        (alone,) = generate(seeing, [prompts[place]], [place + 1], warm, pictures=[sets[place]])
        assert alone == rollout
        assert rollout.encoded.pictures == sets[place]
    # without a cache, in one pass over prompt and sample, greedy tokens are the likeliest ones
    cold = generate(seeing, prompts, [1, 2, 3, 4], Sampling(0.0, 5), pictures=sets)
    batch = pad([rollout.encoded for rollout in cold], pad_id=seeing.pad_id)
    with torch.no_grad():
        likeliest = seeing.logits(seeing.hidden(batch)).argmax(-1)
    before = torch.roll(likeliest, 1, dims=1)
    assert torch.equal(before[batch.trained], batch.ids[batch.trained])


def test_a_placeholder_is_never_said_and_has_no_probability(llava: Backbone, shown: list[Picture]) -> None:
    """Whatever the model would rather say; the other tokens share what is left."""
    (mark,) = llava.unsaid
    prompt = encode_prompt(llava.processor, asked(1), max_tokens=900, pictures=shown[:1])
    row = Encoded((*prompt, 20, 21), (False,) * len(prompt) + (True, True), (shown[0],))
    batch = pad([row], pad_id=llava.pad_id)
    with torch.no_grad():
        hidden = llava.hidden(batch)
        # tied to the embedding: along the last state, the placeholder is what the model would say
        llava.output_layer.weight[mark] = 50 * hidden[0, -3] / hidden[0, -3].norm()
        raw = llava.output_layer(hidden[0, -3])
        assert raw.argmax() == mark
        rest = torch.cat([raw[:mark], raw[mark + 1 :]])
        assert token_log_probs(llava, hidden, batch, 1.0)[0, -2] == pytest.approx(
            float(raw[20] - rest.logsumexp(0)), abs=1e-4
        )
        assert llava.logits(hidden)[0, -3, mark] == NEVER
        assert torch.softmax(torch.tensor([NEVER, -300.0]), 0)[0] == 0
    rollouts = generate(llava, [prompt] * 20, list(range(20)), Sampling(1.0, 4), pictures=[(shown[0],)] * 20)
    assert not any(mark in rollout.ids for rollout in rollouts)


def test_adapters_stay_off_the_tower_unless_asked(seeing: Backbone, folder: Path) -> None:
    part = seeing._name_of(seeing.causal.get_decoder())
    seeing.attach("policy", LoraShape(), seed=0)
    names = [name for name in seeing.parameters_of("policy") if "lora_" in name]
    assert len(names) == 2 * 7 * 2  # two layers, seven projections, A and B
    assert all(name.startswith(f"{part}.") for name in names)
    other = open_backbone(folder)
    other.attach("policy", LoraShape(targets=(*ALL_PROJECTIONS, "qkv"), vision=True), seed=0)  # qkv: in towers of Qwen
    everywhere = [name for name in other.parameters_of("policy") if "lora_" in name]
    assert {name for name in everywhere if name.startswith(f"{part}.")} == set(names)
    assert len(everywhere) > len(names)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_is_plain_peft_on_plain_transformers(seeing: Backbone, shown: list[Picture], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    seeing.attach("policy", LoraShape(), seed=0)
    tiny_models.stir(seeing, "policy")
    batch = pad([answered(seeing, shown)], pad_id=seeing.pad_id)
    with seeing.adapter(None):
        bare = seeing.logits(seeing.hidden(batch))
    with seeing.adapter("policy"):
        own = seeing.logits(seeing.hidden(batch))
    assert not torch.allclose(own, bare, atol=1e-2)
    seeing.save("policy", tmp_path / "adapter")
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(seeing.path), tmp_path / "adapter")
    types = {name: one for name, one in seeing.seen(batch)[0].items() if name.endswith("token_type_ids")}
    pixels = seeing.processor.pixels(shown)
    theirs = plain(input_ids=batch.ids, attention_mask=batch.live.long(), **types, **pixels).logits
    allowed = [token for token in range(own.shape[-1]) if token not in seeing.unsaid]
    assert torch.allclose(own[..., allowed], theirs[..., allowed], atol=1e-4)


def test_a_spelled_placeholder_is_text(llava: Backbone, shown: list[Picture]) -> None:
    hostile = f"<image> {PICTURE} <|end|>"
    ids = encode_prompt(llava.processor, (Message("user", hostile),), max_tokens=900)
    assert not set(ids[1:-2]) & {*llava.unsaid, llava.end_id}
    row = encode_dialogue(
        llava.processor, asked(1), (Message("assistant", hostile),), max_tokens=900, pictures=shown[:1]
    )
    assert row.ids.count(llava.unsaid[0]) == 4


@pytest.mark.parametrize(
    ("places", "given", "most", "message"),
    [
        (2, 1, 900, "has places for more than its 1 pictures"),
        (0, 1, 900, "more pictures than places"),
        (1, 2, 900, "more pictures than places"),
        (1, 1, 5, "with pictures is too long"),
    ],
)
def test_pictures_without_place_or_room(
    llava: Backbone, shown: list[Picture], places: int, given: int, most: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        encode_prompt(llava.processor, asked(places), max_tokens=most, pictures=shown[:given])


def test_a_text_model_takes_no_pictures(backbone: Backbone, shown: list[Picture]) -> None:
    with pytest.raises(UserError, match="the model reads text only"):
        encode_prompt(backbone.processor, asked(1), max_tokens=99, pictures=shown[:1])


def test_ids_and_pictures_that_do_not_belong_together(llava: Backbone, shown: list[Picture]) -> None:
    row = answered(llava, shown[:1])
    with pytest.raises(ValueError, match="4 placeholders for 2 pictures that expand to 8"):
        llava.hidden(pad([Encoded(row.ids, row.trained, tuple(shown[:2]))], pad_id=llava.pad_id))


def test_a_template_that_forgets_pictures(llava: Backbone, shown: list[Picture]) -> None:
    llava.processor.processor.chat_template = tiny_vision.TEMPLATE.replace("<image>", "")
    with pytest.raises(UserError, match="more pictures than places"):
        encode_prompt(llava.processor, asked(1), max_tokens=99, pictures=shown[:1])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("PaliGemmaConfig", "is a paligemma, which does not read its prompt from left to right"),
        ("Florence2Config", "is a florence2, which does not read its prompt from left to right"),
        ("LlavaConfig", "has no processor"),
    ],
)
def test_a_model_of_a_kind_that_cannot_be_used(tmp_path: Path, config: str, message: str) -> None:
    """PaliGemma is told by token types where its answer begins; given others, all tokens would see all of it."""
    getattr(transformers, config)().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=message):
        open_backbone(tmp_path)


def test_a_processor_that_puts_pictures_beside_the_text(
    llava: Backbone, shown: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    processor = llava.processor.processor
    own = type(processor).__call__
    monkeypatch.setattr(
        type(processor),
        "__call__",
        lambda *given, **how: {**own(*given, **how), "cross_attention_mask": torch.ones(1, 1)},
    )
    with pytest.raises(UserError, match="LlavaProcessor puts pictures beside the text"):
        encode_prompt(llava.processor, asked(1), max_tokens=99, pictures=shown[:1])


def test_a_processor_that_needs_what_is_not_installed(tmp_path: Path) -> None:
    """Without torchvision transformers raises something else for each class; each is one line that says what to do."""
    with tiny_vision.without_films():
        folder = tiny_vision.save("qwen2-vl", tmp_path / "model")
    if is_torchvision_available():
        pytest.skip("torchvision is here")
    with pytest.raises(UserError, match=r"has no processor .* pip install torchvision"):
        open_backbone(folder)


def test_a_broken_picture(llava: Backbone, tmp_path: Path) -> None:
    name = images.keep(tmp_path, b"\x89PNG\r\n\x1a\n and nothing more")
    with pytest.raises(DataError, match="holds a picture that cannot be read"):
        encode_prompt(llava.processor, asked(1), max_tokens=99, pictures=in_files(images.locate(tmp_path, [name])))


def test_pixels_are_made_again_when_memory_is_short(
    llava: Backbone, shown: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = llava.processor.pixels(shown)
    monkeypatch.setattr("perl_eval.models.vision._KEPT_BYTES", 1)
    again = open_backbone(llava.path)
    for name, tensor in again.processor.pixels(shown).items():
        assert torch.equal(tensor, expected[name])
    assert len(again.processor._looks) == 1


def test_pixels_reach_the_model_as_the_picture_is(llava: Backbone, tmp_path: Path) -> None:
    """Red is (255, 0, 0), scaled to [-1, 1]; left is left and top is top."""
    image = Image.new("RGB", (32, 32), (0, 0, 0))
    image.putpixel((31, 0), (255, 0, 0))
    written = io.BytesIO()
    image.save(written, "PNG")
    (one,) = in_files(images.locate(tmp_path, [images.keep(tmp_path, written.getvalue())]))
    pixels = llava.processor.pixels([one])["pixel_values"]
    expected = -np.ones((3, 32, 32), np.float32)
    expected[0, 0, 31] = 1
    assert np.allclose(pixels[0].numpy(), expected, atol=1e-6)


def test_rows_of_the_world_are_read_with_pictures(llava: Backbone, tmp_path: Path) -> None:
    data = picture_world.build(tmp_path / "data", questions=250, ratings=10) / "questions"
    found = rows.read(data, "train", need=("completion",))
    assert len(found) == 250
    row = found[-1]  # in the third row group
    with Image.open(io.BytesIO(row.images[0].read())) as image:
        named = {name: image.getpixel((x, 16)) for name, x in (("left", 5), ("right", 26))}
    side = row.prompt[0].content.split()[-1]
    nearest = min(
        picture_world.COLOURS,
        key=lambda name: sum(abs(a - b) for a, b in zip(picture_world.COLOURS[name], named[side], strict=True)),
    )
    assert nearest == row.more["multiple_choice_answer"]
    prompt = encode_prompt(llava.processor, row.prompt, max_tokens=99, pictures=row.images)
    assert prompt.count(llava.unsaid[0]) == 4
