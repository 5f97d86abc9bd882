"""What the name of each figure means, in one line; every `Estimate` that a verb writes has its name from here."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["MEANINGS"]

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
    "yes rate": "yes over judged items",
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
    "AUC": "chance that a yes has a higher reward than a no",
    "average precision": "area under the precision-recall steps",
    "calibration error": "mean gap of predicted and observed shares over bins of the prediction",
    "Brier score": "mean squared error of the predicted probability",
    "observed share": "share of yes in one bin of the prediction",
    "pair accuracy": "share of pairs where the preferred answer has the higher reward, equal rewards half",
    "pair ties": "pairs with equal rewards",
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
    **{f"{side} {name}": f"{who}: {text}" for side, who in _SIDES.items() for name, text in _AGREEMENT.items()},
    "human-judge exact agreement, majority": "share of units where the judge says what most people say",
    "human-judge Cohen kappa, majority": "kappa of the judge and the majority of people",
    "human-judge exact agreement, one person": "share of units where the judge says what one person says",
    "human-judge AUC, majority": "chance that the judge gives a majority yes a higher probability than a no",
    "human ceiling": "share of units where a person says what most of the others say",
    "judge at the ceiling's task": "share of units where the judge says what most of the same others say",
    "judge minus human ceiling": "the last less the one before, paired",
    "alt-test winning rate": "share of people that the judge may stand in for; passes at one half",
    "alt-test advantage": "chance that the judge agrees with the others at least as well as a person does",
    "win rate, undecided half, corrected by PPI++": "win rate corrected by people's labels of a part",
    "win rate, undecided half, corrected by Rogan-Gladen": "win rate with the judge's errors undone",
    "yes rate, corrected by PPI++": "yes rate corrected by people's labels of a part",
    "yes rate, corrected by Rogan-Gladen": "yes rate with the judge's errors undone",
}
_AUDIT = {
    "same outcome when asked again": "share of pairs with the same outcome when asked anew",
    "longer preferred rate, judge": "longer preferred rate of the judge",
    "longer preferred rate, people": "longer preferred rate of people on the labelled pairs",
    "self-preference": "what the judge gives its own family beyond what people give it",
    "unjudged rate": "share of pairs without a verdict",
    "tokens a judgement": "tokens in and out of one judgement, all its calls",
    "seconds a judgement": "time waited for one judgement, all its calls",
    "cost a judgement, USD": "price of one judgement, all its calls",
    "flip rate": "share of anchor pairs whose outcome changed",
    "drift p": "p-value that no more changed than the audit leaves to chance",
    "drift alarm": "1 if more changed than chance explains",
}
_TASKS = {
    "VQA accuracy": "the official VQA metric",
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
    **_TASKS,
}
