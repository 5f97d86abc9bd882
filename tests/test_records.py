"""Records are frozen and plain; ids are stable; errors are one line each."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perl_eval import errors, records
from perl_eval.records import Completion, Estimate, Judgement, Message, RunCard, digest, unit_of

ANY_TEXT = st.text(st.characters())  # surrogates included: an id must exist for every text
TYPES = [getattr(records, name) for name in records.__all__ if name != "digest"]


# ---------------------------------------------------------------------------------------------------- records


@pytest.mark.parametrize("kind", TYPES)
def test_every_record_is_frozen_and_has_no_dict(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert "__dict__" not in dir(kind)


def test_assigning_to_a_record_fails() -> None:
    message = Message("user", "a latte")
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.content = "a mocha"  # type: ignore[misc]


def test_outcomes_are_the_nine_of_the_house() -> None:
    known = ["win", "loss", "split", "tie", "mixed", "yes", "no", "scored", "unjudged"]
    assert sorted(records.OUTCOMES) == sorted(known)


# ---------------------------------------------------------------------------------------------------- digest


def test_a_digest_is_a_sha256_over_length_prefixed_parts() -> None:
    # "é" is two bytes; the prefix counts bytes.
    assert digest("é", "x") == hashlib.sha256("2:é1:x".encode()).hexdigest()[:16]
    assert digest() == hashlib.sha256(b"").hexdigest()[:16]


@given(st.lists(ANY_TEXT, max_size=4), st.lists(ANY_TEXT, max_size=4))
def test_different_parts_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_joining_parts_elsewhere_changes_the_digest() -> None:
    whole = "1:a1:b"  # looks like what is hashed
    ways = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("", "abc"), ("abc", ""), (whole,), ("a", "b")]
    assert len({digest(*parts) for parts in ways}) == len(ways)


def test_a_unit_is_the_same_for_every_judge_and_turns_with_the_pair() -> None:
    judgement = Judgement(
        **dict.fromkeys(("id", "item", "group", "dataset", "policy_a", "policy_b", "text_a", "text_b", "judge"), "x"),
        kind="pairwise",
        a="one",
        b="two",
        prompt=(),
        outcome="win",
        ballots=(),
        prompt_sha256="0",
        simulated=False,
    )
    other = dataclasses.replace(judgement, id="y", judge="another", outcome="unjudged", text_a="z")
    assert judgement.unit == other.unit == unit_of("one", "two")
    assert len({unit_of("one", "two"), unit_of("two", "one"), unit_of("one"), unit_of("onetwo")}) == 4


# ---------------------------------------------------------------------------------------------------- messages


def test_a_plain_string_is_one_turn_of_the_role() -> None:
    assert Message.sequence("hello") == (Message("user", "hello"),)
    assert Message.sequence("hello", role="assistant") == (Message("assistant", "hello"),)
    assert Message.sequence([]) == ()


def test_a_tool_call_becomes_json_text_after_the_content() -> None:
    call = {"type": "function", "function": {"name": "order", "arguments": {"size": "große", "drink": "latte"}}}
    expected = '{"arguments": {"drink": "latte", "size": "große"}, "name": "order"}'
    turn = {"role": "assistant", "content": "sure", "tool_calls": [call]}
    assert Message.of(turn) == Message("assistant", f"sure\n{expected}")
    # The same call, as other writers give it: bare, as JSON text, without content.
    for same in (call["function"], json.dumps(call), json.dumps(call["function"])):
        assert Message.of({"role": "assistant", "content": None, "tool_calls": [same]}).content == expected


def test_a_call_that_is_no_json_is_kept_as_it_is() -> None:
    assert Message.of({"role": "assistant", "tool_calls": ["order(latte"]}).content == "order(latte"
    assert Message.of({"role": "tool", "content": "", "tool_calls": None}) == Message("tool", "")


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate("win rate", 0.624, 0.55, 0.681, 200, 0, "Wilson"), "0.62 (0.55 to 0.68), n = 200"),
        (Estimate("wins", 1240.0, None, None, 2000, 0, "count", kind="count"), "1,240, n = 2,000"),
        (Estimate("McNemar p", 0.00031, None, None, 90, 0, "exact", kind="p-value"), "0.00031, n = 90"),
        (Estimate("win rate", None, None, None, 0, 3, "Wilson", reason="nothing judged"), "none: nothing judged"),
    ],
)
def test_a_figure_is_printed_by_its_kind(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn = {
        "UserError": "PerlEvalError",
        "DataError": "UserError",
        "OptionError": "UserError",
        "JudgeError": "PerlEvalError",
        "RateLimited": "JudgeError",
        "TimedOut": "JudgeError",
        "OutOfCredit": "JudgeError",
        "TurnedAway": "JudgeError",
        "Refused": "JudgeError",
        "Unfinished": "PerlEvalError",
    }
    assert {name: getattr(errors, name).__base__.__name__ for name in drawn} == drawn
    assert sorted([*drawn, "PerlEvalError"]) == sorted(errors.__all__)
    assert errors.PerlEvalError.__base__ is Exception


@given(st.text(), st.text())
def test_a_user_error_is_one_line_whatever_is_in_it(what: str, fix: str) -> None:
    assert len(str(errors.UserError(what, fix)).splitlines()) <= 1


def test_a_user_error_says_what_and_what_to_do() -> None:
    assert str(errors.UserError("limit is 0", "give 1 or more")) == "limit is 0; give 1 or more"
    assert str(errors.UserError("limit is\n 0")) == "limit is 0"


@pytest.mark.parametrize(("row", "field"), list(itertools.product([None, 0, 7], [None, "text"])))
def test_a_data_error_names_what_is_known_of_the_place(row: int | None, field: str | None) -> None:
    error = errors.DataError("is empty", file=Path("a.parquet"), row=row, field=field, fix="fill it")
    place = "a.parquet" + ("" if row is None else f", row {row}") + ("" if field is None else f", field '{field}'")
    assert str(error) == f"{place}: is empty; fill it"
    assert (error.file, error.row, error.field) == ("a.parquet", row, field)


def test_rate_limits_carry_how_long_to_wait() -> None:
    assert errors.RateLimited("slow down", 2.5).retry_after_s == 2.5
    assert errors.RateLimited("slow down").retry_after_s is None


def test_a_card_and_a_completion_have_the_stated_defaults() -> None:
    card = RunCard("v", {}, 0, {}, {}, {}, 0.0, 0, "now")
    assert (card.simulated, card.notes) == (False, {})
    one = Completion("i", "t", "g", "d", "p", (), "text", "stop", 0)
    assert (one.token_ids, one.logprob, one.prior_logprob) == ((), None, None)
