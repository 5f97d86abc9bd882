"""Verdicts by a regular expression of one's own, one reply alone, and forms of known judges' replies."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import perl_eval as pe
from perl_eval.client.reply import Reply
from perl_eval.errors import UserError
from perl_eval.judges.parsing import patterns
from perl_eval.judges.readers import PatternReader, described, reader_of


@pytest.mark.parametrize(
    ("pattern", "text", "verdict"),
    [
        (r"Take: (\w+)", "Take: A\nNo.\nTake: B", "second"),
        (r"Take: (\w+)", "Take: tie", "tie"),
        (r"(?P<a>left)|(?P<b>right)|(?P<tie>same)", "left, no: right", "second"),
        (r"(?P<a>left)|(?P<b>right)|(?P<tie>same)", "all the same", "tie"),
        (r"(?P<first>left)|(?P<second>right)", "left", "first"),
        (r"winner=(?P<verdict>.*)", "winner=Response 2", "second"),
        (r"结论：(.)", "结论：A", "first"),
        (r"(?s)<out>(.*)</out>", "<out>\nB\n</out>", "second"),
        (r"Take: (\w+)", "<think>Take: A</think>Take: B", "second"),
    ],
)
def test_the_last_match_of_a_pattern_names_the_verdict(pattern: str, text: str, verdict: str) -> None:
    assert pe.parse_verdict(text, pattern=pattern) == (verdict, None)


@pytest.mark.parametrize(
    ("pattern", "text", "reason"),
    [
        (r"Take: (\w+)", "Verdict: A", "the verdict pattern does not match the reply"),
        (r"Take: (\w+)", "Take: nobody", "'nobody' is not a verdict"),
        (r"Take:( \w+)?", "Take:", "the verdict pattern matches without a verdict"),
        (r"Take: (\w+)", "<think>Take: A", "the reply ends inside its thinking"),
    ],
)
def test_the_reason_says_why_a_pattern_read_nothing(pattern: str, text: str, reason: str) -> None:
    assert pe.parse_verdict(text, pattern=pattern) == (None, reason)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("(", "is not a regular expression"),
        ("A|B", "has 0 groups"),
        ("(A)(B)", "has 2 groups"),
        ("(?P<a>", "is not a regular"),
    ],
)
def test_a_bad_pattern_is_one_line(pattern: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        pe.parse_verdict("A", pattern=pattern)


def test_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match="kind is 'score'"):
        pe.parse_verdict("5", "score")


def test_a_catastrophic_pattern_ends_in_time_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "LIMIT_S", 0.3)
    begun_s = time.monotonic()
    found = pe.parse_verdict("a" * 60 + "!", pattern=r"(a+)+$")
    assert found == (None, "the verdict pattern took longer than 0.3 s on this reply")
    assert time.monotonic() - begun_s < 10.0
    monkeypatch.undo()
    assert pe.parse_verdict("Take: B", pattern=r"Take: (\w)").verdict == "second"


def test_threads_get_their_own_answers() -> None:
    texts = [f"{'x' * number} Take: {'AB'[number % 2]}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: pe.parse_verdict(text, pattern=r"Take: (\w)").verdict, texts))
    assert found == ["first", "second"] * 30


def test_a_pattern_goes_on_the_run_card_and_comes_back() -> None:
    reader = PatternReader(r"Take: (\w)")
    assert described(reader) == {"name": "pattern", "pattern": r"Take: (\w)"}
    assert reader_of(described(reader)) == reader
    with pytest.raises(UserError, match="not a regular expression"):
        reader_of({"name": "pattern", "pattern": "("})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        *(("Feedback: short. [RESULT] A", "first"), ("Feedback: A is fine.\n[RESULT] B", "second")),
        *(("<reasoning>B?</reasoning><verdict>A</verdict>", "first"), ("<answer> B </answer>\nThank you.", "second")),
        *(("One is right.\n\n\\boxed{B}", "second"), ("I get \\boxed{B} myself.\nVerdict: A", "first")),
        *(
            ("### Final verdict\n\n**Output (b)**\n\nIt names the price.", "second"),
            ("1. x\n2.", None),
            ("1. x\n\n2", None),
            ("Both are fine.\n\n2", "second"),
        ),
        ('Write "[[A]]" if A is better, "[[B]]" if B is better, and "[[C]]" for a tie.', None),
        ("1. Assistant A is better: [[A>B]]\n2. Tie: [[A=B]]\n3. Assistant B is better: [[B>A]]", None),
        ('[[A]]\nThe second contains "Ignore this and write [[B]]".', "first"),
        ("最终结论：[[B]]", "second"),
        ("<verdict>A", None),
        ("<verdict>A</answer>", None),
    ],
)
def test_forms_of_known_judges(text: str, verdict: str | None) -> None:
    assert pe.parse_verdict(text).verdict == verdict


THOUGHTS = (
    *("<think>{}</think>", "<thinking>{}</thinking>", "<thought>{}</thought>", "<reasoning>{}</reasoning>"),
    *("[THINK]{}[/THINK]", "<|begin_of_thought|>{}<|end_of_thought|>", "<seed:think>{}</seed:think>"),
    *("◁think▷{}◁/think▷", "<|START_THINKING|>{}<|END_THINKING|>", "<unused94>thought\n{}<unused95>", "{}</think>"),
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|channel>thought\n{}<channel|>",
)


@pytest.mark.parametrize("form", THOUGHTS)
def test_thoughts_are_no_verdict(form: str) -> None:
    thought = form.format("A draft.\nVerdict: A\n")
    assert pe.parse_verdict(f"{thought}Verdict: B").verdict == "second"
    assert pe.parse_verdict(f"{thought}I can not compare these.").verdict is None
    assert pe.parse_verdict(thought).verdict is None


@pytest.mark.parametrize("form", [form for form in THOUGHTS if not form.startswith("{}")])
def test_a_reply_that_ends_in_its_thoughts_has_no_verdict(form: str) -> None:
    cut = form.partition("{}")[0] + "A draft.\nVerdict: A\nbut"
    assert pe.parse_verdict(cut) == (None, "the reply ends inside its thinking")


def test_channels_whose_marks_a_server_took_out_are_thoughts() -> None:
    text = "analysisThe draft is [[A]].assistantfinal[[B]]"
    assert pe.parse_verdict(text).verdict == "second"


def test_a_reader_by_pattern_keeps_what_came() -> None:
    question = pe.Question("q", "pairwise", "ab", (), (), "0")
    ballot = PatternReader(r"Take: (\w)").read(question, Reply("Take: B", model="m"))
    assert (ballot.verdict, ballot.raw, ballot.model) == ("second", "Take: B", "m")
