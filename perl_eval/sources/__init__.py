"""What people bring to records: completions, rows, labels and judgements of any tool, and the verb `import`."""

from __future__ import annotations

from perl_eval.sources.imported import FORMS, Form, run, take_completions, told_import
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels
from perl_eval.sources.tool_judgements import read_judgements

__all__ = [
    "FORMS",
    "Form",
    "LabelColumns",
    "read_judgements",
    "read_labels",
    "read_outcomes",
    "run",
    "take_completions",
    "told_import",
]
