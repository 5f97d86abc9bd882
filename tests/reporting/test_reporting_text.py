from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perl_eval.reporting.browse import script_json
from perl_eval.reporting.format import clip, duration, markdown, mebibytes, number, visible


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066x\u2069", "⟨U+2066⟩x⟨U+2069⟩"),
        ("one\u2028two\u2029three", "one⟨U+2028⟩two⟨U+2029⟩three"),
        ("nul\x00 esc\x1b[31m", "nul⟨U+0000⟩ esc⟨U+001B⟩[31m"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("lone\ud800", "lone⟨U+D800⟩"),
        ("line\r\nline\rline", "line\nline⟨U+000D⟩line"),
    ],
)
def test_what_cannot_be_seen_is_written_out(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown


@pytest.mark.parametrize("text", ["tab\tand\nline", "שלום", "مرحبا", "می‌خواهم", "👩‍👩‍👧", "naïve café", "日本語"])
def test_ordinary_writing_stays(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_nothing_unseen_remains(text: str) -> None:
    shown = visible(text)
    assert not any(char for char in shown if unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n")
    assert not any(
        unicodedata.bidirectional(char) in ("LRO", "RLO", "LRE", "RLE", "LRI", "RLI", "FSI") for char in shown
    )
    assert visible(shown) == shown


@given(
    st.recursive(st.text() | st.integers() | st.none(), lambda part: st.lists(part) | st.dictionaries(st.text(), part))
)
def test_script_json_means_the_same_and_cannot_end_a_script(value: object) -> None:
    written = script_json(value)
    assert json.loads(written) == value
    assert not set(written) & set("<>&\u2028\u2029")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.53333, "0.533"),
        (-0.3312, "-0.331"),
        (0.9996, "1.000"),
        (1.862645149230957e-09, "1.86e-09"),
        (0.0004, "4.00e-04"),
        (0.0014, "0.0014"),
        (0.0432, "0.043"),
        (14.0, "14"),
        (5.0, "5"),
        (-2.0, "-2"),
        (-0.0, "0"),
        (0.0096, "0.0096"),
        (14.256, "14.26"),
        (1234567.0, "1,234,567"),
        (1.5e9, "1.50e+09"),
    ],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.floats(min_value=-1e300, max_value=1e300) | st.floats(min_value=-2, max_value=2))
def test_a_number_is_near_its_value(value: float) -> None:
    precision = 5e-4 if abs(value) >= 0.01 else 5e-5 if abs(value) >= 0.001 else 0
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=5.1e-3, abs=precision * 1.001)


def test_sizes_and_times() -> None:
    assert [duration(s) for s in (0.031, 59.94, 59.96, 61, 3599.6, 7325)] == [
        *("0.03 s", "59.9 s", "1 min 00 s"),
        *("1 min 01 s", "1 h 00 min", "2 h 02 min"),
    ]
    assert mebibytes(3 * 2**30) == "3,072"


def test_clipping_counts_what_it_leaves_out() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdefg", 3) == "abc … [4 more characters are in the records]"


def test_markdown_is_inert() -> None:
    assert markdown("a|b\n<b>*x*</b> [l](u)") == r"a\|b \<b\>\*x\*\</b\> \[l\]\(u\)"


def test_where_a_picture_stood_it_says_so() -> None:
    assert visible("what is on \ufffc?") == "what is on ⟨picture⟩?"
