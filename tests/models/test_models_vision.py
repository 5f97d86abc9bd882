"""Vision-language models as backbones: pictures to placeholders once, to pixels with the batch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from perl_eval import images, picture_world, rows
from perl_eval.errors import DataError, UserError
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import NEVER, Backbone, open_backbone
from perl_eval.models.encode import Encoded, encode_dialogue, encode_prompt, pad
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.scratch import make_tokenizer
from perl_eval.pictures import Picture, in_files
from perl_eval.records import PICTURE, Message

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{% if p.type == 'image' %}<image>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2}


def tokenizer_with(*marks: str) -> Any:
    tokenizer = make_tokenizer(["what colour is it red green blue"] * 4, 300)
    tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, "<image>", *marks]})
    return tokenizer


def llama(tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return LlamaConfig(**TEXT, **ends, num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=512)


def save_llava_next(folder: Path) -> None:
    """Write a model that sees a picture whole and in tiles, as many as its shape asks for."""
    from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    grid = [[16, 32], [32, 16], [32, 32]]
    tokenizer = tokenizer_with()
    sight = LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_grid_pinpoints=grid
    )
    processor = LlavaNextProcessor(
        sight,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**TEXT, image_size=16, patch_size=8),
        text_config=llama(tokenizer),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
    )
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_idefics3(folder: Path) -> None:
    """Write a model whose pictures are cut up, with marks for rows and columns between the pieces."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = tokenizer_with("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    sight = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(sight, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    config = Idefics3Config(
        vision_config={**TEXT, "image_size": 32, "patch_size": 8},
        text_config=llama(tokenizer),
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)


SAVERS: dict[str, Callable[[Path], object]] = {
    "llava": tiny_models.save_blank_vision,
    "llava-next": save_llava_next,
    "idefics3": save_idefics3,
}


@pytest.fixture(scope="module", params=SAVERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vision") / request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SAVERS[request.param](made)
    return made


@pytest.fixture
def seeing(folder: Path) -> Backbone:
    return open_backbone(folder)


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
    part = seeing._language_part()
    seeing.attach("policy", LoraShape(), seed=0)
    names = [name for name in seeing.parameters_of("policy") if "lora_" in name]
    assert len(names) == 2 * 4 * 2  # two layers, four projections, A and B
    assert all(name.startswith(f"{part}.") for name in names)
    other = open_backbone(folder)
    other.attach("policy", LoraShape(vision=True), seed=0)
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
    pixels, _ = seeing.seen(batch)
    theirs = plain(input_ids=batch.ids, attention_mask=batch.live.long(), **pixels).logits
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
    llava.processor.processor.chat_template = TEMPLATE.replace("<image>", "")
    with pytest.raises(UserError, match="more pictures than places"):
        encode_prompt(llava.processor, asked(1), max_tokens=99, pictures=shown[:1])


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
