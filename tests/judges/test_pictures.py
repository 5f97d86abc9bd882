"""Pictures on their way to a judge, through every door that sees."""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from fake_server import FakeServer, serving
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.pipelines import DecisionPipeline

from perl_eval.client.ledger import Ledger
from perl_eval.errors import DataError, UserError
from perl_eval.judges import prompting
from perl_eval.judges.backends.chat import ChatJudge, ChatOptions
from perl_eval.judges.backends.choices import system_one
from perl_eval.judges.backends.decisions import DecisionJudge, DecisionOptions
from perl_eval.judges.backends.local import LocalJudge, open_local
from perl_eval.judges.backends.scripted import ScriptedJudge
from perl_eval.judges.protocol import Judge
from perl_eval.judges.question_keys import Keys
from perl_eval.judging import judge
from perl_eval.judging.engine.ask import AskOptions, ask
from perl_eval.judging.outcome_of import Contestants, plan
from perl_eval.models.from_scratch import make_tokenizer
from perl_eval.records import Ballot, Completion, Estimate, Judgement, Message, Question
from perl_eval.storage import images, run_folder

RED, BLUE = (250, 10, 10), (10, 10, 250)
Colour = tuple[int, int, int]
CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")


def picture(colour: Colour) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (30, 30), colour).save(content, "png")
    return content.getvalue()


def pair(folder: Path, *colours: Colour, number: int = 0, prompt: str = "what is it") -> tuple[Completion, Completion]:
    """Make two answers to one question about some pictures, which are kept in the folder."""
    names = images.locate(folder, [images.keep(folder, picture(colour)) for colour in colours])
    shown = (Message("user", prompt),)
    one, other = (
        Completion(f"{side}{number}", f"i{number}", "g", "d", side, shown, text, "stop", 0, images=names)
        for side, text in (("a", "a red square"), ("b", "a blue one"))
    )
    return one, other


def put(by: Judge, path: Path, units: list[Contestants]) -> list[Ballot]:
    questions = list(plan(units, by, prompting.load("dialogue")))
    with Ledger(path / "ledger.sqlite") as ledger:
        return list(ask(questions, by, ledger, options=AskOptions(attempts=2, backoff_s=0.001)))


def decoded(url: str) -> Colour:
    head, content = url.split(",")
    assert head == "data:image/png;base64"
    found: Any = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB").getpixel((3, 3))
    return (int(found[0]), int(found[1]), int(found[2]))


# ----------------------------------------------------------------------------------------------------- servers


def test_chat_gets_pictures_as_data_urls_before_the_text(tmp_path: Path) -> None:
    with serving(FakeServer(answer=lambda _: "A")) as server:
        put(ChatJudge("m", ChatOptions(base_url=server.url)), tmp_path, [pair(tmp_path, RED, BLUE)])
    system, user = server.requests[0]["messages"]
    assert isinstance(system["content"], str)
    assert [part["type"] for part in user["content"]] == ["image_url", "image_url", "text"]
    assert [decoded(part["image_url"]["url"]) for part in user["content"][:2]] == [RED, BLUE]
    assert "=== answer A" in user["content"][2]["text"]


def test_decisions_get_pictures_in_the_input_that_both_orders_share(tmp_path: Path) -> None:
    with serving(FakeServer()) as server:
        put(DecisionJudge("m", DecisionOptions(base_url=server.url)), tmp_path, [pair(tmp_path, BLUE)])
    (body,) = server.requests
    assert len(body["questions"]) == 2
    ((picture_part, text),) = [message["content"] for message in body["input"]]
    assert (picture_part["type"], decoded(picture_part["image_url"])) == ("input_image", BLUE)
    assert text["type"] == "input_text"
    assert "what is it" in text["text"]


def test_system_one_gets_pictures_as_assets_under_names_that_no_text_holds(tmp_path: Path) -> None:
    hostile = "picture-0 picture-000000000000-0"
    with serving(FakeServer()) as server:
        by = DecisionJudge("m", DecisionOptions(form="systemone", base_url=server.url))
        put(by, tmp_path, [pair(tmp_path, RED, BLUE, prompt=hostile)])
    (body,) = server.requests
    assert [asset["format"] for asset in body["assets"].values()] == ["png", "png"]
    colours = [decoded(f"data:image/png;base64,{asset['data_base64']}") for asset in body["assets"].values()]
    assert colours == [RED, BLUE]
    for place, name in enumerate(body["assets"]):
        assert body["state"].split("\n")[place] == name
        assert body["state"].count(name) == 1


@pytest.mark.parametrize("form", ["openai", "systemone"])
def test_equal_texts_about_different_pictures_do_not_share_a_request(
    tmp_path: Path, form: Literal["openai", "systemone"]
) -> None:
    with serving(FakeServer()) as server:
        by = DecisionJudge("m", DecisionOptions(form=form, base_url=server.url))
        by.group = 4
        put(by, tmp_path, [pair(tmp_path, RED), pair(tmp_path, BLUE, number=1)])
    assert len(server.requests) == 2


# ------------------------------------------------------------------------------------------------------- local


@pytest.fixture(scope="module")
def processor() -> Any:
    words = ["Yes No A B C answer turn customer order", "Yes or No", "Yes", "No", " the better one"]
    tokenizer = make_tokenizer(words * 50, 400)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"height": 30, "width": 30}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=size),
        tokenizer=tokenizer,
        patch_size=10,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )


@pytest.fixture(scope="module")
def model(processor: Any) -> Any:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = processor.tokenizer
    text = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, initializer_range=0.3, **small)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=30, patch_size=10, projection_dim=32, **small),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    return LlavaForConditionalGeneration(config).eval()


def probabilities(by: LocalJudge, questions: list[Question]) -> list[float]:
    replies = asyncio.run(by.ask(questions))
    return [
        float(by.reader.read(question, reply).p_first or 0.0)
        for question, reply in zip(questions, replies, strict=True)
    ]


def test_a_vision_language_model_judges_as_transformers_does(tmp_path: Path, model: Any, processor: Any) -> None:
    by = LocalJudge(model, processor, name="tiny")
    pipe = DecisionPipeline(model=model, tokenizer=processor.tokenizer, processor=processor)
    seen = []
    for units in ([pair(tmp_path, RED)], [pair(tmp_path, BLUE)], [pair(tmp_path, RED, BLUE)], [pair(tmp_path)]):
        questions = list(plan(units, by, prompting.load("dialogue")))
        wanted = [pipe(system_one([question], tie=False))["0"]["probabilities"]["A"] for question in questions]
        found = probabilities(by, questions)
        assert found == pytest.approx(wanted, abs=1e-5)
        seen.append(round(found[0], 6))
    # It looks: other pictures, other probabilities.
    assert len(set(seen)) == 4


def test_pictures_and_what_both_orders_share_are_read_once(
    tmp_path: Path, model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = LocalJudge(model, processor, name="tiny")
    questions = list(plan([pair(tmp_path, RED), pair(tmp_path, BLUE, number=1)], by, prompting.load("dialogue")))
    passes: list[tuple[int, bool]] = []
    forward = model.forward

    def counted(*arguments: Any, **named: Any) -> Any:
        passes.append((named["input_ids"].shape[1], named.get("pixel_values") is not None))
        return forward(*arguments, **named)

    probabilities(by, questions[:1])
    monkeypatch.setattr(model, "forward", counted)
    replies = asyncio.run(by.ask(questions))
    # Pixels are given once a pair, with its first part; what both orders begin with is not read again.
    assert sum(saw for _, saw in passes) == 2
    assert max(read for read, _ in passes) == 128
    assert sum(read for read, _ in passes) < 0.75 * sum(reply.tokens_in for reply in replies)


def test_a_saved_vision_language_model_is_opened_with_its_processor(tmp_path: Path, model: Any, processor: Any) -> None:
    folder = tmp_path / "tiny"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    questions = list(plan([pair(tmp_path, RED)], LocalJudge(model, processor, name="t"), prompting.load("dialogue")))
    ours = probabilities(LocalJudge(model, processor, name="t"), questions)
    assert probabilities(open_local(folder), questions) == pytest.approx(ours, abs=1e-5)


def test_a_language_model_without_eyes_is_refused(tmp_path: Path, processor: Any) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    blind = LlamaForCausalLM(LlamaConfig(vocab_size=len(processor.tokenizer), **small)).eval()
    by = LocalJudge(blind, processor.tokenizer, name="blind")
    (question, _) = plan([pair(tmp_path, RED)], by, prompting.load("dialogue"))
    with pytest.raises(UserError, match="blind cannot judge: Images need a model whose processor handles them"):
        asyncio.run(by.ask([question]))


# ------------------------------------------------------------------------------------------------- whole runs


def saved(folder: Path, side: int, colour: Colour) -> Path:
    with run_folder.start(folder, verb="sample", arguments={"side": side}) as run:
        name = images.keep(folder, picture(colour))
        answer = replace(pair(folder, colour)[side], images=(name,))
        run.write([answer], Completion)
    return folder


def test_a_run_shows_the_pictures_of_its_rows_and_verifies(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", 0, RED), saved(tmp_path / "b", 1, RED)
    with serving(FakeServer(answer=lambda _: "A")) as server:
        by = ChatJudge("m", ChatOptions(base_url=server.url))
        out = judge.run(a, b, tmp_path / "out", judge=by, options=judge.JudgeOptions("dialogue"))
        assert judge.verify(out, judge=by) == []
    assert [part["type"] for part in server.requests[0]["messages"][1]["content"]] == ["image_url", "text"]
    assert decoded(server.requests[0]["messages"][1]["content"][0]["image_url"]["url"]) == RED
    assert [row.outcome for row in run_folder.read(out, Judgement)] == ["split"]
    card = run_folder.read_card(a)
    assert card is not None
    assert any(name.startswith("images/") for name in card.outputs)


def test_answers_to_different_pictures_are_no_pair(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", 0, RED), saved(tmp_path / "b", 1, BLUE)
    with pytest.raises(UserError, match="one prompt in A and another in B"):
        judge.run(a, b, tmp_path / "out", judge=_nobody(), options=judge.JudgeOptions("dialogue"))


def test_a_picture_that_is_gone_or_changed_is_refused(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", 0, RED), saved(tmp_path / "b", 1, RED)
    (path,) = (a / "images").iterdir()
    path.write_bytes(picture(BLUE))
    with pytest.raises(DataError, match="does not match the sha256"):
        judge.run(a, b, tmp_path / "out", judge=_nobody(), options=judge.JudgeOptions("dialogue"))
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        judge.run(a, b, tmp_path / "out", judge=_nobody(), options=judge.JudgeOptions("dialogue"))


def _nobody() -> Judge:
    return ScriptedJudge(lambda _: 0.0, name="nil")


def test_other_pictures_are_another_question_to_the_ledger(tmp_path: Path) -> None:
    keys = set()
    for colours in ((RED,), (BLUE,), (RED, BLUE), ()):
        for question in plan([pair(tmp_path, *colours)], _nobody(), prompting.load("dialogue")):
            keys.add(Keys(_nobody()).of(question))
    assert len(keys) == 8


# ---------------------------------------------------------------------------------------- does the judge look


def sides(folder: Path, colours: list[Colour]) -> tuple[Path, Path]:
    """Write two policies' answers to a picture each: a calls it red, b blue."""
    found = []
    for side, text in (("a", "red"), ("b", "blue")):
        with run_folder.start(folder / side, verb="sample", arguments={}) as run:
            shown = (Message("user", "what colour"),)
            answers = [
                Completion(
                    f"{side}{i}",
                    f"i{i}",
                    f"g{i}",
                    "d",
                    side,
                    shown,
                    text,
                    "stop",
                    0,
                    images=(images.keep(run.folder, picture(colour)),),
                )
                for i, colour in enumerate(colours)
            ]
            run.write(answers, Completion)
        found.append(folder / side)
    return found[0], found[1]


def sees(body: dict[str, Any]) -> str:
    """Judge by the picture: the answer that names its colour; a tie without one."""
    parts = body["messages"][-1]["content"]
    if isinstance(parts, str):
        return "tie"
    text = parts[-1]["text"]
    first_is_red = text.split("=== answer A |")[1].split("\n")[1] == "red"
    return "A" if (decoded(parts[0]["image_url"]["url"]) == RED) == first_is_red else "B"


def guesses(body: dict[str, Any]) -> str:
    """Judge by the text alone: red it is."""
    parts = body["messages"][-1]["content"]
    text = parts if isinstance(parts, str) else parts[-1]["text"]
    return "A" if text.split("=== answer A |")[1].split("\n")[1] == "red" else "B"


@pytest.mark.parametrize(("answer", "rate"), [(sees, 1.0), (guesses, 0.0)], ids=["looks", "guesses"])
def test_a_judge_that_does_not_look_is_found_out(tmp_path: Path, answer: Any, rate: float) -> None:
    a, b = sides(tmp_path, [RED, BLUE] * 4)
    with serving(FakeServer(answer=answer)) as server:
        by = ChatJudge("m", ChatOptions(base_url=server.url))
        out = judge.look(a, b, tmp_path / "out", judge=by, options=judge.JudgeOptions("dialogue"))
    found = {estimate.subject: estimate for estimate in run_folder.read(out, Estimate)}
    assert set(found) == {"pictures removed", "pictures swapped"}
    assert {(one.name, one.value, one.n) for one in found.values()} == {("verdict change rate", rate, 8)}
    # Both controls of all 8 pairs are kept.
    assert len(run_folder.read(out, Judgement)) == 16


def test_looking_needs_different_pictures(tmp_path: Path) -> None:
    a, b = sides(tmp_path, [RED, RED])
    with pytest.raises(UserError, match="has no two items with different pictures"):
        judge.look(a, b, tmp_path / "out", judge=_nobody(), options=judge.JudgeOptions("dialogue"))
