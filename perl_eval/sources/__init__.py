"""The verb `import`: label files and judgement files of other tools to HumanLabel and Judgement records."""

from __future__ import annotations

from perl_eval.sources.imported import FORMS, Form, run
from perl_eval.sources.judgements import read_judgements, read_outcomes
from perl_eval.sources.labels import LabelColumns, read_labels

__all__ = ["FORMS", "Form", "LabelColumns", "read_judgements", "read_labels", "read_outcomes", "run"]
