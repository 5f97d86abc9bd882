"""The examples at the end of every verb's help: two each, which the tests run one after the other in one folder.

The files that they name are such as a user brings: answers ``ours.jsonl`` and ``theirs.jsonl``, labels ``people.csv``,
rows ``preferences.jsonl``; the runs are those of the examples before them.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EXAMPLES", "commands", "shown"]

_PAIR = "ours.jsonl theirs.jsonl"
_DATA = "--data preferences.jsonl"
_TUNED = f"{_DATA} --prior runs/sft"

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "judge": (
        f"judge {_PAIR} --judge openai:gpt-5-mini --price-in 0.25 --price-out 2 --max-cost 2 --out runs/judged",
        f"judge {_PAIR} --judge scripted:length --out runs/length",
    ),
    "verify": ("verify runs/judged", "verify runs/own --prompts my-prompts"),
    "jury": (
        "jury runs/judged runs/length --out runs/jury",
        "jury runs/judged runs/length --labels people.csv --out runs/jury-errors",
    ),
    "score": ("score runs/judged --out runs/scored", "score runs/judged runs/now --again runs/again --out runs/flips"),
    "agree": (
        "agree runs/judged people.csv --out runs/agreed",
        "agree --on preferences.jsonl --judge openai:gpt-5-mini --limit 50 --out runs/agreed-on",
    ),
    "decide": (
        "decide runs/judged --labels people.csv --out runs/decided",
        "decide runs/judged --labels people.csv --baseline theirs --fail-under 0 --junit decision.xml --out runs/ci",
    ),
    "doctor": (f"doctor {_PAIR} people.csv", "doctor runs/judged people.csv"),
    "audit": (
        "audit runs/judged people.csv --again runs/again --out runs/audited",
        "audit runs/now --anchors runs/audited --out runs/drift",
    ),
    "power": (
        "power --half-width 0.03 --out runs/power",
        "power --pilot runs/judged --labels people.csv --judged 2000 --half-width 0.03 --out runs/power-pilot",
    ),
    "import": (
        "import ours.jsonl --policy ours --out runs/ours",
        "import people.csv --column label=winner --out runs/people",
    ),
    "annotate": (
        f"annotate {_PAIR} --annotator ann --limit 100",
        f"annotate {_PAIR} --judgements runs/judged --until-decided --annotator ann --annotator ben --overlap 2"
        " --adjudicator cleo --out decisive",
    ),
    "export": (
        "export ours.jsonl --to alpaca-eval --out ours-alpaca.json",
        "export runs/judged --to trl --out judged-as-preferences",
    ),
    "ledger export": (
        "ledger export runs/judged/ledger.sqlite --out replies.jsonl",
        "ledger export runs/judged/ledger.sqlite --out replies.parquet",
    ),
    "ledger prune": (
        "ledger prune runs/judged/ledger.sqlite --before 2026-01-01",
        "ledger prune runs/judged/ledger.sqlite --keep runs/judged",
    ),
    "ledger salvage": (
        "ledger salvage runs/judged/ledger.sqlite --out saved.sqlite",
        "ledger salvage now.sqlite --out now-saved.sqlite",
    ),
    "recorded": (
        f"recorded {_DATA} --out runs/recorded",
        f"recorded {_DATA} --seed 1 --out runs/recorded-other-sides",
    ),
    "build": (
        "build coffee-world --out data/coffee",
        "build harmless --data-dir upstream/hh-rlhf --checksums record --check --against evaluation.jsonl"
        " --out data/harmless",
    ),
    "report": ("report runs --out report.html", "report runs --format csv --out figures.csv"),
    "train sft": (
        f"train sft {_DATA} --model scratch:tiny --epochs 1 --out runs/sft",
        f"train sft {_DATA} --model runs/sft --lora --rank 8 --epochs 1 --out runs/sft-lora",
    ),
    "train reward": (
        f"train reward {_TUNED} --epochs 1 --out runs/reward",
        f"train reward {_TUNED} --epochs 1 --full --out runs/reward-full",
    ),
    "train average": (
        f"train average runs/reward runs/reward-1 {_TUNED} --out runs/reward-mean",
        f"train average runs/reward runs/reward-1 runs/reward-2 {_TUNED} --out runs/reward-mean-of-3",
    ),
    "train policy": (
        f"train policy {_TUNED} --reward runs/reward --steps 2 --batch 16 --max-new-tokens 16 --out runs/policy",
        f"train policy {_TUNED} --reward runs/reward --objective grpo --group 4 --steps 2 --batch 4"
        " --max-new-tokens 16 --out runs/policy-grpo",
    ),
    "train dpo": (
        f"train dpo {_TUNED} --out runs/dpo",
        f"train dpo {_TUNED} --loss ipo --beta 0.05 --out runs/ipo",
    ),
    "sample": (
        f"sample --model runs/policy {_DATA} --limit 8 --max-new-tokens 16 --out runs/answers",
        f"sample --model gpt-5-mini --server openai {_DATA} --limit 8 --out runs/answers-openai",
    ),
    "posterior": (
        f"posterior {_TUNED} --reward runs/reward --beta 0.3 --policy runs/policy --limit 2 --draws 2"
        " --pool 16 --max-new-tokens 8 --out runs/posterior",
        f"posterior {_TUNED} --reward runs/reward --beta 0.3 --sampler best-of-n --n 4 --limit 2"
        " --draws 2 --pool 16 --max-new-tokens 8 --out runs/best-of-4",
    ),
    "ablate": (
        f"ablate {_DATA} --ranks 4 --seeds 2 --steps 2 --batch 16 --prompts 4 --max-new-tokens 8 --out runs/ablation",
        f"ablate {_DATA} --ranks 1,8 --no-full --seeds 1 --steps 2 --batch 16 --prompts 4 --max-new-tokens 8"
        " --out runs/ranks",
    ),
    "conformance": (
        "conformance --corner --only 'perl-eval reinforce' --out runs/gradients",
        "conformance --corner --only 'perl-eval kl_rl, kl=loss' --out runs/gradients-kl",
    ),
    "plan": (
        "plan runs/judged --usd-per-hour 2 --out runs/plan",
        "plan --judgements-per-hour 20000 --usd-per-judgement 0.0004 --out runs/plan-api",
    ),
    "docs": ("docs judging#providers", "docs guides/start"),
    "demo": ("demo", "demo --seed 1 --out another-demo"),
}
"""By what is typed after ``perl-eval``: two commands without that word, in the order in which they can be run."""

_WIDTH = 74  # what a terminal of 80 columns shows of a line, less a backslash at its end


def shown(path: str) -> str:
    """Return the examples of a verb as its help ends with them.

    Args:
        path: What is typed after ``perl-eval``, such as ``train sft``.
    """
    return "\n".join(["Examples:", "", *commands(path)])


def commands(path: str) -> list[str]:
    """Return the examples of a verb as a shell takes them, long ones over several lines.

    Args:
        path: As for `shown`.
    """
    return [_folded(f"perl-eval {line}") for line in EXAMPLES[path]]


def _folded(line: str) -> str:
    """Break a command before its options where it is too long, as a shell reads it."""
    lines, *rest = line.split(" --")
    for option in rest:
        fits = len(lines.rpartition("\n")[2]) + len(option) + 3 <= _WIDTH
        lines += f" --{option}" if fits else f" \\\n    --{option}"
    return lines
