"""Lists, headings and bold are counted outside of code, and gaps are those of arenas."""

from __future__ import annotations

import numpy as np
import pytest

from perl_eval.metrics.answer_style import style_gaps


def test_marks_in_code_do_not_count() -> None:
    plain, marked = "one two", "# Title\n\n- one\n* two\n1. three\n\n**bold** and __strong__\n```\n# no\n- no\n```"
    found = style_gaps([marked, plain, plain], [plain, marked, plain])
    assert found.names == ("length", "lists", "headings", "bold")
    assert np.sign(found.gaps).tolist() == [[1] * 4, [-1] * 4, [0] * 4]
    assert found.gaps.std(axis=0) == pytest.approx([1] * 4)


def test_a_style_in_which_no_answers_differ_is_left_out() -> None:
    assert style_gaps(["abc", "a"], ["ab", "abc"]).names == ("length",)
    assert style_gaps(["same"], ["text"]).names == ()
