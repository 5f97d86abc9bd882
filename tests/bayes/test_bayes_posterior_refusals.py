"""What the verb ``posterior`` refuses before it opens a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from perl_eval.errors import UserError
from perl_eval.posterior.problem import PosteriorOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"pool": 2}, "pool is 2; give at least as many as `n` and `draws`"),
        ({"acceptance": 1.0}, "acceptance is 1.0"),
        ({"samplers": ("gibbs",)}, "sampler 'gibbs' is not known; choose from best-of-n"),
        ({"samplers": ("rejection", "SIR")}, "rejection needs a bound of the reward; give upper, or take quasi-rej"),
        ({"draws": 0}, "draws is 0"),
        ({"max_new_tokens": 40}, "max_tokens is 40; give more than `max_new_tokens`, 40"),
    ],
)
def test_impossible_comparisons(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PosteriorOptions(**{"beta": 1.0, "max_new_tokens": 8, "max_tokens": 40, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("", "Missing option '--reward'"),
        ("--reward x", "Missing option '--beta'"),
        ("--reward x --beta 0", "--beta is 0.0; give a finite number above 0"),
        ("--reward x --beta 1 --sampler gibbs", "sampler 'gibbs' is not known"),
        ("--reward x --beta 1 --ensemble best", "--ensemble 'best' is not known"),
        ("--reward x --beta 1", "no such file or folder"),
    ],
)
def test_what_is_typed_wrongly_is_one_line(
    tmp_path: Path, extra: str, said: str, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in fails(f"posterior --data d --prior p --out out {extra}")
