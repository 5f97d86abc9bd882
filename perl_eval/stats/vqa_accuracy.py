"""The official VQA accuracy, with the quirks of its answer normalisation.

Source: the evaluation code published with VQA (GT-Vision-Lab, ``vqaEval.py``); Antol et al., arXiv 1505.00468.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perl_eval import figure_names as named
from perl_eval.records import About, Estimate
from perl_eval.stats.bootstrap import Clusters
from perl_eval.stats.intervals import about, mean

__all__ = ["normalise", "vqa_accuracies", "vqa_accuracy"]

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA = re.compile(r"\d,\d")
# Meant to keep the period of a number such as ".5" or "1.5": what it keeps is any period before a digit.
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS_REMOVED = 32
"""The official code passes the flag ``re.UNICODE`` where the number of replacements goes; its value is 32."""
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_ONCE = """
    ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's
    isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've
    shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd
    there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've
    when's where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all
    you'd you'll you're you've
"""
_TWICE = """
    couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll you'd've
"""
_CONTRACTIONS = {word.replace("'", ""): word for word in _ONCE.split()}
# A word with two apostrophes is known by the forms that lack the first or the last.
_CONTRACTIONS |= {word.replace("'", "", 1): word for word in _TWICE.split()}
_CONTRACTIONS |= {"".join(word.rsplit("'", 1)): word for word in _TWICE.split()}
# That "somebody'd" loses its apostrophe is the official table's.
_CONTRACTIONS |= {"ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "somebody'd": "somebodyd"}
_CONTRACTIONS |= {"yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've"}


def normalise(text: str) -> str:
    """Return an answer without punctuation, articles and upper case, digits for number words, apostrophes restored.

    A punctuation mark is removed if somewhere in the answer a space is next to it, or a comma stands between two
    digits; else a space takes its place.
    """
    shown = text
    grouped = _COMMA.search(text) is not None
    for mark in _PUNCTUATION:
        apart = f"{mark} " in text or f" {mark}" in text
        shown = shown.replace(mark, "" if apart or grouped else " ")
    shown = _PERIOD.sub("", shown, count=_PERIODS_REMOVED)
    words = [_NUMBERS.get(word, word) for word in shown.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """Score one answer: the mean, over leaving out each person in turn, of ``min(matches / 3, 1)``.

    With ten people this is 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3, 4 or more matches. Answers are normalised only if the
    people do not all agree, as in the official code.

    Args:
        answer: The answer to score.
        references: What people answered, ten in VQAv2.

    Returns:
        In [0, 1].
    """
    given, people = _clean(answer), [_clean(reference) for reference in references]
    if len(set(people)) > 1:
        given, people = normalise(given), [normalise(reference) for reference in people]
    n, matches = len(people), people.count(given)
    return (matches * min((matches - 1) / 3, 1) + (n - matches) * min(matches / 3, 1)) / n


def vqa_accuracies(
    scores: Sequence[float],
    question_types: Sequence[str],
    answer_types: Sequence[str],
    *,
    clusters: Clusters = None,
    level: float = 0.95,
) -> list[Estimate]:
    """Estimate the mean accuracy over all questions, and over each question type and answer type.

    Args:
        scores: From `vqa_accuracy`, one a question.
        question_types: Such as ``what color is the``.
        answer_types: ``yes/no``, ``number`` or ``other``.
        clusters: What shares a source: the image.
        level: Confidence level.

    Returns:
        The figure over all, then by type with the kind of type as slice and the type as its value.
    """
    found = [mean(named.VQA_ACCURACY, scores, clusters=clusters, bounds=(0.0, 1.0), level=level)]
    for kind, types in (("answer type", answer_types), ("question type", question_types)):
        for value in sorted(set(types)):
            rows = [row for row, given in enumerate(types) if given == value]
            groups = None if clusters is None else [clusters[row] for row in rows]
            part = mean(
                named.VQA_ACCURACY,
                [scores[row] for row in rows],
                clusters=groups,
                bounds=(0.0, 1.0),
                level=level,
            )
            found += about([part], About(slice=kind, value=value))
    return found
