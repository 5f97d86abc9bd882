"""Where to read more about an error: the page that its line ends with, by the kind of error and by the verb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets_builders.errors import BuilderError
from perl_eval import errors
from perl_eval.cli.doc_pages import command_for
from perl_eval.cli.examples import EXAMPLES

__all__ = ["NOT_DECIDED", "PAGE_OF_KIND", "PAGE_OF_VERB", "page_of"]

_HELP, _VERB = "help", "verb"
_RUNS, _PROVIDERS = "docs/judging.md#prompts-and-runs", "docs/judging.md#providers"

PAGE_OF_KIND: Mapping[type[Exception], str] = {
    errors.OptionError: _HELP,
    errors.DataError: "docs/formats.md",
    errors.UserError: _VERB,
    errors.Unfinished: _RUNS,
    errors.RateLimited: _PROVIDERS,
    errors.TimedOut: _PROVIDERS,
    errors.OutOfCredit: _PROVIDERS,
    errors.TurnedAway: _PROVIDERS,
    errors.Refused: _PROVIDERS,
    errors.JudgeError: _PROVIDERS,
    errors.PerlEvalError: _VERB,
    BuilderError: "docs/data-sets.md",
}
"""The page of each kind of error, the nearest class deciding; ``help`` and ``verb`` are those of the verb."""

PAGE_OF_VERB: Mapping[str, str] = {
    "build": "docs/data-sets.md",
    "train": "docs/training.md",
    "ablate": "docs/training.md#lora-or-full",
    "sample": "docs/training.md#models-from-elsewhere",
    "recorded": "docs/formats.md",
    "judge": "docs/judging.md",
    "jury": "docs/judging.md#juries",
    "verify": _RUNS,
    "ledger": _RUNS,
    "score": "docs/scoring.md",
    "agree": "docs/labelling.md#labels-from-elsewhere",
    "decide": "docs/scoring.md#which-policy-is-better",
    "doctor": "docs/scoring.md#what-can-these-files-tell",
    "audit": "docs/scoring.md#a-judge-on-rows-that-people-judged",
    "power": "docs/scoring.md#how-sure-50-samples-are",
    "plan": "docs/cluster.md#what-it-takes",
    "import": "docs/formats.md",
    "annotate": "docs/labelling.md",
    "export": "docs/formats.md#out-again",
    "posterior": "docs/posterior.md",
    "conformance": "docs/conformance.md",
    "report": "docs/report.md",
    "demo": "docs/demo.md",
    "docs": "docs/index.md",
}
"""The page of each verb, by the first word of what is typed."""

NOT_DECIDED = "docs/concepts/correction.md"
"""What to read where nothing could be decided."""


def page_of(error: Exception, words: Sequence[str]) -> str:
    """Return the command that shows more, a page of the documentation or help; "" if there is nothing to read.

    Args:
        error: What was raised.
        words: What was typed after ``perl-eval``.
    """
    page = _page_of(error, words)
    return command_for(page) if ".md" in page else page


def _page_of(error: Exception, words: Sequence[str]) -> str:
    """Return the same as a path in the repository, where it is a page."""
    given = getattr(error, "page", None)
    if given is not None:
        return str(given)
    verb = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in EXAMPLES), "")
    kind = next((PAGE_OF_KIND[one] for one in type(error).__mro__ if one in PAGE_OF_KIND), _HELP)
    if kind == _HELP:
        return f"perl-eval {verb} --help" if verb else "perl-eval --help"
    return PAGE_OF_VERB.get(words[0] if words else "", "") if kind == _VERB else kind
