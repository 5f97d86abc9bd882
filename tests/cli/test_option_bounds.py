"""Every number that a command takes is checked, and what is wrong is told under the name that was typed."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from perl_eval.cli import whole_program

COMMANDS: Mapping[str, str] = {
    "build": "build coffee-world",
    "ablate": "ablate --data none",
    "recorded": "recorded --data none",
    "sample": "sample --model none --data none",
    "judge": "judge none none --judge scripted:length --prompt helpful",
    "score": "score none",
    "agree": "agree none none",
    "decide": "decide none",
    "audit": "audit none none",
    "power": "power --half-width 0.03",
    "plan": "plan none",
    "annotate": "annotate none --question Good?",
    "conformance": "conformance --adapter none.py",
    "posterior": "posterior --data none --prior none --reward none --beta 1",
    "report": "report none",
    "demo": "demo",
    "train sft": "train sft --data none",
    "train reward": "train reward --data none --prior none",
    "train policy": "train policy --data none --prior none --reward none",
    "train dpo": "train dpo --data none --prior none",
    "train average": "train average none none --data none --prior none",
}
"""A command line of every command that takes a number, whose options are good and whose inputs are not there."""
BESIDE: Mapping[str, str] = {
    "report --port": "--serve",
    "sample --max-concurrency": "--server http://127.0.0.1:9/v1",
    "sample --patience": "--server http://127.0.0.1:9/v1",
    "judge --batch-poll": "--batch",
    "power --rate": "--items 10",
    "power --items": "--rate 0.5",
    "train sft --alpha": "--lora",
    "train sft --rank": "--lora",
    "train reward --members": "--folds 2",
    **{f"train policy --{name}": "--objective grpo --group 2" for name in ("clip-low", "clip-high", "updates")},
    "train policy --weight-cap": "--rollouts http://127.0.0.1:9/v1",
    "train dpo --smoothing": "--loss robust",
}
"""What an option is given with, where it means nothing alone."""
WRONG: Mapping[str, tuple[str, ...]] = {
    "count": ("0", "-1", "nan"),
    "number": ("-1", "nan"),
    "port": ("-1", "65536", "nan"),
    "positive": ("0", "-1", "nan", "inf"),
    "not negative": ("-1", "nan", "inf"),
    "finite": ("nan", "inf", "-inf"),
    "rate": ("-1", "2", "nan"),
    "rate, not 1": ("-1", "1", "2", "nan"),
    "rate, not 0": ("0", "-1", "2", "nan"),
    "rate, neither 0 nor 1": ("0", "1", "-1", "2", "nan"),
    "half a rate": ("0", "0.5", "-1", "nan"),
    "below a half": ("0.5", "-1", "nan"),
    "difference": ("2", "-2", "nan"),
    "difference, not 0": ("0", "2", "-2", "nan"),
    "seed": ("-1", "4294967296", "nan"),
}
"""Values that an option must refuse, by what it is."""
NAMES: Mapping[str, str] = {
    "count": """
        batch calls-per-pair draws group items judged limit local-batch max-concurrency max-new-tokens max-reply-tokens
        max-requests max-tokens members most n num-proc overlap pairs pool processes prompts rank seeds sft-batch steps
        updates votes workers
    """,
    "number": """
        evaluate-every evaluations folds max-steps micro-batch posterior:limit sample:limit train-dpo:limit
        train-dpo:patience train-policy:limit train-reward:limit train-reward:patience train-sft:limit
        train-sft:patience warmup
    """,
    "positive": """
        alpha batch-poll clip-high disliked epochs full-rate judgements-per-hour judge:patience learning-rate lease
        liked max-cost plan:patience policy-rate sample:patience
        posterior:beta reward-epochs reward-rate rpm seconds-per-rl-step sft-epochs softness temperature timeout tpm
        train-dpo:beta weight-cap
    """,
    "not negative": """
        beta caution clip gpus agree:temperature audit:temperature judge:temperature noise price price-in price-item
        price-label price-out
        sample:temperature save-every tie-margin usd-per-hour usd-per-judgement weight-decay
    """,
    "finite": "missing-end-reward position-bias threshold upper",
    "rate": "rate",
    "rate, not 0": "clip-low decided",
    "rate, not 1": "dropout epsilon kl-weight",
    "rate, neither 0 nor 1": "acceptance level power",
    "half a rate": "half-width",
    "below a half": "smoothing",
    "difference": "correlation difference fail-under",
    "difference, not 0": "detect",
    "port": "port",
    "seed": "seed",
}
"""The options of each kind: by name, or by command and name where a command differs."""
KINDS = {name: kind for kind, names in NAMES.items() for name in names.split()}


def commands(program: typer.Typer, before: str = "") -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield every command as typed, and the function behind it."""
    for command in program.registered_commands:
        function = command.callback
        assert function is not None
        yield f"{before}{command.name or function.__name__}", function
    for group in program.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{group.name} ")


def numbers() -> Iterator[tuple[str, str]]:
    """Yield command and option of every number that can be typed."""
    for command, function in commands(whole_program()):
        for name, hint in typing.get_type_hints(function, include_extras=True).items():
            kind, *told = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint,)
            if {int, float} & {kind, *typing.get_args(kind)}:
                given = [one for info in told for one in (info.default, *(info.param_decls or ()))]
                typed = [one for one in given if isinstance(one, str) and one.startswith("--")]
                yield command, typed[0] if typed else f"--{name.replace('_', '-')}"


def cases() -> Iterator[Any]:
    for command, option in numbers():
        name = option.removeprefix("--")
        kind = KINDS.get(f"{command.replace(' ', '-')}:{name}") or KINDS[name]
        for value in WRONG[kind]:
            line = f"{COMMANDS[command]} {BESIDE.get(f'{command} {option}', '')} {option}={value}"
            yield pytest.param(line, option, id=f"{command} {option} {value}")


@pytest.mark.parametrize(("line", "option"), list(cases()))
def test_a_wrong_number_is_told_under_the_name_that_was_typed(
    line: str, option: str, fails: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    said = fails(f"{line} --out out")
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", said), said
    assert not re.search(r"[a-z]_[a-z]|no such option", said, re.IGNORECASE), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", [name for name in COMMANDS if name not in ("build", "demo", "power")])
def test_the_same_command_without_it_gets_past_its_options(
    verb: str, fails: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(r"\bnone\b", fails(f"{COMMANDS[verb]} --out out"))


def test_the_walk_sees_what_python_sees() -> None:
    functions = dict(commands(whole_program()))
    assert len(functions) == len({*functions.values()}) > 20
    taken = [
        parameter
        for function in functions.values()
        for parameter in inspect.signature(function).parameters.values()
        if isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    ]
    assert len(list(numbers())) >= len(taken) > 50
