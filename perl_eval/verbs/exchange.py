"""The verb that writes what other tools read, as a function; see `perl_eval.verbs`."""

from __future__ import annotations

from pathlib import Path

from perl_eval.results import Exported, Result, TemporaryFolder
from perl_eval.verbs.given import Source

__all__ = ["export"]


def export(source: Source, *, to: str, out: str | Path | None = None, what: str = "", policy: str = "") -> Exported:
    """Write completions, judgements, labels or rows to the file of another tool.

    Args:
        source: A result or run folder, a folder of built rows, a file of any format that ``perl-eval import`` reads, a
            data set's id on the hub, or records of one kind.
        to: The format: ``alpaca-eval``, ``chat``, ``mt-bench``, ``trl`` or another that ``perl-eval export --formats``
            lists.
        out: The file to write; for formats of several files the folder.
        what: ``completions``, ``judgements``, ``labels`` or ``rows``, where the source holds several.
        policy: The policy whose answers are written; all if empty.

    Returns:
        The file, and in ``told`` what was written and what the format cannot hold.

    Raises:
        UserError: There is no such format, or nothing that it can hold.
        DataError: A file is of no known format, or a row lacks what is needed.

    Example:
        >>> import perl_eval as pe
        >>> answers = pe.completions([{"prompt": "Name a prime.", "text": "7", "model": "ours"}])
        >>> written = pe.export(answers, to="chat")
        >>> print(written.file.read_text("utf-8"), end="")
        {"messages": [{"role": "user", "content": "Name a prime."}, {"role": "assistant", "content": "7"}]}
    """
    from perl_eval.exporting import layout_named, run, told

    keeper, layout = None, layout_named(to)
    if out is None:
        keeper = TemporaryFolder()
        out = keeper.path / f"export{layout.ending}"
    given = source.home if isinstance(source, Result) else source
    tally = run(given, Path(out), to=to, what=what, policy=policy)
    return Exported(Path(out), told(tally), keeper)
