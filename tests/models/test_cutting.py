"""Dialogues that are too long: cut at turns and between words, the system turn kept, and every cut counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import COLOURS

from perl_eval.errors import UserError
from perl_eval.models.cutting import Cuts, shortened
from perl_eval.models.from_scratch import make_tokenizer
from perl_eval.models.tokenize import encode_dialogue, encode_prompt
from perl_eval.records import Message

TOKENIZER: Any = make_tokenizer([" ".join(COLOURS), "abcdefghij klmnopqrst"] * 4, 300)
DIALOGUE = (
    Message("system", "be brief"),
    Message("user", "red blue green"),
    Message("assistant", "gold"),
    Message("user", "blue gold red green"),
)


def text(ids: Any) -> str:
    return str(TOKENIZER.decode(list(ids)))


def tokens(*messages: Message) -> int:
    return len(encode_prompt(TOKENIZER, messages, max_tokens=999))


def test_a_prompt_that_fits_is_whole() -> None:
    cuts = Cuts()
    ids = encode_prompt(TOKENIZER, DIALOGUE, max_tokens=tokens(*DIALOGUE), cuts=cuts)
    assert len(ids) == tokens(*DIALOGUE)
    assert (cuts.texts, cuts.cut, cuts.longest) == (1, 0, len(ids))


def test_a_long_prompt_loses_its_oldest_turns_and_never_its_system_turn() -> None:
    cuts = Cuts()
    ids = encode_prompt(TOKENIZER, DIALOGUE, max_tokens=tokens(*DIALOGUE) - 1, cuts=cuts)
    assert text(ids) == "<|system|>be brief<|end|><|user|>blue gold red green<|end|><|assistant|>"
    assert (cuts.cut, cuts.whole - cuts.kept) == (1, tokens(*DIALOGUE) - len(ids))


def test_a_last_turn_that_is_too_long_loses_its_first_words_whole() -> None:
    least = tokens(DIALOGUE[0], DIALOGUE[3])
    ids = encode_prompt(TOKENIZER, DIALOGUE, max_tokens=least - 1)
    assert text(ids) == "<|system|>be brief<|end|><|user|>gold red green<|end|><|assistant|>"
    with pytest.raises(UserError, match="max_tokens is 6; raise it: the system turn and the marks"):
        encode_prompt(TOKENIZER, DIALOGUE, max_tokens=6)


def test_an_answers_prompt_is_cut_before_the_answer() -> None:
    answer = (Message("assistant", "red gold"),)
    whole = encode_dialogue(TOKENIZER, DIALOGUE, answer, max_tokens=999)
    cut = encode_dialogue(TOKENIZER, DIALOGUE, answer, max_tokens=len(whole.ids) - 1)
    assert text(cut.ids).endswith("<|user|>blue gold red green<|end|><|assistant|>red gold<|end|>")
    assert text(cut.ids).startswith("<|system|>be brief<|end|><|user|>blue")
    assert sum(cut.trained) == sum(whole.trained)


def test_an_answer_that_is_too_long_loses_its_last_words_and_its_end() -> None:
    answer = (Message("assistant", "red gold blue green " * 9),)
    asked = (Message("user", "red"),)
    cut = encode_dialogue(TOKENIZER, asked, answer, max_tokens=20)
    assert len(cut.ids) <= 20
    learned = [token for token, trained in zip(cut.ids, cut.trained, strict=True) if trained]
    assert answer[0].content.startswith(text(learned))
    assert TOKENIZER.eos_token_id not in learned
    assert text(learned).split()[-1] in COLOURS
    assert text(cut.ids).startswith("<|user|>red<|end|><|assistant|>")


def test_the_first_answer_stays_where_no_turn_fits_whole() -> None:
    completion = (Message("assistant", "red gold blue green " * 9), Message("user", "x"), Message("assistant", "red"))
    cut = encode_dialogue(TOKENIZER, (Message("user", "red"),), completion, max_tokens=20)
    assert 0 < sum(cut.trained) < 20
    assert len(cut.ids) <= 20


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from(["red", "abcdefghij", "klmnopqrst"]), min_size=1, max_size=9), max_size=6),
    st.lists(st.lists(st.sampled_from(["blue", "abcdefghij"]), min_size=1, max_size=20), min_size=1, max_size=3),
    st.integers(24, 80),
)
def test_whatever_is_cut_fits_has_its_head_and_only_whole_words(
    before: list[list[str]], after: list[list[str]], most: int
) -> None:
    roles = ("user", "assistant")
    prompt = [Message("system", "be brief")]
    prompt += [Message(roles[place % 2], " ".join(words)) for place, words in enumerate(before)]
    if len(prompt) % 2:
        prompt.append(Message("user", "gold"))
    completion: list[Message] = []
    for place, words in enumerate(after):
        completion += [Message("user", "go on")] * bool(place) + [Message("assistant", " ".join(words))]
    row = encode_dialogue(TOKENIZER, prompt, completion, max_tokens=most)
    assert len(row.ids) <= most
    shown = text(row.ids)
    assert shown.startswith("<|system|>be brief<|end|><|user|>")
    for mark in ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"):
        shown = shown.replace(mark, " ")
    assert set(shown.split()) <= {"be", "brief", "red", "abcdefghij", "klmnopqrst", "blue", "gold", "go", "on"}


def test_scripts_without_spaces_and_words_without_end_can_be_cut() -> None:
    assert shortened("日本語の文章", lambda one: len(one) <= 4, keep_end=True) == "語の文章"
    assert len(shortened("x" * 950, lambda one: len(one) <= 420, keep_end=False)) == 400


def test_the_line_warns_above_one_per_cent_and_says_what_to_do() -> None:
    cuts = Cuts()
    assert cuts.line("rows", 512) == ""
    for _ in range(99):
        cuts.add(10, 10)
    cuts.add(700, 500)
    assert cuts.line("rows", 512) == (
        "1 of 100 rows (1.0%) are longer than 512 tokens and were cut, by 11.8% of all tokens; the longest has 700:"
        " raise --max-tokens, or give auto"
    )
    cuts.add(700, 500)
    assert cuts.line("rows", 512).startswith("warning: 2 of 101 rows (2.0%)")
    assert cuts.notes()["tokens cut"] == 400


def test_turns_after_the_users_last_are_cut_where_they_alone_are_too_long() -> None:
    tail = (Message("assistant", "red " * 20), Message("tool", "blue gold"))
    ids = encode_prompt(TOKENIZER, (*DIALOGUE, *tail), max_tokens=16)
    assert text(ids) == "<|system|>be brief<|end|><|tool|>blue gold<|end|><|assistant|>"
