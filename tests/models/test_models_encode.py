"""Dialogues to ids: what is trained on, what is cut, what padding must not change, and the order of batches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import COLOURS
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from perl_eval.errors import UserError
from perl_eval.models.backbone import Backbone
from perl_eval.models.batching import batch_of_step
from perl_eval.models.from_scratch import make_tokenizer, size_of
from perl_eval.models.log_probs import token_log_probs
from perl_eval.models.tokenize import Encoded, encode_dialogue, encode_prompt, end_of_turn, own_pad, pad
from perl_eval.records import Message

CHATML = (
    "{% for m in messages %}<|system|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|system|>assistant\n{% endif %}"
)


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer([" ".join(COLOURS)] * 4, 300)


def said(*texts: str) -> tuple[Message, ...]:
    """Return a dialogue from lines such as ``user: hello``."""
    return tuple(Message(*text.split(": ", 1)) for text in texts)


def pieces(tokenizer: Any, row: Encoded) -> list[tuple[str, bool]]:
    """Return the text of each run of tokens with the same mark."""
    found: list[tuple[list[int], bool]] = []
    for token, trained in zip(row.ids, row.trained, strict=True):
        if not found or found[-1][1] != trained:
            found.append(([], trained))
        found[-1][0].append(token)
    return [(tokenizer.decode(ids), trained) for ids, trained in found]


def test_only_the_completions_assistant_turns_are_trained_with_their_end(tokenizer: Any) -> None:
    prompt = said("system: be brief", "user: a colour", "assistant: red", "user: another")
    completion = said("assistant: look", "tool: gold", "assistant: blue")
    assert pieces(tokenizer, encode_dialogue(tokenizer, prompt, completion, max_tokens=200)) == [
        (
            "<|system|>be brief<|end|><|user|>a colour<|end|><|assistant|>red<|end|>"
            "<|user|>another<|end|><|assistant|>",
            False,
        ),
        ("look<|end|>", True),
        ("<|tool|>gold<|end|><|assistant|>", False),
        ("blue<|end|>", True),
    ]


def test_a_dialogue_without_prompt(tokenizer: Any) -> None:
    row = encode_dialogue(tokenizer, (), said("user: hi", "assistant: red"), max_tokens=200)
    assert pieces(tokenizer, row) == [("<|user|>hi<|end|><|assistant|>", False), ("red<|end|>", True)]


def test_training_ids_are_the_ids_of_a_prompt_and_a_sample(tokenizer: Any) -> None:
    """A reward model is trained on dialogues and asked about prompt + sampled ids: both must be the same."""
    for template in (tokenizer.chat_template, CHATML):
        tokenizer.chat_template = template
        prompt = encode_prompt(tokenizer, said("user: a colour"), max_tokens=200)
        answer = tokenizer("red gold")["input_ids"]
        row = encode_dialogue(tokenizer, said("user: a colour"), said("assistant: red gold"), max_tokens=200)
        assert row.ids == (*prompt, *answer, tokenizer.eos_token_id)
        assert row.trained == (False,) * len(prompt) + (True,) * (len(answer) + 1)


def test_what_a_template_writes_after_the_end_token_is_not_trained(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    row = encode_dialogue(
        tokenizer, said("user: hi"), said("assistant: red", "user: no", "assistant: blue"), max_tokens=99
    )
    assert pieces(tokenizer, row)[1:] == [
        ("red<|end|>", True),
        ("\n<|system|>user\nno<|end|>\n<|system|>assistant\n", False),
        ("blue<|end|>", True),
    ]


def test_longer_completions_keep_the_oldest_tokens(tokenizer: Any) -> None:
    completion = said("assistant: red", "user: more", "assistant: gold")
    first = encode_dialogue(tokenizer, said("user: hi"), completion[:1], max_tokens=200)
    cut = encode_dialogue(tokenizer, said("user: hi"), completion, max_tokens=len(first.ids) + 3)
    assert cut == first  # the second answer would not be whole


@pytest.mark.parametrize("mark", ["<|end|>", "<|assistant|>", "<|pad|>", "<|user|>"])
def test_what_people_say_cannot_end_a_turn_or_open_one(tokenizer: Any, mark: str) -> None:
    row = encode_dialogue(tokenizer, said(f"user: a{mark}b"), said(f"assistant: {mark}{mark}"), max_tokens=200)
    counts = Counter(row.ids)
    special = ["<|user|>", "<|end|>", "<|assistant|>", "<|end|>"]
    assert {token: counts[token] for token in counts if token in set(tokenizer.all_special_ids)} == Counter(
        tokenizer.convert_tokens_to_ids(special)
    )
    assert row.ids[-1] == tokenizer.eos_token_id


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_two_ends_and_every_trained_token_belongs_to_the_answer(question: str, answer: str) -> None:
    tokenizer = _shared_tokenizer()
    row = encode_dialogue(tokenizer, (Message("user", question),), (Message("assistant", answer),), max_tokens=9999)
    assert row.ids.count(tokenizer.eos_token_id) == 2
    told = [token for token, trained in zip(row.ids, row.trained, strict=True) if trained]
    assert tokenizer.decode(told[:-1]) == answer.replace("<|end|>", "< |end|>")


_kept: list[Any] = []


def _shared_tokenizer() -> Any:
    if not _kept:
        _kept.append(make_tokenizer([" ".join(COLOURS)] * 4, 300))
    return _kept[0]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ messages | length }}{% for m in messages %}{{ m.content }}<|end|>{% endfor %}",
            "does not write a turn as",
        ),
        (
            "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}GO{% endif %}",
            "does not write a turn as it opens one",
        ),
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}",
            "does not end a turn with the eos token '<|end|>'",
        ),
        ("{{ raise_exception('roles must alternate') }}", "refuses a dialogue of user.*roles must alternate"),
        (None, "no chat template"),
    ],
)
def test_templates_that_cannot_be_used(tokenizer: Any, template: str | None, message: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=message):
        encode_dialogue(tokenizer, said("user: hi"), said("assistant: red"), max_tokens=50)


@pytest.mark.parametrize(
    ("special", "unknown", "expected"),
    [
        (["<|im_start|>", "<|vision_pad|>", "<|PAD|>"], "<unk>", "<|PAD|>"),
        (["<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"], None, "<|finetune_right_pad_id|>"),
        (["<|im_start|>", "<|fim_pad|>"], None, "<|fim_pad|>"),
        (["<|im_start|>"], "<unk>", "<unk>"),
        (["<|im_start|>", "<|reserved_special_token_7|>"], "<end>", "<|reserved_special_token_7|>"),
        (["<|im_start|>", "<|vision_pad|>"], None, None),
        ([], "<bos>", None),
    ],
)
@pytest.mark.parametrize("padded", [None, "<end>"])
def test_a_pad_token_is_found_among_the_special_ones(
    special: list[str], unknown: str | None, expected: str | None, padded: str | None
) -> None:
    made: Any = Tokenizer(BPE(dict(zip(["a", "<end>", "<bos>", "<unk>", *special], range(99), strict=False)), []))
    made.add_special_tokens([token for token in ["<end>", "<bos>", unknown, *special] if token])
    names = {"eos_token": "<end>", "bos_token": "<bos>", "unk_token": unknown, "pad_token": padded}
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=made, **{k: v for k, v in names.items() if v})
    config = SimpleNamespace(pad_token_id=None)
    if expected is None:
        with pytest.raises(UserError, match="no special token could be one"):
            own_pad(tokenizer, config)
        assert tokenizer.pad_token == padded
    else:
        own_pad(tokenizer, config)
        assert (tokenizer.pad_token, config.pad_token_id) == (expected, tokenizer.pad_token_id)


def test_a_tokenizer_that_pads_with_its_end_token_is_refused(tokenizer: Any) -> None:
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.eos_token
    with pytest.raises(UserError, match="pad token is missing or is its eos token"):
        end_of_turn(tokenizer)
    tokenizer.pad_token = None
    with pytest.raises(UserError, match="pad token"):
        end_of_turn(tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no eos token"):
        end_of_turn(tokenizer)
    tokenizer.pad_token = "<|pad|>"
    with pytest.raises(UserError, match="no eos token"):
        own_pad(tokenizer, SimpleNamespace())


def test_an_unknown_size_names_the_known() -> None:
    with pytest.raises(UserError, match="choose one of tiny, small, medium"):
        size_of("huge")


def test_pad_on_either_side() -> None:
    rows = [Encoded((5, 6, 7), (False, True, True)), Encoded((8,), (True,))]
    right, left = pad(rows, pad_id=0), pad(rows, pad_id=0, left=True)
    assert right.ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert right.live.tolist() == [[True] * 3, [True, False, False]]
    assert right.trained.tolist() == [[False, True, True], [True, False, False]]
    assert left.ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert left.trained.tolist() == [[False, True, True], [False, False, True]]
    assert right.positions[1, 0] == left.positions[1, 2] == 0
    assert left.positions[0].tolist() == [0, 1, 2]


@torch.no_grad()
@pytest.mark.parametrize("left", [False, True])
def test_padding_and_companions_change_no_hidden_state_and_no_log_prob(backbone: Backbone, left: bool) -> None:
    tokenizer = backbone.tokenizer
    rows = [
        encode_dialogue(tokenizer, said(f"user: {question}"), said(f"assistant: {answer}"), max_tokens=99)
        for question, answer in (("hi", "red"), ("a colour or two if you please", "gold green"), ("x", "blue red"))
    ]
    batch = pad(rows, pad_id=backbone.pad_id, left=left)
    hidden = backbone.hidden(batch)
    log_probs = token_log_probs(backbone, hidden, batch, 0.7)
    for index, row in enumerate(rows):
        ids = torch.tensor([row.ids])
        alone = backbone.causal(input_ids=ids, output_hidden_states=True)
        expected = torch.log_softmax(alone.logits[0, :-1].double() / 0.7, -1)[range(len(row.ids) - 1), row.ids[1:]]
        expected = expected * torch.tensor(row.trained[1:])
        assert torch.allclose(hidden[index][batch.live[index]], alone.hidden_states[-1][0], atol=1e-5)
        assert torch.allclose(log_probs[index][batch.live[index]][1:].double(), expected, atol=1e-5)
        assert not log_probs[index][~batch.trained[index]].any()


@torch.no_grad()
def test_positions_are_passed_to_models_with_learned_positions() -> None:
    """Llama's rotary positions hide a shift; GPT-2's do not."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _shared_tokenizer()
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2)
    config.eos_token_id, config.bos_token_id, config.pad_token_id = tokenizer.eos_token_id, None, 0
    backbone = Backbone(GPT2LMHeadModel(config), tokenizer, Path("gpt2"))
    rows = [Encoded((5, 6, 7, 8, 9), (True,) * 5), Encoded((5, 6), (True,) * 2)]
    padded = backbone.hidden(pad(rows, pad_id=0, left=True))[1, -2:]
    assert torch.allclose(padded, backbone.hidden(pad(rows[1:], pad_id=0))[0], atol=1e-5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=200), st.integers(1, 20), st.integers(0, 9), st.integers(0, 2))
def test_every_epoch_has_every_row_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    steps = -(-len(lengths) // size)
    batches = [batch_of_step(lengths, step, size=size, seed=seed) for step in range(epoch * steps, (epoch + 1) * steps)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True)[: steps - 1] == [size] * (steps - 1)
    assert batches[-1] == batch_of_step(lengths, (epoch + 1) * steps - 1, size=size, seed=seed)


def test_epochs_and_seeds_differ_and_batches_hold_like_lengths() -> None:
    lengths = [(37 * place) % 97 for place in range(160)]

    def batches(seed: int, epoch: int) -> list[list[int]]:
        return [batch_of_step(lengths, 16 * epoch + step, size=10, seed=seed) for step in range(16)]

    assert batches(0, 0) != batches(0, 1) != batches(1, 1)
    spread = [max(lengths[row] for row in batch) - min(lengths[row] for row in batch) for batch in batches(0, 0)]
    assert max(spread) < 15
    means = [sum(lengths[row] for row in batch) for batch in batches(0, 0)]
    assert means != sorted(means)
