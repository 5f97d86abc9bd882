"""The training verbs on the command line: what is typed reaches the verb, and what cannot be is one line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perl_eval import cli
from perl_eval.models.ensemble import EnsembleRule
from perl_eval.training import ablate, dpo, folds, policy, reward, sft, weight_average

RESOURCES = "--device cpu --dtype bf16 --checkpointing --micro-batch 4 --tracker tensorboard"


Call = tuple[tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Any], Call]:
    """Return what runs a line and gives what a verb was called with."""

    def run(line: str, verb: Any) -> Call:
        calls: list[Call] = []

        def called(*given: Any, **named: Any) -> Path:
            calls.append((given, named))
            return tmp_path

        monkeypatch.setattr(verb, "run", called)
        for verbs in ("train", "ablate"):
            monkeypatch.setattr(f"perl_eval.cli.{verbs}.show", lambda _: None)
        monkeypatch.setattr("perl_eval.cli.ablate._conclude", lambda _: None)
        monkeypatch.setattr(sys, "argv", ["perl-eval", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code in (None, 0)
        (call,) = calls
        return call

    return run


def assert_resources(options: Any) -> None:
    used = options.resources
    assert (used.placement.device, used.placement.dtype, used.placement.checkpointing) == ("cpu", "bf16", True)
    assert (used.micro_batch, used.tracker) == (4, "tensorboard")


@pytest.mark.parametrize("line", ["sft --model m --lora", "reward --prior p", "dpo --prior p"])
def test_quantize_reaches_what_trains(typed: Any, line: str) -> None:
    verb = {"sft": sft, "reward": reward, "dpo": dpo}[line.partition(" ")[0]]
    options = typed(f"train {line} --data d --out o --quantize nf4", verb)[1]["options"]
    assert options.resources.placement.quantize == "nf4"


def test_sft(typed: Any) -> None:
    line = "train sft --data d --out o --model m --lora --rank 4 --targets all --method dora --norms --patience 3"
    given, named = typed(f"{line} {RESOURCES}", sft)
    assert given == (Path("d"), Path("o"))
    options = named["options"]
    assert (options.lora.rank, options.lora.alpha, options.lora.method) == (4, 8.0, "dora")
    assert options.lora.targets == ("all-linear",)
    assert options.lora.norms
    assert options.patience == 3
    assert_resources(options)
    _, named = typed("train sft --data d --out o --learning-rate 0.5 --weight-decay 0.1", sft)
    assert (named["options"].lora, named["options"].rate, named["options"].decay) == (None, 0.5, 0.1)


@pytest.mark.parametrize(("more", "held_out"), [("", set()), (" --patience 2", {"validation"})])
def test_sft_leaves_out_the_rows_that_reward_models_are_tested_on(
    typed: Any, tmp_path: Path, more: str, held_out: set[str]
) -> None:
    liked = [{"prompt": f"p{place}", "chosen": "yes", "rejected": "no"} for place in range(90)]
    said = [{"prompt": f"p{place}", "completion": "yes"} for place in range(90)]
    for name, rows, splits in (("p", liked, {"validation", "test"}), ("d", said, held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        given, _ = typed(f"train sft --data {tmp_path}/{name}.jsonl --out {tmp_path}/out-{name}{more}", sft)
        assert {path.stem for path in given[0].glob("*.parquet")} == {"train", *splits}


def test_reward(typed: Any) -> None:
    line = (
        "train reward --data d --prior p --out o --full --weight-decay 0.1 --dropout 0.2 --patience 2 --evaluations 5"
    )
    given, named = typed(f"{line} {RESOURCES}", reward)
    assert given == (Path("d"), Path("p"), Path("o"))
    options = named["options"]
    assert (options.full, options.weight_decay, options.dropout, options.patience) == (True, 0.1, 0.2, 2)
    assert (options.evaluations, options.lora.dropout, options.rate) == (5, 0.2, 2e-4)
    assert not options.lora.norms
    assert typed("train reward --data d --prior p --out o --norms", reward)[1]["options"].lora.norms
    assert_resources(options)
    _, named = typed(f"{line} --folds 3 --members 2", folds)
    assert (named["options"].folds, named["options"].members, named["options"].reward.dropout) == (3, 2, 0.2)


def test_policy(typed: Any) -> None:
    line = "train policy --data d --prior p --out o --reward a --reward b --ensemble mean-std --caution 0.5 --kl loss"
    given, named = typed(f"{line} --full --value adapter --missing-end-reward -7 {RESOURCES}", policy)
    assert given == (Path("d"), Path("p"), [Path("a"), Path("b")], Path("o"))
    options = named["options"]
    assert options.ensemble == EnsembleRule("mean-std", 0.5)
    assert (options.kl, options.full, options.value, options.missing_end_reward) == ("loss", True, "adapter", -7.0)
    assert_resources(options)
    _, named = typed(
        "train policy --data d --prior p --out o --reward a --ensemble soft-minimum --softness 0.2", policy
    )
    assert named["options"].ensemble == EnsembleRule("soft-minimum", 1.0, 0.2)
    given, named = typed("train policy --data d --prior p --out o --reward-function statistics:mean --norms", policy)
    assert named["options"].lora.norms
    assert given[2].__name__ == "mean"


def test_dpo(typed: Any) -> None:
    line = "train dpo --data d --prior p --out o --loss robust --smoothing 0.1 --beta 0.3 --full --patience 2"
    given, named = typed(f"{line} --evaluations 5 {RESOURCES}", dpo)
    assert given == (Path("d"), Path("p"), Path("o"))
    options = named["options"]
    assert (options.loss, options.smoothing, options.beta, options.full) == ("robust", 0.1, 0.3, True)
    assert (options.patience, options.evaluations, options.rate) == (2, 5, 2e-5)
    assert_resources(options)
    line = "train dpo --data d --prior p --out o --liked 2 --disliked 3 --rank 4 --norms"
    options = typed(line, dpo)[1]["options"]
    assert (options.loss, options.liked, options.disliked, options.lora.rank) == ("", 2.0, 3.0, 4)
    assert options.lora.norms


def test_average(typed: Any) -> None:
    given, named = typed("train average a b --data d --prior p --out o --max-new-tokens 9", weight_average)
    assert given == ([Path("a"), Path("b")], Path("d"), Path("p"), Path("o"))
    assert named["options"].max_new_tokens == 9


def test_ablate(typed: Any) -> None:
    line = "ablate --data d --out o --sizes tiny,m/x --ranks 1,8 --no-full --seeds 2 --steps 7 --beta 0.3 --truth world"
    given, named = typed(f"{line} --reward-rate 0.1 --policy-rate 0.2 --full-rate 4", ablate)
    assert given == (Path("d"), Path("o"))
    options = named["options"]
    assert (options.sizes, options.ranks, options.full, options.seeds) == (("tiny", "m/x"), (1, 8), False, 2)
    assert (options.policy.steps, options.policy.beta, options.policy.rate, options.reward.rate) == (7, 0.3, 0.2, 0.1)
    assert options.full_rate == 4.0
    assert (options.tried, options.betas, options.own_reward) == ((1.0,), (), False)
    _, more = typed(f"{line} --tried 0.3,1 --betas 1,0 --own-reward --prompts 9 --draws 3", ablate)
    swept = more["options"]
    assert (swept.tried, swept.betas, swept.own_reward) == ((0.3, 1.0), (1.0, 0.0), True)
    assert (swept.prompts, swept.draws) == (9, 3)
    _, normed = typed(f"{line} --norms", ablate)
    assert [one["options"].policy.lora.norms for one in (more, normed)] == [False, True]
    assert normed["options"].reward.lora.norms
    from perl_eval.records import Message
    from perl_eval.sources.rows import Row
    from perl_eval.worlds.coffee import true_reward

    asked = (Message("user", "one latte , small , with oat milk"),)
    answer = "sure , one small oat milk latte coming up"
    assert named["truth"](Row("r", "g", "d", asked), answer) == true_reward(asked, answer) > 0.5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train sft --data d --out o --device warp", "no device 'warp' here"),
        ("train sft --data d --out o --dtype fp8", "--dtype 'fp8' is not known; choose from fp32, bf16"),
        ("train sft --data d --out o --lora", "is new, and an adapter trains only a model that has learned"),
        ("train reward --data d --prior p --out o --method lorra", "method 'lorra' is not known; choose from lora"),
        ("train reward --data d --prior p --out o --dropout 1.5", "dropout is 1.5"),
        ("train dpo --data d --prior p --out o --loss simpo", "loss 'simpo' is not known; choose from sigmoid"),
        ("train dpo --data d --prior p --out o --smoothing 0.1", "smoothing is 0.1"),
        ("train policy --data d --prior p --out o", "a policy needs a reward, and only one kind"),
        (
            "train policy --data d --prior p --out o --reward r --reward-function m:f",
            "a policy needs a reward, and only one",
        ),
        ("train policy --data d --prior p --out o --reward-function nowhere:f", "no reward function 'nowhere:f'"),
        ("train policy --data d --prior p --out o --reward-function math", "no reward function 'math'"),
        ("train policy --data d --prior p --out o --reward-function math:pi", "math:pi is not a function"),
        ("train policy --data d --prior p --out o --reward r --ensemble median", "--ensemble 'median' is not known"),
        (
            "train policy --data d --prior p --out o --reward r --ensemble soft-minimum --beta 0",
            "give one above 0 with",
        ),
        ("train policy --data d --prior p --out o --reward r --kl k2", "--kl 'k2' is not known"),
        ("train policy --data d --prior p --out o --reward r --kl k3", "objective kl_rl has no KL by k3"),
        ("train policy --data d --prior p --out o --reward r --updates 2", "objective kl_rl makes one update a batch"),
        (
            "train policy --data d --prior p --out o --reward r --objective grpo",
            "grpo takes its baseline from the samples of a prompt, and group is 1",
        ),
        (
            "train policy --data d --prior p --out o --reward r --objective grpo --group 2 --form ppo",
            "form is 'ppo'; choose from grpo, dr_grpo, dapo, cispo",
        ),
        ("train average a --data d --prior p --out o", "1 reward model has no average"),
        ("ablate --data d --out o --ranks a,b", "--ranks 'a,b' are no numbers"),
        ("ablate --data d --out o --ranks 0", "rank is 0"),
        ("ablate --data d --out o --betas x", "--betas 'x' are no numbers"),
        ("ablate --data d --out o --betas=-1", "beta is -1"),
        ("ablate --data d --out o --tried 0", "tried is"),
        ("ablate --data d --out o --truth oracle", "--truth 'oracle' is not known"),
        ("ablate --data nothing --out o", "no such file or folder: nothing"),
    ],
)
def test_what_cannot_be_is_one_line(
    line: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["perl-eval", *shlex.split(line)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
