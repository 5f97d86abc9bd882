"""The verb `import`: label files and judgement files of other tools to HumanLabel and Judgement records."""

from __future__ import annotations

from perl_eval.foreign.judgements import read_judgements, read_outcomes
from perl_eval.foreign.labels import Columns, read_labels
from perl_eval.foreign.verb import FORMS, Form, run

__all__ = ["FORMS", "Columns", "Form", "read_judgements", "read_labels", "read_outcomes", "run"]
