"""Options by the names that they had: for one version they still work, with a notice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perl_eval.cli.console import say

__all__ = ["OLD_NAMES", "renamed"]

OLD_NAMES: Mapping[tuple[str, str], str] = {
    ("score", "--ties"): "--pair-ties",
}
"""By verb and old name, the name now. `import --form` stays an option: it takes names that --format has not."""


def renamed(words: Sequence[str]) -> list[str]:
    """Return the words of a command with options by their present names; each old name is told of on standard error.

    Args:
        words: What was typed after ``perl-eval``.
    """
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        now = next((OLD_NAMES[key] for n in (1, 2) if (key := (" ".join(words[:n]), name)) in OLD_NAMES), None)
        if now is not None:
            say(f"{name} is now called {now}; the old name will be removed in the next version", err=True)
        found.append(word if now is None else f"{now}{equals}{value}")
    return found
