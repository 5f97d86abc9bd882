"""The dataset card, written from what was built: terms, counts, drop log, checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets_builders.sources import Origin
from datasets_builders.tally import Tally

__all__ = ["Built", "write_card"]

_PUBLISHING = {
    "public": "The rows may be shared under the terms above.",
    "private": "The terms do not clearly allow sharing the text: keep the rows private.",
    "never": "The rows must not leave the licensee: do not upload them, not even privately.",
}
_FILES_LISTED = 60
_READ_BACK = """```python
import datasets

rows = datasets.load_dataset({folder}, {config})
```"""


@dataclass(frozen=True, slots=True)
class Built:
    """One configuration as it was built.

    Attributes:
        description: What one row is.
        columns: Column names, in order.
        tallies: What was kept and dropped, by split.
        checksums: sha256 of each upstream file, by upstream path.
        pinned: Upstream paths whose checksum was compared with a pinned one.
        settings: Options that shaped the rows, by name.
    """

    description: str
    columns: Sequence[str]
    tallies: Mapping[str, Tally]
    checksums: Mapping[str, str]
    pinned: frozenset[str] = frozenset()
    settings: Mapping[str, str] | None = None

    @property
    def sources_sha256(self) -> str:
        """One sha256 over the paths and checksums of all files."""
        lines = (f"{sha256}  {path}\n" for path, sha256 in sorted(self.checksums.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _front_matter(origin: Origin, built: Mapping[str, Built]) -> str:
    lines = ["---", f"pretty_name: {json.dumps(origin.title)}", f"license: {origin.licence}", "language:", "- en"]
    lines += ["tags:", *(f"- {tag}" for tag in origin.tags)] if origin.tags else []
    lines.append("configs:")
    for config, one in built.items():
        lines += [f"- config_name: {json.dumps(config)}", "  data_files:"]
        for split in one.tallies:
            lines += [f"  - split: {split}", f"    path: {json.dumps(f'{config}/{split}-*.parquet')}"]
    return "\n".join([*lines, "---"])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _counts(built: Mapping[str, Built]) -> str:
    rows = [
        [config, split, f"{tally.kept:,}", f"{tally.dropped.total():,}"]
        for config, one in built.items()
        for split, tally in one.tallies.items()
    ]
    return _table(["configuration", "split", "rows", "dropped"], rows)


def _log(built: Mapping[str, Built]) -> str:
    rows = [
        [config, split, kind, reason, f"{count:,}", ", ".join(tally.examples.get(reason, []))]
        for config, one in built.items()
        for split, tally in one.tallies.items()
        for kind, counts in (("dropped", tally.dropped), ("kept", tally.notes))
        for reason, count in sorted(counts.items())
    ]
    if not rows:
        return "No upstream row was dropped or changed."
    return _table(["configuration", "split", "rows were", "reason", "count", "first places (file:row)"], rows)


def _checksums(built: Mapping[str, Built]) -> str:
    files: dict[str, tuple[str, str]] = {}
    for config, one in built.items():
        if len(one.checksums) > _FILES_LISTED:
            count = f"the {len(one.checksums):,} files of {config}, as `sha256sum` lists them in order of path"
            files[count] = (one.sources_sha256, "recorded, nothing to compare with")
            continue
        for path, sha256 in one.checksums.items():
            files[path] = (sha256, "pinned and compared" if path in one.pinned else "recorded, nothing to compare with")
    return _table(["file", "sha256", "checked"], [[path, f"`{sha}`", how] for path, (sha, how) in files.items()])


def _configurations(built: Mapping[str, Built]) -> str:
    lines = []
    for config, one in built.items():
        settings = ", ".join(f"{name} = {value}" for name, value in (one.settings or {}).items())
        lines.append(
            f"- `{config}`: {one.description}. Columns: {', '.join(f'`{column}`' for column in one.columns)}."
            + (f" Built with {settings}." if settings else "")
        )
    return "\n".join(lines)


def _calls(origin: Origin, built: Mapping[str, Built]) -> str:
    """Warn of tool calls that a chat template may drop."""
    if "tool-use" not in origin.tags:
        return ""
    texts = [config for config, one in built.items() if (one.settings or {}).get("format_calls") == "text"]
    if texts:
        return "Calls of tools are text here: JSON of name and arguments in the turn's `content`."
    return (
        "**Calls of tools.** A turn that calls a tool has its call in `tool_calls` and an empty `content`. A chat "
        "template that does not render `tool_calls` drops the call without a word, and the model learns empty turns: "
        "look at what your template makes of a row, or build with `--format-calls text`, which puts calls into "
        "`content` as JSON."
    )


def write_card(origin: Origin, built: Mapping[str, Built], *, checks: str = "", org: str = "") -> str:
    """Return the README.md of a folder of built rows, with the front matter that `datasets.load_dataset` reads.

    Args:
        origin: Where the data set comes from.
        built: The configurations in the folder.
        checks: Findings on leakage and balance, in markdown; left out if empty.
        org: Who publishes the folder, where that is to be said.
    """
    parts = [
        _front_matter(origin, built),
        f"# {origin.title}",
        origin.description,
        f"**Content warning.** {origin.warning}" if origin.warning else "",
        f"Built and published by {org} from upstream's files; the data are upstream's work." if org else "",
        "## Terms",
        f"{origin.terms} {_PUBLISHING[origin.publishing]}",
        f"Upstream: <{origin.homepage}>" + (f", revision `{origin.revision}`." if origin.revision else "."),
        "## Configurations",
        _configurations(built),
        "A message is `{role, content, name, tool_calls}`, or for pictures `{role, content: [parts]}` beside `images`. "
        "`id` is stable over rebuilds, `group` is what splits keep together, `source_file` is the upstream file.",
        _calls(origin, built),
        "## Rows",
        _counts(built),
        f"Splits: {origin.splits}",
        "## Drop log",
        _log(built),
        "## Upstream files",
        _checksums(built),
        *(["## Checks", checks] if checks else []),
        "## Reading",
        _READ_BACK.format(folder='"path/to/this/folder"', config=json.dumps(next(iter(built)))),
        "## Citation",
        f"```bibtex\n{origin.citation}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
