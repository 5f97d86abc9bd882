"""The rate moves as torch's own schedulers say, warmup and floor included, and a bound on steps ends the fall."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from perl_eval.errors import OptionError
from perl_eval.training.schedule import Schedule, Shape, factor


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(40, 8), (40, 0), (7, 6), (3, 1)])
def test_as_torch_moves_it(shape: Shape, steps: int, warmup: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    after: LRScheduler
    if shape == "linear":
        after = LinearLR(optimizer, 1.0, 0.1, steps - warmup)
    elif shape == "cosine":
        after = CosineAnnealingLR(optimizer, steps - warmup, 0.1)
    else:
        after = ConstantLR(optimizer, 1.0)
    own = after
    if warmup:
        rising = LinearLR(optimizer, 1 / warmup, 1.0, max(1, warmup - 1)) if warmup > 1 else ConstantLR(optimizer, 1.0)
        own = SequentialLR(optimizer, [rising, after], [warmup])
    wanted = []
    for _ in range(steps):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        own.step()
    found = [factor(shape, step, steps=steps, warmup=warmup) for step in range(steps)]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_what_is_not_said_is_the_verbs_own() -> None:
    assert Schedule().steps(70) == 70
    assert Schedule(max_steps=5).steps(70) == 5
    assert Schedule(max_steps=500).steps(70) == 70
    assert [Schedule().warm(steps) for steps in (1, 9, 24, 95, 5000)] == [1, 1, 3, 10, 10]
    assert Schedule().warm(5000, 50) == 50
    assert Schedule(warmup=0).warm(10) == 0
    assert Schedule(warmup=0.25).warm(40) == 10
    assert Schedule(warmup=7).warm(40) == 7
    assert (Schedule().evaluated(40, 8), Schedule().evaluated(40, 0)) == (5, 0)
    assert Schedule(evaluate_every=3).evaluated(40, 8) == 3


def test_an_unknown_shape_is_told_as_typed() -> None:
    with pytest.raises(OptionError) as caught:
        Schedule("cos")  # type: ignore[arg-type]
    assert caught.value.typed() == "--schedule is 'cos'; choose from linear, cosine, constant"
