"""Imports go down only, between packages and inside them; the pure packages stay pure; one name means one thing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("about", "errors", "figure_names"),
    ("records", "checks"),
    ("outcomes",),
    ("storage", "stats"),
    ("bayes", "worlds", "client"),
    ("sources",),
    ("metrics",),
    ("models",),
    ("judges",),
    ("exporting", "building", "judging", "sampling", "training", "posterior", "scoring", "cluster"),
    ("reporting", "labelling", "conformance"),
    ("results",),
    ("verbs",),
    ("cli", "demo"),
)
VERBS = LAYERS[9]
LEVELS = {package: level for level, packages in enumerate(LAYERS) for package in packages}
PURE: Mapping[str, tuple[str, ...]] = {
    "stats": ("about", "errors", "figure_names", "outcomes", "records"),
    "bayes": ("about", "errors", "figure_names", "records", "stats"),
    "client": ("errors", "records", "checks", "storage"),
}
"""The only packages that a pure one may import."""
FORBIDDEN: Mapping[str, tuple[str, ...]] = {"sampling": ("judges",)}
"""What a package must do without, though it lies lower."""
SAME_IDEA: Mapping[str, str] = {
    "__init__": "every package has one",
    "ablate": "the verb, and its command",
    "agree": "the verb, and its command",
    "audit": "the verb, and its command",
    "decide": "the verb, and its command",
    "export": "the verb, and its command",
    "demo": "the verb, and its command",
    "doctor": "the verb, and its command",
    "diversity": "how varied answers are: the figures, and the verb",
    "judge": "the verb, and its command",
    "jury": "the verb, and its command",
    "ledger": "the ledger, and the commands that look after it",
    "plan": "the verb, and its command",
    "power": "the verb, and its command",
    "recorded": "the verb, and its command",
    "reward_model": "a reward model, and the same as a judge",
    "score": "the verb, and its command",
    "verify": "the verb, and its command",
}
"""Names that several modules have, and the one idea that they share."""


def package_of(module: str) -> str:
    """Return the part of a module's name below ``perl_eval``; "" for the root itself."""
    return module.split(".")[1] if "." in module else ""


def modules_of(root: Path) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / "perl_eval").rglob("*.py"))
    }


def imports_of(path: Path, module: str) -> set[str]:
    """Return every perl_eval name that a file imports, in whatever form and wherever in the file."""
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
            found |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return {name for name in found if name == "perl_eval" or name.startswith("perl_eval.")}


def module_in(name: str, modules: Mapping[str, Path]) -> str:
    """Return the module that an imported name is, or lies in."""
    return name if name in modules or "." not in name else module_in(name.rpartition(".")[0], modules)


def complaints(root: Path) -> list[str]:
    """Return every import in a tree that goes up, across or in a circle, and every name that means two things."""
    modules = modules_of(root)
    result = [f"{name} stands in no layer" for name in modules if package_of(name) not in {"", *LEVELS}]
    graph = {name: imports_of(path, name) for name, path in modules.items()}
    for module, targets in graph.items():
        if module != "perl_eval":
            result += [wrong for target in sorted(targets) if (wrong := _wrong_way(module, target))]
    for path in sorted((root / "datasets_builders").rglob("*.py")):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        result += [f"{module} imports {target}" for target in imports_of(path, module)]
    known = {name: {module_in(target, modules) for target in targets} - {name} for name, targets in graph.items()}
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        result.append(f"a circle: {' -> '.join(error.args[1])}")
    return [*result, *_shared_names(modules)]


def _wrong_way(module: str, target: str) -> str:
    ours, theirs = package_of(module), package_of(target)
    if ours == theirs or ours not in LEVELS or theirs not in LEVELS:
        return ""
    if LEVELS[theirs] > LEVELS[ours]:
        return f"{module} (layer {LEVELS[ours]}) imports {target} (layer {LEVELS[theirs]})"
    if ours in VERBS and theirs in VERBS:
        return f"{module} and {target} are both verbs"
    if theirs in FORBIDDEN.get(ours, ()):
        return f"{module} must do without {target}"
    if ours in PURE and theirs not in PURE[ours]:
        return f"{module} is pure, and imports {target}"
    return ""


def _shared_names(modules: Mapping[str, Path]) -> Iterator[str]:
    files, classes = defaultdict(list), defaultdict(list)
    for module, path in modules.items():
        files[path.stem].append(module)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(module)
    for stem, places in files.items():
        if len(places) > 1 and stem not in SAME_IDEA:
            yield f"two modules are called {stem}: {', '.join(places)}"
    for name, places in classes.items():
        if len(places) > 1:
            yield f"two classes are called {name}: {', '.join(places)}"


def test_imports_go_down() -> None:
    assert complaints(ROOT) == []


def test_every_shared_name_is_still_shared() -> None:
    stems = [path.stem for path in modules_of(ROOT).values()]
    assert [stem for stem in SAME_IDEA if stems.count(stem) < 2] == []


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("perl_eval/errors.py", "import perl_eval.records"),
        ("perl_eval/records.py", "from perl_eval import storage"),
        ("perl_eval/records.py", "from perl_eval.storage.run_folder import read"),
        ("perl_eval/storage/run_folder.py", "from .. import judging"),
        ("perl_eval/stats/winrate.py", "from ..judging.judge import run"),
        ("perl_eval/stats/winrate.py", "from perl_eval.storage import parquet"),
        ("perl_eval/bayes/smc.py", "from perl_eval.storage import parquet"),
        ("perl_eval/client/http.py", "from perl_eval.worlds import coffee"),
        ("perl_eval/client/http.py", "from perl_eval.judges.protocol import Judge"),
        ("perl_eval/judges/backends/chat.py", "def f():\n    from perl_eval.cli import app"),
        ("perl_eval/judging/judge.py", "import importlib\nimportlib.import_module('perl_eval.demo')"),
        ("perl_eval/judging/judge.py", "from perl_eval.scoring.score import run"),
        ("perl_eval/sampling/server.py", "from perl_eval.judges.protocol import Judge"),
        ("perl_eval/training/policy.py", "from perl_eval.judging import judge"),
        ("perl_eval/newpackage/thing.py", "x = 1"),
        ("perl_eval/thing.py", "x = 1"),
        ("datasets_builders/tldr.py", "from perl_eval import errors"),
    ],
)
def test_a_bad_import_is_caught(tmp_path: Path, place: str, line: str) -> None:
    written(tmp_path, place, line)
    assert len(complaints(tmp_path)) == 1


@pytest.mark.parametrize(
    "files",
    [
        {"perl_eval/stats/one.py": "from perl_eval.stats import two", "perl_eval/stats/two.py": "from .one import f"},
        {"perl_eval/stats/one.py": "x = 1", "perl_eval/scoring/one.py": "x = 1"},
        {"perl_eval/stats/one.py": "class Rate: ...", "perl_eval/scoring/two.py": "class Rate: ..."},
    ],
)
def test_circles_and_shared_names_are_caught(tmp_path: Path, files: dict[str, str]) -> None:
    for place, line in files.items():
        written(tmp_path, place, line)
    assert len(complaints(tmp_path)) == 1


def test_a_good_import_is_not(tmp_path: Path) -> None:
    line = "from perl_eval import records\nfrom perl_eval.judges.protocol import Judge\nimport json"
    written(tmp_path, "perl_eval/judging/judge.py", line)
    assert complaints(tmp_path) == []


def written(root: Path, place: str, text: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


HEAVY = (
    *("torch", "transformers", "datasets", "peft", "pandas", "sklearn", "statsmodels", "openai", "matplotlib", "scipy"),
    *("numpy", "pyarrow", "jinja2"),
)


@pytest.mark.parametrize("statement", ["import perl_eval", "from perl_eval import UserError, Completion"])
def test_import_is_light(statement: str) -> None:
    program = f"{statement}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["judge"], ["train", "policy"], ["build"]])
def test_help_is_light(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom perl_eval.cli.program import program\n"
        f"try:\n    program({arguments!r})([*{arguments!r}, '--help'])\nexcept SystemExit:\n    pass\n"
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
        "people = [pe.HumanLabel(one.unit, one.item, one.group, who, 'win') for one in judged for who in 'pq']\n"
        f"print(pe.report(judged, pe.agree(judged, people), out={str(tmp_path / 'page.html')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").is_file()
