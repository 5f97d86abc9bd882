"""What a figure is about: fields for programs, and the sentence that they make for people."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["About"]


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a figure is about, in fields; the sentence is made of them, and nothing reads a sentence.

    A field is filled where it is needed to tell the figures of one run apart; "" and None say nothing.

    Attributes:
        scope: What it is one part of: a size of an ablation, ``jury``.
        label: What kind of thing ``policy`` is, where others stand beside it.
        metric: What was measured of the policy, such as the name of a reward.
        policy: Whose figure it is: a policy, a sampler, an arm of an ablation, a reward model.
        minus: Whose figure is taken from the policy's.
        against: Whom the policy, or both, were compared with.
        truth: What a reward was held against: ``people`` or ``labels``.
        judge: Who judged.
        other_judge: The second of two judges that are compared.
        question: The kind of question, where one judge was asked several.
        dataset: The data set, where there are several.
        template: Name of the judge's prompt.
        prompt_sha256: Of the judge's prompt, where there are several; the sentence has its first eight digits.
        by_judge: The judge whose verdicts correct the other's.
        person: An annotator.
        other_person: The second of two annotators.
        rater: A rater of a table.
        other_rater: The second of two raters.
        split: The split of the data.
        slice: The part of the data, the attack, the control or the case that is told.
        value: Which value of ``slice``, where that names a column.
        at: The number at which ``slice`` was taken, such as a beta.
        unit: Unit of ``at``, where it is counted.
        bin: Number of a bin, from 0; None for no bin.
        bin_low: Lower edge of the bin.
        bin_high: Upper edge of the bin.
        bin_mean: Mean of what is in the bin.
        text: The sentence of a file from before there were fields.
    """

    scope: str = ""
    label: str = ""
    metric: str = ""
    policy: str = ""
    minus: str = ""
    against: str = ""
    truth: str = ""
    judge: str = ""
    other_judge: str = ""
    question: str = ""
    dataset: str = ""
    template: str = ""
    prompt_sha256: str = ""
    by_judge: str = ""
    person: str = ""
    other_person: str = ""
    rater: str = ""
    other_rater: str = ""
    split: str = ""
    slice: str = ""
    value: str = ""
    at: float | None = None
    unit: str = ""
    bin: int | None = None
    bin_low: float | None = None
    bin_high: float | None = None
    bin_mean: float | None = None
    text: str = ""

    def __repr__(self) -> str:
        """Return what is set, as Python."""
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return f"About({', '.join(f'{name}={value!r}' for name, value in given if value not in ('', None))})"

    @property
    def sentence(self) -> str:
        """The fields as people read them."""
        head, facing = self.who, self.facing
        if facing and self.minus:
            head += ", both"
        return ", ".join(part for part in (f"{head} {facing}".strip(), *self._rest()) if part)

    @property
    def who(self) -> str:
        """The begin of the sentence: whose figure it is."""
        named = " ".join(part for part in (self.label, self.policy) if part)
        named = " of ".join(part for part in (self.metric, named) if part)
        named = " minus ".join(part for part in (named, self.minus) if part)
        return ", ".join(part for part in (self.scope, named) if part)

    @property
    def facing(self) -> str:
        """Whom or what it was held against, as the sentence says it."""
        other = self.against or self.truth
        return f"against {other}" if other else ""

    def _rest(self) -> list[str]:
        judges = f"{self.judge} and {self.other_judge}" if self.other_judge else _named("judge", self.judge)
        at = "" if self.at is None else f"{self.at:g}"
        edges = (self.bin_low, self.bin_high, self.bin_mean)
        return [
            judges,
            self.question,
            _named("data", self.dataset),
            _named("prompt", self.template or self.prompt_sha256[:8]),
            _named("by judge", self.by_judge),
            _named("person", self.person),
            _named("person", self.other_person),
            f"{self.rater} with {self.other_rater}" if self.rater else "",
            self.split,
            " ".join(part for part in (self.slice, self.value, at, self.unit) if part),
            "predicted {:g} to {:g}, mean {:.3f}".format(*edges) if None not in edges else "",
            self.text,
        ]

    def merged(self, other: About) -> About:
        """Return the fields of both.

        Raises:
            ValueError: Both fill a field, and differ.
        """
        known = {}
        for part in fields(self):
            one, two = getattr(self, part.name), getattr(other, part.name)
            if one != part.default and two not in (part.default, one):
                raise ValueError(f"the figure is about {part.name} {one!r}, not {two!r}")
            known[part.name] = two if one == part.default else one
        return About(**known)

    def covers(self, other: About) -> bool:
        """Return whether a figure of the same policies, held against the same, says no less what it is about."""
        if self == About():
            return other == self
        return self.who_fields == other.who_fields and all(
            getattr(self, part.name) in (part.default, getattr(other, part.name)) for part in fields(self)
        )

    @property
    def who_fields(self) -> tuple[str, ...]:
        """What two figures must share to be of the same thing."""
        return (self.scope, self.label, self.metric, self.policy, self.minus, self.against, self.truth, self.text)


def _named(word: str, name: str) -> str:
    return f"{word} {name}" if name else ""
