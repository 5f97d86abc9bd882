"""What is opened: never a folder's code, never a pickle; chat templates given in a file; bases of moved folders."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
from command_line import Command

from perl_eval.errors import DataError, UserError
from perl_eval.judges.backends.local import open_local
from perl_eval.judges.registry import BackendOptions, open_judge
from perl_eval.models.adapters import LoraShape
from perl_eval.models.backbone import open_backbone
from perl_eval.models.checkpoint_folder import base_of
from perl_eval.models.tokenize import encode_prompt
from perl_eval.records import Message
from perl_eval.storage import run_folder

SAID = (Message("user", "paint red"),)
OWN = (
    "{% for message in messages %}<|{{ message.role }}|>Q: {{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>Q: {% endif %}"
)


def changed(file: Path, **values: object) -> None:
    """Set entries of a JSON file; None takes one out."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


# ------------------------------------------------------------------------------------------- code of a folder's own


@pytest.fixture
def evil(blank: Path, tmp_path: Path) -> Path:
    """Return a model folder whose code leaves a trace when it is run."""
    folder = shutil.copytree(blank, tmp_path / "evil")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'TRACE')!r}, 'w')\nclass X:\n    pass\n")
    return folder


@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("opened", [open_backbone, open_local])
def test_code_of_a_folder_is_never_run(
    evil: Path, place: str, opened: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))  # transformers would ask
    if place == "config.json":
        changed(evil / place, auto_map={"AutoConfig": "evil.X", "AutoModelForCausalLM": "evil.X"}, model_type="evil")
    else:
        changed(evil / place, auto_map={"AutoTokenizer": ["evil.X", None]}, tokenizer_class="Evil")
    with pytest.raises(UserError, match="needs code of its own, which is never run; take one that transformers knows"):
        opened(evil)
    assert not (evil.parent / "TRACE").exists()


def test_a_model_that_transformers_knows_is_opened_without_the_code_beside_it(evil: Path, blank: Path) -> None:
    changed(evil / "config.json", auto_map={"AutoConfig": "evil.X", "AutoModelForCausalLM": "evil.X"})
    assert open_backbone(evil).sha256 == open_backbone(blank).sha256
    assert not (evil.parent / "TRACE").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "llama", "hidden_size": "wide"}', '{"a": 1}'])
def test_a_broken_config_is_one_line(blank: Path, tmp_path: Path, content: str) -> None:
    folder = shutil.copytree(blank, tmp_path / "broken")
    (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"^transformers cannot open .*broken \(.+\); give a model of a kind"):
        open_backbone(folder)


def test_a_pickled_adapter_is_refused(blank: Path, tmp_path: Path) -> None:
    backbone = open_backbone(blank)
    backbone.attach("policy", LoraShape(rank=2), seed=0)
    backbone.save("policy", tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save({"x": torch.zeros(1)}, tmp_path / "adapter_model.bin")
    with pytest.raises(UserError, match=r"the adapter at .* has no adapter_model.safetensors"):
        open_backbone(blank).attach_saved("policy", tmp_path)


# ------------------------------------------------------------------------------------------------------- templates


@pytest.fixture
def bare(blank: Path, tmp_path: Path) -> Path:
    """Return a model folder without a chat template."""
    folder = shutil.copytree(blank, tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def template(tmp_path: Path) -> Path:
    file = tmp_path / "own.jinja"
    file.write_text(OWN)
    return file


def test_a_template_given_to_train_sft_stays_with_the_model(
    bare: Path, template: Path, tmp_path: Path, command: Command, fails: Callable[[str], str]
) -> None:
    data = tmp_path / "data"
    tiny_models.write_rows(data, train=tiny_models.demonstrations(1, 8), test=tiny_models.prompts(1, 2))
    sft = f"train sft --data {data} --model {bare} --epochs 1 --batch 8 --max-tokens 96"
    line = fails(f"{sft} --out {tmp_path}/no")
    assert "the tokenizer has no chat template; give one with --chat-template FILE to `train sft`" in line
    for extra, out in (("", "whole"), (" --lora --rank 2", "lora")):
        folder = tmp_path / out
        assert command(f"{sft}{extra} --chat-template {template} --out {folder}").code in (0, None)
        assert (folder / "chat_template.jinja").read_text() == OWN
        ids = encode_prompt(open_backbone(folder).processor, SAID, max_tokens=99)
        assert "Q: paint red" in open_backbone(folder).tokenizer.decode(ids)
        card = run_folder.read_card(folder)
        assert card is not None
        assert card.inputs[str(template)] == run_folder.fingerprint(template)
    sample = f"sample --data {data} --max-tokens 96 --max-new-tokens 2"
    assert command(f"{sample} --model {tmp_path}/whole --out {tmp_path}/said").code in (0, None)
    assert "--chat-template" in fails(f"{sample} --model {bare} --out {tmp_path}/none")
    assert command(f"{sample} --model {bare} --chat-template {template} --out {tmp_path}/given").code in (0, None)
    template.write_text(OWN.replace("Q:", "P:"))
    assert "own.jinja has changed since" in fails(
        f"{sample} --model {bare} --chat-template {template} --out {tmp_path}/given"
    )


def test_a_template_takes_the_place_of_the_tokenizers_own(blank: Path, template: Path) -> None:
    plain, told = open_backbone(blank), open_backbone(blank, chat_template=template)
    ids = [encode_prompt(one.processor, SAID, max_tokens=99) for one in (plain, told)]
    assert [told.tokenizer.decode(one).count("Q:") for one in ids] == [0, 2]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory); give a file with a template"),
        (b"\xff\xfe", "cannot be read (not UTF-8)"),
        (b"{% for", "is not a chat template ("),
        (b"{{ raise_exception('never') }}", "is not a chat template (never); correct it"),
        (b"nothing said", "leaves out what the user says; write message['content'] into it"),
    ],
)
def test_a_template_that_is_none_is_one_line(
    blank: Path, tmp_path: Path, content: bytes | None, told: str, fails: Callable[[str], str]
) -> None:
    file = tmp_path / "wrong.jinja"
    if content is not None:
        file.write_bytes(content)
    data = tiny_models.write_rows(tmp_path / "data", test=tiny_models.prompts(1, 2))
    line = fails(f"sample --model {blank} --data {data} --chat-template {file} --out {tmp_path}/out")
    assert ("no such file or folder: " if content is None else f"--chat-template {file} {told}") in line
    with pytest.raises(UserError) as caught:
        open_backbone(blank, chat_template=file)
    assert f"--chat-template {file} {told}" in str(caught.value)


def test_a_model_made_from_nothing_has_its_own(fails: Callable[[str], str]) -> None:
    line = fails("train sft --data data --model scratch:tiny --chat-template x --out out")
    said = "model scratch:tiny has a chat template of its own; leave out chat_template (see `perl-eval docs training`)"
    assert line == f"error: {said}\n"
    line = fails("sample --model m --server http://localhost:1/v1 --data data --chat-template x --out out")
    assert "a server writes dialogues with its own template; leave out --chat-template" in line


def test_a_local_judge_is_given_one_and_is_another_judge_then(tmp_path: Path) -> None:
    tokenizer = tiny_models.tokenizer_of_a_judge()
    tiny_models.decided(tokenizer).save_pretrained(tmp_path / "judge")
    own, tokenizer.chat_template = tokenizer.chat_template, None
    tokenizer.save_pretrained(tmp_path / "judge")
    with pytest.raises(UserError, match="has no chat template; give one with --chat-template FILE"):
        open_judge(f"local:{tmp_path / 'judge'}")
    file = tmp_path / "own.jinja"
    file.write_text(own)
    judge = open_judge(f"local:{tmp_path / 'judge'}", BackendOptions(chat_template=file))
    assert judge.parameters["chat_template"] == run_folder.fingerprint(file)


# ------------------------------------------------------------------------------------------------------------ bases


@pytest.fixture
def pair(blank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a model and, beside it, an adapter that was trained with relative paths."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(blank, "runs/sft")
    backbone = open_backbone(Path("runs/sft"))
    backbone.attach("policy", LoraShape(rank=2), seed=0)
    backbone.save("policy", Path("runs/rl"))
    return tmp_path / "runs"


def test_a_base_is_found_from_another_folder(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_of(pair / "rl").path == Path("runs/sft")
    monkeypatch.chdir("/")
    assert base_of(pair / "rl").path.resolve() == pair / "sft"
    open_backbone(pair / "rl").attach_saved("policy", pair / "rl")


def test_a_base_is_found_when_both_have_moved(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = pair.rename(tmp_path / "elsewhere")
    assert base_of(moved / "rl").path.resolve() == moved / "sft"
    monkeypatch.chdir("/")
    open_backbone(moved / "rl")


def test_a_base_of_before_is_found_below_a_folder_above(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(pair / "rl" / "base.json", beside=None)  # as version 0.1 wrote it
    monkeypatch.chdir("/")
    assert base_of(pair / "rl").path.resolve() == pair / "sft"


def test_of_several_places_the_one_that_holds_the_base_counts(pair: Path, tmp_path: Path) -> None:
    other = tmp_path / "copies"
    shutil.copytree(pair / "rl", other / "rl")
    shutil.copytree(pair / "sft", other / "sft")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        strange = open_backbone(other / "sft", frozen=False)
        with torch.no_grad():
            strange.output_layer.weight.add_(1.0)
        strange.causal.save_pretrained(other / "sft")
    assert [one.resolve() for one in base_of(other / "rl").places] == [other / "sft", pair / "sft"]
    opened = open_backbone(other / "rl")
    assert opened.path.resolve() == pair / "sft"
    shutil.rmtree(pair)
    with pytest.raises(DataError, match=r"sft: is not the backbone that the adapter was trained on; restore it"):
        open_backbone(other / "rl")
    shutil.rmtree(other / "sft")
    with pytest.raises(UserError, match=r"^no model at runs/sft, which .*rl was trained from; put it there, or"):
        open_backbone(other / "rl")


def test_an_adapter_of_plain_peft_is_opened(pair: Path) -> None:
    (pair / "rl" / "base.json").unlink()
    backbone = open_backbone(pair / "rl")
    backbone.attach_saved("policy", pair / "rl")
    assert backbone.path == Path("runs/sft")
    changed(pair / "rl" / "adapter_config.json", base_model_name_or_path=None)
    with pytest.raises(DataError, match="does not name the adapter's backbone"):
        open_backbone(pair / "rl")
