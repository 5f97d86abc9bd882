"""The errors that datasets_builders raises.

The tree::

    BuilderError         the request cannot be served: one line (what, value, what to do)
    +-- DataError        an upstream file is not what it should be: names file, row and field
    +-- SourceError      an upstream file is missing, or its checksum is another
"""

from __future__ import annotations

__all__ = ["BuilderError", "DataError", "SourceError"]


class BuilderError(Exception):
    """A data set cannot be built as asked.

    Args:
        what: What is wrong, with the offending value.
        fix: What to do about it, as an imperative.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what, fix)
        self.what = what
        self.fix = fix

    def __str__(self) -> str:
        text = f"{self.what}; {self.fix}" if self.fix else self.what
        return " ".join(text.split())


class SourceError(BuilderError):
    """An upstream file is missing or is another file than the pinned one."""


class DataError(BuilderError):
    """An upstream file holds something it should not.

    Args:
        what: What is wrong.
        file: The file, as upstream names it or as it lies on disk.
        row: Zero-based row in that file, where one row is to blame.
        field: The key, where one is to blame.
        fix: What to do about it.
    """

    def __init__(self, what: str, file: str, row: int | None = None, field: str | None = None, fix: str = "") -> None:
        place = file
        if row is not None:
            place += f", row {row}"
        if field is not None:
            place += f", field {field!r}"
        super().__init__(f"{place}: {what}", fix)
        # The constructor is called with `args` when the error comes back from a worker process.
        self.args = (what, file, row, field, fix)
        self.detail = what
        self.file = file
        self.row = row
        self.field = field
