"""What people bring to records: completions, rows, labels and judgements of any tool, and the verb `import`."""

from __future__ import annotations

from perl_eval.sources.brought import told
from perl_eval.sources.imported import FORMS, Form, read_judgements, run, take, take_completions, take_judgements
from perl_eval.sources.judgements import read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels

__all__ = [
    "FORMS",
    "Form",
    "LabelColumns",
    "read_judgements",
    "read_labels",
    "read_outcomes",
    "run",
    "take",
    "take_completions",
    "take_judgements",
    "told",
]
