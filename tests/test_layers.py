"""Arrows between rooms go down only, and the light doors stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {
    0: ["errors"],
    1: ["records", "tables", "ordering", "progress", "remote", "spread"],
    2: [
        "runs",
        "render",
        "images",
        "pictures",
        "rows",
        "sheets",
        "world",
        "picture_world",
        "passport",
        "stats",
        "bayes",
        "train.objectives",
        "train.matching",
    ],
    3: ["models", "train.processes", "train.meter", "train.shards", "train.loop"],
    4: ["judges"],
    5: [
        *("build", "sample", "recorded", "judge", "jury", "score", "tasks", "rewards", "agree", "audit", "power"),
        *("foreign", "train", "posterior", "scale"),
    ],
    6: ["report", "annotate"],
    7: ["cli", "demo"],
}
STAGES = LAYERS[5]


def room_of(module: str) -> str | None:
    """Return the room of a perl_eval module, by its longest listed prefix."""
    inner = module.removeprefix("perl_eval").removeprefix(".")
    listed = [room for rooms in LAYERS.values() for room in rooms]
    fits = [room for room in listed if inner == room or inner.startswith(f"{room}.")]
    return max(fits, key=len) if fits else None


def level_of(room: str) -> int:
    return next(level for level, rooms in LAYERS.items() if room in rooms)


def imports_of(path: Path, module: str) -> set[str]:
    """Return every perl_eval module that a file imports, in whatever form and wherever in the file."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return {name for name in found if name == "perl_eval" or name.startswith("perl_eval.")}


def complaints(root: Path) -> list[str]:
    """Return every arrow in a tree that does not go down."""
    result = []
    for path in sorted((root / "perl_eval").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if module == "perl_eval":
            continue
        room = room_of(module)
        if room is None:
            result.append(f"{module} stands in no room")
            continue
        for target in imports_of(path, module):
            other = room_of(target)
            if other is None or other == room:
                continue
            if level_of(other) > level_of(room):
                result.append(f"{module} (layer {level_of(room)}) imports {target} (layer {level_of(other)})")
            elif room in STAGES and other in STAGES:
                result.append(f"{module} and {target} are both stages")
    for path in sorted((root / "datasets_builders").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        result += [f"{module} imports {target}" for target in imports_of(path, module)]
    return result


def test_arrows_go_down() -> None:
    assert complaints(ROOT) == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("perl_eval/errors.py", "import perl_eval.records"),
        ("perl_eval/records.py", "from perl_eval import runs"),
        ("perl_eval/records.py", "from perl_eval.runs import read"),
        ("perl_eval/runs.py", "from . import judge"),
        ("perl_eval/stats/winrate.py", "from ..judge import run"),
        ("perl_eval/judges/chat.py", "def f():\n    from perl_eval.cli import app"),
        ("perl_eval/judge.py", "import importlib\nimportlib.import_module('perl_eval.demo')"),
        ("perl_eval/judge.py", "from perl_eval.score import run"),
        ("perl_eval/train/policy.py", "from perl_eval import judge"),
        ("perl_eval/newroom.py", "x = 1"),
        ("datasets_builders/tldr.py", "from perl_eval import errors"),
    ],
)
def test_a_bad_import_is_caught(tmp_path: Path, place: str, line: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert len(complaints(tmp_path)) >= 1


def test_a_good_import_is_not(tmp_path: Path) -> None:
    path = tmp_path / "perl_eval" / "judge.py"
    path.parent.mkdir(parents=True)
    path.write_text("from perl_eval import records, runs\nfrom perl_eval.judges.protocol import Judge\nimport json\n")
    assert complaints(tmp_path) == []


HEAVY = ("torch", "transformers", "datasets", "peft", "pandas", "sklearn", "openai", "matplotlib", "scipy")


@pytest.mark.parametrize("statement", ["import perl_eval", "from perl_eval import UserError, Completion"])
def test_import_is_light(statement: str) -> None:
    program = f"{statement}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["judge"], ["train", "policy"], ["build"]])
def test_help_is_light(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom perl_eval.cli import app\n"
        f"try:\n    app([*{arguments!r}, '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_judging_needs_no_torch(tmp_path: Path) -> None:
    """The README's example, then agreement and the report, where torch, transformers and peft cannot be imported."""
    readme = (ROOT / "README.md").read_text("utf-8")
    example = re.search(r"^```python\n(.*?)^```$", readme, re.M | re.S)
    assert example is not None
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'peft'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"{example[1]}\n"
        "from perl_eval import HumanLabel, agree, report\n"
        "judged_pairs = runs.read(judged, judge.Judgement)\n"
        "labels = [HumanLabel(one.unit, one.item, one.group, who, 'win') for one in judged_pairs for who in 'pq']\n"
        "tables.write(folder / 'people' / 'labels.parquet', labels, HumanLabel)\n"
        "agree.run(judged, folder / 'people', folder / 'agreed')\n"
        f"print(report.run([folder], {str(tmp_path / 'page.html')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").is_file()
