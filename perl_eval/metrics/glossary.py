"""What the name of each figure means, in one line; every `Estimate` and `Measurement` has its name from here."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CURVES", "MEANINGS", "POSTERIOR", "curve_glossary"]

_COUNTS = {
    "wins": "pairs where a was preferred in both orders",
    "losses": "pairs where b was preferred in both orders",
    "splits": "pairs where each order preferred another answer",
    "ties": "pairs that the judge called a tie in both orders",
    "mixed": "pairs called a tie in one order only",
    "unjudged": "items without a verdict",
}
_RATES = {
    "win rate": "wins over judged pairs",
    "loss rate": "losses over judged pairs",
    "undecided rate": "splits, ties and mixed over judged pairs",
    "win rate, undecided half": "wins and half the undecided over judged pairs",
    "win rate, undecided dropped": "wins over wins and losses",
    "win minus loss": "win rate less loss rate",
    "win against loss, sign test p": "p-value that wins and losses are equally likely",
    "win rate, unjudged lost": "win rate if every unjudged pair had been lost",
    "win rate, unjudged won": "win rate if every unjudged pair had been won",
    "win rate, undecided half, unjudged lost": "the same with undecided half, unjudged lost",
    "win rate, undecided half, unjudged won": "the same with undecided half, unjudged won",
    "win rate, from probabilities": "mean probability that a is preferred, over both orders",
    "win rate at equal length": "win rate that a regression on the length ratio reads at ratio 1",
    "win rate, AlpacaEval length control": "AlpacaEval's length-controlled win rate, without its difficulties",
    "longer preferred rate": "share of decided pairs of different length that the longer answer won",
    "win rate, undecided half, anytime": "the same with an interval that holds however it was decided when to stop",
    "yes rate": "yes over judged items",
    "yes rate, anytime": "the same with an interval that holds however it was decided when to stop",
    "mean score": "mean of the scores given on a scale",
    "mean score difference": "difference of two policies' mean scores on the same items",
    "mean score difference, bootstrap": "the same with a bootstrap interval",
    "no rate": "no over judged items",
    "yes rate, unjudged no": "yes rate if every unjudged item were a no",
    "yes rate, unjudged yes": "yes rate if every unjudged item were a yes",
    "no rate, unjudged no": "no rate if every unjudged item were a no",
    "no rate, unjudged yes": "no rate if every unjudged item were a yes",
    "yes rate, from probabilities": "mean probability of yes",
}
_POSITION = {
    "first in both orders": "pairs where both verdicts name the answer shown first",
    "second in both orders": "pairs where both verdicts name the answer shown second",
    "position test p": "p-value that the judge favours neither position",
    "consistency": "share of pairs that position did not decide",
    "position preference": "share decided for the first less share decided for the second",
    "kappa between orders": "Cohen's kappa between the verdicts of the two orders",
}
_COMPARISONS = {
    "win rate difference": "difference of two policies' win rates on the same items",
    "win rate difference, bootstrap": "the same with a bootstrap interval",
    "win rate difference, undecided half": "the same with undecided half",
    "win rate difference, undecided half, bootstrap": "the same with undecided half and a bootstrap interval",
    "McNemar p": "p-value that two policies win equally often on the same items",
    "strength": "log odds of beating an average policy, ties aside",
}
_REWARDS = {
    "accuracy": "share of labels that the reward predicts",
    "majority share": "accuracy of always guessing the commoner label",
    "balanced accuracy": "mean of the shares of yes and of no that are found",
    "balanced accuracy at the base rate": "the same, yes where the reward is above the log odds of the training labels",
    "AUC": "chance that a yes has a higher reward than a no",
    "average precision": "area under the precision-recall steps",
    "calibration error": "mean gap of predicted and observed shares over bins of the prediction",
    "Brier score": "mean squared error of the predicted probability",
    "observed share": "share of yes in one bin of the prediction",
    "pair accuracy": "share of pairs where the preferred answer has the higher reward, equal rewards half",
    "pair ties": "pairs with equal rewards",
    "Pearson r": "linear correlation of two scores",
    "Spearman rho": "correlation of the ranks of two scores",
    "Kendall tau-b": "pairs of items in the same order less those in opposite order, ties taken out",
    "within-context pair accuracy": "chance that of two answers to one prompt the one liked has the higher reward",
}
_DIVERSITY = {
    "unique share": "different completions over all, of a prompt",
    "mode share": "share of the commonest completion of a prompt",
    "entropy": "entropy of the completions of a prompt, in nats",
    "self-BLEU": "BLEU-4 of a completion against the others of its prompt",
    "distinct-1": "different words over all, of a prompt",
    "distinct-2": "different pairs of words over all, of a prompt",
    "distinct-3": "different triples of words over all, of a prompt",
    "repetition": "share of 4-grams of a completion that it had before",
    "unique share, all prompts": "different completions over all",
    "distinct-1, all prompts": "different words over all",
    "distinct-2, all prompts": "different pairs of words over all",
    "distinct-3, all prompts": "different triples of words over all",
}
_AGREEMENT = {
    "exact agreement": "share of pairs of raters with equal labels",
    "exact agreement, ties dropped": "the same without pairs that have a tie",
    "exact agreement, ties half": "the same, a tie against another label counting half",
    "Cohen kappa": "agreement beyond chance, chance from each rater's own labels, pooled over pairs of raters",
    "Fleiss kappa": "agreement beyond chance, chance from all raters' labels",
    "Krippendorff alpha": "agreement beyond chance, any raters missing",
    "Gwet AC1": "agreement beyond chance that holds where one label dominates",
}
_SIDES = {"human-human": "people among themselves", "human-judge": "the judge against people"}
_AGREE = {
    "units compared": "units with a verdict and a label",
    "labelled units unjudged": "labelled units without a verdict",
    "judged units unlabelled": "units with a verdict and no label",
    "labels compared": "labels of the units compared",
    "labels overridden": "labels replaced by a later one of the same person and unit",
    "people": "people who labelled the units compared",
    **{name: text for name, text in _AGREEMENT.items() if ", ties" not in name},
    "Krippendorff alpha, ordinal": "agreement beyond chance where order counts",
    "Krippendorff alpha, interval": "agreement beyond chance where distance counts",
    **{f"{side} {name}": f"{who}: {text}" for side, who in _SIDES.items() for name, text in _AGREEMENT.items()},
    "human-judge exact agreement, majority": "share of units where the judge says what most people say",
    "human-judge Cohen kappa, majority": "kappa of the judge and the majority of people",
    "human-judge exact agreement, weighted to all units": "the same, were every judged unit labelled",
    "human-human exact agreement, two people": "share of units where two people say the same",
    "human-judge exact agreement, one person": "share of units where the judge says what one person says",
    "human-judge AUC, majority": "chance that the judge gives a majority yes a higher probability than a no",
    "human ceiling": "share of units where a person says what most of the others say",
    "judge at the ceiling's task": "share of units where the judge says what most of the same others say",
    "judge minus human ceiling": "the last less the one before, paired",
    "human-judge Pearson r": "linear correlation of the judge's score with the mean of people's",
    "human-judge Spearman rho": "rank correlation of the judge's score with the mean of people's",
    "human-judge Kendall tau-b": "the same by pairs of units, ties taken out",
    "alt-test advantage, one person": "chance that the judge agrees with the others at least as well as this person",
    "alt-test p, one person": "p-value that the judge falls short of this person by the margin",
    "alt-test beaten, one person": "1 if it does not, after correction for several people",
    "alt-test winning rate": "share of people that the judge may stand in for; passes at one half",
    "alt-test advantage": "chance that the judge agrees with the others at least as well as a person does",
    "judge-judge exact agreement": "share of units where a cheap and a strong judge say the same",
    "judge-judge Cohen kappa": "kappa of a cheap and a strong judge",
    "win rate, corrected by PPI++": "win rate corrected by trusted labels of a part",
    "win rate, undecided half, corrected by PPI++": "the same with undecided half",
    "win rate, corrected by Rogan-Gladen": "win rate with the judge's errors undone",
    "loss rate, corrected by Rogan-Gladen": "loss rate with the judge's errors undone",
    "yes rate, corrected by PPI++": "yes rate corrected by trusted labels of a part",
    "yes rate, corrected by Rogan-Gladen": "yes rate with the judge's errors undone",
    "no rate, corrected by PPI++": "no rate corrected by trusted labels of a part",
    "no rate, corrected by Rogan-Gladen": "no rate with the judge's errors undone",
}
_AUDIT = {
    "same outcome when asked again": "share of units with the same outcome, or score, when asked anew",
    "longer preferred rate, judge": "longer preferred rate of the judge",
    "longer preferred rate, people": "longer preferred rate of people on the labelled pairs",
    "self-preference": "what the judge gives its own family beyond what people give it",
    "attack success rate": "share of attacked answers that got what they wanted of the judge",
    "share of people's labels": "how common a label is, over all labels of people",
    "unjudged rate": "share of units without a verdict",
    "tokens a judgement": "tokens in and out of one judgement, all its calls",
    "seconds a judgement": "time waited for one judgement, all its calls",
    "cost a judgement, USD": "price of one judgement, all its calls",
    "flip rate": "share of anchors whose outcome, or score, changed",
    "drift p": "p-value that no more changed than the audit leaves to chance",
    "drift alarm": "1 if more changed than chance explains",
}
_PLAN = {
    "decided share": "share of pairs that one side wins, as the plan takes it",
    "difference": "win rate less loss rate, as the plan takes it",
    "design effect": "variance for items in groups over that for independent ones",
    "cost a call, USD": "price of one call to the judge",
    "correlation with people": "linear correlation of the judge's score with the mean of people's",
    "pairs": "pairs to judge",
    "calls": "calls to the judge, all orders",
    "cost, USD": "price of the calls",
    "labels": "pairs that people must label for a corrected rate",
    "half-width": "half-width of the interval of the win rate, undecided half",
    "detectable difference": "least win rate less loss rate that is found with the wanted power",
    "observed rate": "a rate observed elsewhere, with the interval that its number of items allows",
}
_TASKS = {
    "VQA accuracy": "the official VQA metric",
    "VQA accuracy difference": "difference of two policies' VQA accuracy on the same questions",
    "VQA accuracy difference, bootstrap": "the same with a bootstrap interval",
    "action step match difference": "difference of two policies' shares of right steps",
    "action step match difference, bootstrap": "the same with a bootstrap interval",
    "judge-rule exact agreement": "share of steps where judge and rule say the same",
    "judge-rule Cohen kappa": "kappa of judge and rule",
    "action type match": "share of steps with the right type of action",
    "action step match": "share of right steps under the rule named",
}
MEANINGS: Mapping[str, str] = {
    **_COUNTS,
    **_RATES,
    **_POSITION,
    **_COMPARISONS,
    **_REWARDS,
    **_DIVERSITY,
    **_AGREE,
    **_AUDIT,
    **_PLAN,
    **_TASKS,
}
"""Figure to meaning, of every verb but `posterior`."""
POSTERIOR: Mapping[str, str] = {
    "log Z": "log of the target's normaliser, mean over prompts, from draws of the prior",
    "log Z, from this policy's draws": "the same from draws of this policy: agreement says that both see the target",
    "log Z, from this sampler": "mean of the sampler's own estimates; below log Z in expectation",
    "log Z, from above": "from exact draws of the target: above log Z in expectation",
    "effective sample size": "draws of the prior a prompt that the importance weights are worth",
    "KL(target || prior)": "nats a prompt that the target is away from the prior",
    "reward": "mean of the reward that the target is made of, in standard deviations of the prior",
    "true reward": "mean of the known reward, in [0, 1]",
    "KL(method || prior)": "nats a prompt from the method's answers to the prior",
    "KL(method || target)": "nats a prompt from the method's answers to the target: 0 once it is reached",
    "KL(target || method)": "nats a prompt from the target to the method: large where it misses what the target says",
    "J": "mean reward less beta times the KL to the prior, which the target maximises",
    "gap beta log Z - J": "how far J is below its maximum, in reward units: beta times the KL to the target",
    "KL bound log n - (n - 1) / n": "the most that the KL of best-of-n to the prior can be",
    "total variation to target": "total variation distance of the kept draws from the target",
    "acceptance, expected": "share of draws that the pool says are kept",
    "acceptance, seen": "share of draws that were kept",
    "draws above the bound": "draws whose weight exceeded the bound; any, and the answers are not exact",
    "tokens drawn an answer": "tokens sampled for each answer given, of kept and discarded draws",
    "answers scored an answer": "whole answers that the reward was asked about, for each answer given",
    "tokens drawn in training": "tokens sampled while the policy was trained",
    "entropy": "mean of minus the answer's log-probability under the method, in nats",
    "entropy of the draws": "entropy of the few texts drawn a prompt, at most the log of their number, in nats",
    "perplexity under the prior": "exp of the prior's mean surprise a token",
}
"""Figure to meaning; of `posterior`; those of diversity are in `MEANINGS`."""
_GRADIENT = "norm of the gradient before it is clipped"
_NATS = "nats"
CURVES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "train sft": {
        "loss": (_NATS, "mean negative log-probability of a completion token of the step"),
        "gradient norm": ("", _GRADIENT),
        "validation loss": (_NATS, "the same on all validation rows; the weights with the lowest are kept"),
    },
    "train reward": {
        "loss": (_NATS, "mean negative log-probability of a label (pointwise) or of a preference (pairwise)"),
        "accuracy": (
            "share",
            "labels on the right side of 0 (pointwise), pairs with the chosen answer above (pairwise)",
        ),
        "gradient norm": ("", _GRADIENT),
        "validation loss": (_NATS, "the loss on all validation rows; the weights with the lowest are kept"),
        "validation accuracy": ("share", "the accuracy on all validation rows"),
    },
    "train policy": {
        "reward": ("reward", "mean score of a sample; samples that never ended count with the missing-end reward"),
        "reward spread": ("reward", "standard deviation of the scores"),
        "KL to prior": (
            _NATS,
            "mean over samples of the summed log pi - log prior (k1); 0 at the first step, to the bit but for full "
            "tuning in bf16",
        ),
        "KL a token": (_NATS, "the same divided by the tokens sampled"),
        "entropy": (_NATS, "mean over samples of the summed -log pi at the sampling temperature"),
        "policy loss": ("", "the REINFORCE surrogate; only its gradient means something"),
        "KL loss": ("", "the surrogate of the KL as a loss term, where it is one; only its gradient means something"),
        "value loss": ("reward²", "mean squared error of the value of a token"),
        "explained variance": ("share", "1 - variance of what the values miss / variance of the returns"),
        "length": ("tokens", "mean sample, the end token included"),
        "never ended": ("share", "samples cut off by the token limit"),
        "gap, at least": (
            "reward",
            "lower bound of beta log Z - J from a prompt's own samples, where beta is above 0 and group above 1",
        ),
        "effective samples": ("samples", "effective sample size a prompt of the importance weights behind the gap"),
        "distinct samples": ("share", "distinct token sequences among the samples"),
        "policy gradient norm": ("", _GRADIENT),
        "value gradient norm": ("", _GRADIENT),
    },
}
"""Metric to unit and meaning, by verb."""


def curve_glossary(verb: str) -> str:
    """Return the metrics of a verb as a Markdown table."""
    lines = ["| metric | unit | meaning |", "|---|---|---|"]
    lines += [f"| {name} | {unit} | {meaning} |" for name, (unit, meaning) in CURVES[verb].items()]
    return "\n".join(lines)
