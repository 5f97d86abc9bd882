"""What the name of each figure means, in one line; every `Estimate` and `Measurement` has its name from here."""

from __future__ import annotations

from collections.abc import Mapping

from perl_eval import figure_names as named

__all__ = ["CONFORMANCE", "CURVES", "MEANINGS", "POSTERIOR", "curve_glossary"]

_COUNTS = {
    named.WINS: "pairs where a was preferred in both orders",
    named.LOSSES: "pairs where b was preferred in both orders",
    "splits": "pairs where each order preferred another answer",
    named.TIES: "pairs that the judge called a tie in both orders",
    "mixed": "pairs called a tie in one order only",
    "unjudged": "items without a verdict",
}
_RATES = {
    named.WIN_RATE: "wins over judged pairs",
    named.LOSS_RATE: "losses over judged pairs",
    named.UNDECIDED_RATE: "splits, ties and mixed over judged pairs",
    named.WIN_RATE_UNDECIDED_HALF: "wins and half the undecided over judged pairs",
    named.WIN_RATE_UNDECIDED_DROPPED: "wins over wins and losses",
    named.WIN_MINUS_LOSS: "win rate minus loss rate",
    named.WIN_AGAINST_LOSS_SIGN_TEST_P: "p-value that wins and losses are equally likely",
    "win rate, unjudged lost": "win rate if every unjudged pair had been lost",
    "win rate, unjudged won": "win rate if every unjudged pair had been won",
    "win rate, undecided half, unjudged lost": "the same with undecided half, unjudged lost",
    "win rate, undecided half, unjudged won": "the same with undecided half, unjudged won",
    named.WIN_RATE_FROM_PROBABILITIES: "mean probability that a is preferred, over both orders",
    named.WIN_RATE_AT_EQUAL_LENGTH: "win rate, undecided half, by a regression on the length ratio at ratio 1",
    named.WIN_RATE_ALPACAEVAL_LENGTH_CONTROL: "AlpacaEval's length-controlled win rate, without its difficulties",
    named.LONGER_PREFERRED_RATE: "share of decided pairs of different length that the longer answer won",
    named.WIN_RATE_UNDECIDED_HALF_ANYTIME: "the same with an interval that holds whenever one stops",
    named.YES_RATE: "yes over judged items",
    named.YES_RATE_ANYTIME: "the same with an interval that holds whenever one stops",
    named.MEAN_SCORE: "mean of the scores given on a scale",
    named.MEAN_SCORE_DIFFERENCE: "difference of two policies' mean scores on the same items",
    named.NO_RATE: "no over judged items",
    "yes rate, unjudged no": "yes rate if every unjudged item were a no",
    "yes rate, unjudged yes": "yes rate if every unjudged item were a yes",
    "no rate, unjudged no": "no rate if every unjudged item were a no",
    "no rate, unjudged yes": "no rate if every unjudged item were a yes",
    named.YES_RATE_FROM_PROBABILITIES: "mean probability of yes",
}
_POSITION = {
    named.FIRST_IN_BOTH_ORDERS: "pairs where both verdicts name the answer shown first",
    named.SECOND_IN_BOTH_ORDERS: "pairs where both verdicts name the answer shown second",
    named.POSITION_TEST_P: "p-value that the judge favours neither position",
    named.CONSISTENCY: "share of pairs that position did not decide: all but splits, mixed pairs too",
    named.POSITION_PREFERENCE: "share decided for the answer shown first minus share decided for the second",
    named.KAPPA_BETWEEN_ORDERS: "Cohen's kappa between the verdicts of the two orders",
    named.CONSISTENCY_BY_GAP: "consistency where the stronger of the two policies wins so often",
    named.CONSISTENCY_OF_A_COIN: "the same of a judge that tosses a coin of the policies' odds in each order",
}
_BEYOND_VERDICTS = {
    named.DATASET_P: "p-value that agreement on a data set equals that on the rest, adjusted for all of them (Holm)",
    named.LABEL_SETS_AGREEMENT: "share of units whose majority label is the same in both sets of labels",
    named.AGREEMENT_WITH_THESE: "share of the same units on which the judge agrees with the labels' majority",
    named.AGREEMENT_WITH_OTHERS: "the same with the majority of the other labels",
    named.OTHERS_LESS_THESE: (
        "the difference; far from 0 the disagreement comes from the instruction, not from the judge"
    ),
    named.CONSTANT_JUDGE: "share of labels that always saying the most frequent one would agree with",
    named.BASE_RATE_JUDGE: (
        "share of labels that drawing labels at random, as often as people give them, would agree with"
    ),
    named.PROBABLE_SIDE_ACCURACY: (
        "how often the side that the judge's mean probability favours is the one that people prefer"
    ),
    named.PROBABILITY_AUC: "AUC of the judge's mean probability against the side of people's majority",
    named.LOG_LOSS: "mean log loss of the judge's probability against people's mean label, in nats",
    named.NET_AGREEMENT: "share of pairs in which the verdicts lean to people's side minus share to the other side",
    named.LINEAR_KAPPA: "kappa over win, tie and loss, a tie half as far from either as they are apart",
    named.QUADRATIC_KAPPA: "the same, a tie a quarter as far",
    named.FIRST_PICKED: "share of verdicts for the answer shown first, ties half; 0.5 if position has no effect",
    named.ACCURACY_A_FIRST: "how often the verdict with a shown first is for people's side, ties half",
    named.ACCURACY_B_FIRST: "how often the verdict with b shown first is for people's side, ties half",
    named.STRICT_CONSISTENCY: "share of pairs with the same verdict in both orders, as papers usually report it",
}
_DECISIONS = {
    named.DIFFERENCE_BY_JUDGE: (
        "share preferred minus share not preferred, or the difference of two rates, by the judge"
    ),
    named.DIFFERENCE_CORRECTED: "the same as people would say, corrected by their labels of a part",
    named.DIFFERENCE_P: "p-value that there is no difference",
    named.DIFFERENCE_HOLM_P: "the same, adjusted for all comparisons (Holm)",
    named.DIFFERENCE_FDR_P: "the same, adjusted for all comparisons (Benjamini and Hochberg)",
    named.JUDGE_SENSITIVITY: "of a policy's answers that people found good, the share that the judge found good too",
    named.JUDGE_SPECIFICITY: (
        "of a policy's answers that people did not find good, the share that the judge did not either"
    ),
    named.JUDGE_J: "sensitivity plus specificity minus one: what the judge is worth on a policy",
    named.JUDGE_J_DIFFERENCE: "the judge's J on one policy minus that on the other; far from 0 it favours one of them",
    named.PLACE: "a policy's rank among all, 1 the best: the middle of its bounds, which hold for all policies at once",
    named.CHANCE_TO_BE_BEST: "share of draws, from the joint distribution of all differences, in which it is best",
    named.MORE_LABELS: "additional labels that would decide it",
    named.MORE_ITEMS: "additional items that would decide it, labelled in the same proportion",
}
_COMPARISONS = {
    named.WIN_RATE_DIFFERENCE: "difference of two policies' win rates on the same items",
    named.WIN_RATE_DIFFERENCE_UNDECIDED_HALF: "the same with undecided half",
    named.MCNEMAR_P: "p-value that two policies win equally often on the same items",
    named.STRENGTH: "log odds of beating an average policy, leaving ties aside",
    named.STRENGTH_FROM_PROBABILITIES: "the same, each pair counted as the judge's probability of a win",
    named.STRENGTH_AT_EQUAL_STYLE: "the same, if answers were equally long, with as many lists, headings and bold",
    named.STYLE_EFFECT: "what one standard deviation more of a style adds to an answer's log odds",
}
_REWARDS = {
    named.ACCURACY: "share of labels that the reward predicts",
    named.MAJORITY_SHARE: "accuracy of always guessing the commoner label",
    named.BALANCED_ACCURACY: "mean of the shares of yes and of no that are recognised",
    named.BALANCED_ACCURACY_AT_THE_BASE_RATE: (
        "the same, yes where the reward is above the log odds of the training labels"
    ),
    named.AUC: "probability that a yes has a higher reward than a no",
    named.AVERAGE_PRECISION: "area under the precision-recall steps",
    named.CALIBRATION_ERROR: "mean gap of predicted and observed shares over bins of the prediction",
    named.BRIER_SCORE: "mean squared error of the predicted probability",
    named.OBSERVED_SHARE: "share of yes (for pairs: of a preferred) in one bin of the prediction",
    named.PAIR_ACCURACY: "share of pairs where the preferred answer has the higher reward, equal rewards half",
    named.PAIR_TIES: "pairs with equal rewards",
    named.PEARSON_R: "linear correlation of two scores",
    named.SPEARMAN_RHO: "correlation of the ranks of two scores",
    named.KENDALL_TAU_B: "pairs of items in the same order minus those in opposite order, without ties",
    named.WITHIN_CONTEXT_PAIR_ACCURACY: (
        "probability that of two answers to one prompt the liked one has the higher reward"
    ),
}
_DIVERSITY = {
    named.UNIQUE_SHARE: "different completions over all completions, for each prompt",
    named.MODE_SHARE: "share of the commonest completion of a prompt",
    named.ENTROPY: "entropy of the completions of a prompt, in nats",
    named.SELF_BLEU: "BLEU-4 of a completion against the others of its prompt",
    "distinct-1": "different words over all, of a prompt",
    "distinct-2": "different pairs of words over all, of a prompt",
    "distinct-3": "different triples of words over all, of a prompt",
    named.REPETITION: "share of a completion's 4-grams that occur earlier in it",
    named.UNIQUE_SHARE_ALL_PROMPTS: "different completions over all",
    "distinct-1, all prompts": "different words over all",
    "distinct-2, all prompts": "different pairs of words over all",
    "distinct-3, all prompts": "different triples of words over all",
}
_AGREEMENT = {
    named.EXACT_AGREEMENT: "share of pairs of raters with equal labels",
    "exact agreement, ties dropped": "the same without pairs that have a tie",
    "exact agreement, ties half": "the same, a tie against another label counting half",
    named.COHEN_KAPPA: "agreement beyond chance, chance from each rater's own labels, pooled over pairs of raters",
    named.FLEISS_KAPPA: "agreement beyond chance, chance from all raters' labels",
    named.KRIPPENDORFF_ALPHA: "agreement beyond chance; raters may be missing",
    named.GWET_AC1: "agreement beyond chance that holds where one label dominates",
}
_SIDES = {"human-human": "people among themselves", "human-judge": "the judge against people"}
_AGREE = {
    named.UNITS_COMPARED: "units with a verdict and a label",
    named.LABELLED_UNITS_UNJUDGED: "labelled units without a verdict",
    named.JUDGED_UNITS_UNLABELLED: "units with a verdict and no label",
    named.LABELS_COMPARED: "labels of the units compared",
    named.LABELS_OF_UNITS_NOT_JUDGED: "labels of pairs or answers that this judge did not judge",
    named.LABELS_OVERRIDDEN: "labels replaced by a later one of the same person and unit",
    "people": "people who labelled the units compared",
    **{name: text for name, text in _AGREEMENT.items() if ", ties" not in name},
    "Krippendorff alpha, ordinal": "agreement beyond chance where order counts",
    "Krippendorff alpha, interval": "agreement beyond chance where distance counts",
    **{f"{side} {name}": f"{who}: {text}" for side, who in _SIDES.items() for name, text in _AGREEMENT.items()},
    named.HUMAN_JUDGE_EXACT_AGREEMENT_MAJORITY: "share of units where the judge says what most people say",
    named.HUMAN_JUDGE_COHEN_KAPPA_MAJORITY: "kappa of the judge and the majority of people",
    named.HUMAN_JUDGE_EXACT_AGREEMENT_WEIGHTED_TO_ALL_UNITS: "the same, estimated for all judged units",
    named.HUMAN_HUMAN_EXACT_AGREEMENT_TWO_PEOPLE: "share of units where two people say the same",
    named.HUMAN_JUDGE_EXACT_AGREEMENT_ONE_PERSON: "share of units where the judge says what one person says",
    named.HUMAN_JUDGE_AUC_MAJORITY: "chance that the judge gives a majority yes a higher probability than a no",
    named.HUMAN_CEILING: "share of units where a person says what most of the others say",
    named.JUDGE_AT_THE_CEILINGS_TASK: "share of units where the judge says what most of the same others say",
    named.JUDGE_MINUS_HUMAN_CEILING: "the previous figure minus the one before it, paired",
    named.HUMAN_JUDGE_PEARSON_R: "linear correlation of the judge's score with the mean of people's",
    named.HUMAN_JUDGE_SPEARMAN_RHO: "rank correlation of the judge's score with the mean of people's",
    "human-judge Kendall tau-b": "the same by pairs of units, without ties",
    named.ALT_TEST_ADVANTAGE_ONE_PERSON: "chance that the judge agrees with the others at least as well as this person",
    named.ALT_TEST_P_ONE_PERSON: "p-value that the judge falls short of this person by the margin",
    named.ALT_TEST_BEATEN_ONE_PERSON: "1 if it does not, after correction for several people",
    named.ALT_TEST_WINNING_RATE: "share of people that the judge may stand in for; passes at one half",
    named.ALT_TEST_ADVANTAGE: "chance that the judge agrees with the others at least as well as a person does",
    named.ALT_TEST_WINNING_RATE_BALANCED: "the winning rate with each label counting alike, however rare",
    named.ALT_TEST_ADVANTAGE_BALANCED: "the advantage with each label counting alike, however rare",
    named.ALT_TEST_WINNING_RATE_CONSTANT: "what always saying the commonest label, or the mean score, would get",
    named.ALT_TEST_WINNING_RATE_BASE_RATES: "what drawing labels at random by their shares would get",
    named.ALT_TEST_PASSES: (
        "1 if the judge may stand in for people; unknown where a judge that ignores the answers would pass"
    ),
    named.JUDGE_JUDGE_EXACT_AGREEMENT: "share of units where a cheap and a strong judge say the same",
    named.JUDGE_JUDGE_COHEN_KAPPA: "kappa of a cheap and a strong judge",
    "win rate, corrected by PPI++": "win rate corrected by trusted labels of a part",
    "win rate, undecided half, corrected by PPI++": "the same with undecided half",
    "win rate, corrected by Rogan-Gladen": "win rate corrected for the judge's error rates",
    "loss rate, corrected by Rogan-Gladen": "loss rate corrected for the judge's error rates",
    "yes rate, corrected by PPI++": "yes rate corrected by trusted labels of a part",
    "yes rate, corrected by Rogan-Gladen": "yes rate corrected for the judge's error rates",
    "no rate, corrected by PPI++": "no rate corrected by trusted labels of a part",
    "no rate, corrected by Rogan-Gladen": "no rate corrected for the judge's error rates",
}
_AUDIT = {
    named.SAME_OUTCOME_WHEN_ASKED_AGAIN: "share of units with the same outcome, or score, when asked anew",
    named.LONGER_PREFERRED_RATE_JUDGE: "longer preferred rate of the judge",
    named.LONGER_PREFERRED_RATE_PEOPLE: "longer preferred rate of people on the labelled pairs",
    named.SELF_PREFERENCE: "how much more the judge prefers its own family than people do",
    named.ATTACK_SUCCESS_RATE: "share of attacked answers for which the attack succeeded",
    named.CHANGES_WITHOUT_ATTACK: "the same share when the judge was only asked again",
    named.ATTACK_SUCCESS_BEYOND_OWN_CHANGES: (
        "success rate minus changes without attack: the effect of the attack itself"
    ),
    named.SHARE_OF_PEOPLES_LABELS: "how common a label is, over all labels of people",
    named.UNJUDGED_RATE: "share of units without a verdict",
    named.TOKENS_A_JUDGEMENT: "tokens in and out of one judgement, all its calls",
    named.SECONDS_A_JUDGEMENT: "time waited for one judgement, all its calls",
    named.COST_A_JUDGEMENT_USD: "price of one judgement, all its calls",
    named.FLIP_RATE: "share of anchors, or of what two runs judged, whose outcome, or score, changed",
    named.LATER_LESS_EARLIER: (
        "mean value of the later run's outcomes (win 1, undecided 1/2) or scores minus that of the earlier one's"
    ),
    named.OWN_FLIP_RATE: "share of outcomes that change when the earlier judge is asked the same once more",
    named.FLIPS_BEYOND_CHANCE: "flip rate minus the judge's own",
    named.LEFT_OUT_OF_EARLIER: "units of the earlier of two runs that have no verdict in both",
    named.LEFT_OUT_OF_LATER: "units of the later of two runs that have no verdict in both",
    named.DRIFT_P: "p-value that no more has changed than when the audit asked twice",
    named.DRIFT_ALARM: "1 if more changed than that explains; unknown where the audit asked nothing twice",
    named.DRIFT_DETECTABLE_FLIP_RATE: "smallest share of changes that would give an alarm in 80 % of cases",
}
_PLAN = {
    named.DECIDED_SHARE: "share of pairs that one side wins, as the plan assumes",
    named.DIFFERENCE: "win rate minus loss rate that the plan assumes",
    named.DESIGN_EFFECT: "variance for items in groups over that for independent ones",
    named.COST_A_CALL_USD: "price of one call to the judge",
    named.CORRELATION_WITH_PEOPLE: "linear correlation of the judge's score with the mean of people's",
    "pairs": "pairs to judge",
    named.CALLS: "calls to the judge, all orders",
    named.COST_USD: "price of the calls",
    "labels": "pairs that people must label for a corrected rate",
    named.HALF_WIDTH: "half-width of the interval of the win rate, undecided half",
    named.DETECTABLE_DIFFERENCE: "smallest win rate minus loss rate that is found with the wanted power",
    named.OBSERVED_RATE: "a rate observed elsewhere, with the interval that its number of items allows",
}
_TASKS = {
    named.VQA_ACCURACY: "the official VQA metric",
    named.VQA_ACCURACY_DIFFERENCE: "difference of two policies' VQA accuracy on the same questions",
    named.ACTION_STEP_MATCH_DIFFERENCE: "difference of two policies' shares of right steps",
    named.JUDGE_RULE_EXACT_AGREEMENT: "share of steps where judge and rule say the same",
    named.JUDGE_RULE_COHEN_KAPPA: "kappa of judge and rule",
    named.ACTION_TYPE_MATCH: "share of steps with the right type of action",
    named.ACTION_STEP_MATCH: "share of right steps under the rule named",
}
MEANINGS: Mapping[str, str] = {
    **_COUNTS,
    **_RATES,
    **_POSITION,
    **_COMPARISONS,
    **_BEYOND_VERDICTS,
    **_DECISIONS,
    **_REWARDS,
    **_DIVERSITY,
    **_AGREE,
    **_AUDIT,
    **_PLAN,
    **_TASKS,
}
"""Figure to meaning, of every verb but `posterior`."""
POSTERIOR: Mapping[str, str] = {
    named.LOG_Z: "log of the target's normaliser, mean over prompts, from draws of the prior",
    named.LOG_Z_FROM_THIS_POLICYS_DRAWS: "the same from draws of this policy: close to log Z if both cover the target",
    named.LOG_Z_FROM_THIS_SAMPLER: "mean of the sampler's own estimates; below log Z in expectation",
    named.LOG_Z_FROM_ABOVE: "from exact draws of the target: above log Z in expectation",
    named.EFFECTIVE_SAMPLE_SIZE: "how many draws of the prior for each prompt the importance weights are worth",
    named.KL_TARGET_PRIOR: "KL from the target to the prior, in nats for each prompt",
    "reward": "mean of the reward that the target is made of, in standard deviations of the prior",
    named.TRUE_REWARD: "mean of the known reward, in [0, 1]",
    named.REWARD_BEST_AT_2: "mean of the best reward of two answers to a prompt, unbiased for any number of draws",
    named.REWARD_BEST_AT_4: "the same of four answers",
    named.TRUE_REWARD_BEST_AT_2: "the same of the known reward; pass@2 where that is 0 or 1",
    named.TRUE_REWARD_BEST_AT_4: "the same of four answers; pass@4 where the known reward is 0 or 1",
    named.KL_METHOD_PRIOR: "KL from the method's answers to the prior, in nats for each prompt",
    named.KL_METHOD_TARGET: "KL from the method's answers to the target, in nats for each prompt: 0 once it is reached",
    named.KL_TARGET_METHOD: (
        "KL from the target to the method, in nats for each prompt: large where it misses likely answers"
    ),
    named.J: "mean reward minus beta times the KL to the prior, which the target maximises",
    named.GAP_BETA_LOG_Z_J: "how far J is below its maximum, in reward units: beta times the KL to the target",
    named.KL_BOUND: "the most that the KL of best-of-n to the prior can be",
    named.TOTAL_VARIATION_TO_TARGET: "total variation distance of the kept draws from the target",
    named.ACCEPTANCE_EXPECTED: "share of draws that should be kept, judged by the pool of draws",
    named.ACCEPTANCE_SEEN: "share of draws that were kept",
    named.DRAWS_ABOVE_THE_BOUND: "draws whose weight exceeded the bound; if there are any, the answers are not exact",
    named.TOKENS_DRAWN_AN_ANSWER: "tokens sampled for each answer given, of kept and discarded draws",
    named.ANSWERS_SCORED_AN_ANSWER: "whole answers that the reward was asked about, for each answer given",
    named.TOKENS_DRAWN_IN_TRAINING: "tokens sampled while the policy was trained",
    named.ENTROPY: "mean of minus the answer's log-probability under the method, or the target, in nats",
    named.TARGET_MODE: "probability of the likeliest answer under the target, of those that the prior gave",
    named.ENTROPY_OF_THE_DRAWS: "entropy of the few texts drawn for a prompt, at most the log of their number, in nats",
    named.PERPLEXITY_UNDER_THE_PRIOR: "exp of the prior's mean negative log-probability of a token",
}
"""Figure to meaning; of `posterior`; those of diversity are in `MEANINGS`."""
CONFORMANCE: Mapping[str, str] = {
    named.GRADIENT_BIAS: "largest coordinate of expected minus exact gradient, reward units per logit",
    named.GRADIENT_BIAS_OLD: "the same on samples of the policy before so many updates",
    named.GRADIENT_LEFT: "what is left of the bias after the best positive scale, relative to the exact gradient",
    named.GRADIENT_SCALE: "positive number that brings the expected gradient nearest to the exact one",
    named.GRADIENT_COSINE: "cosine of expected and exact gradient",
    named.GRADIENT_VARIANCE: "variance of one batch's gradient, summed over coordinates",
    named.PADDING_CHANGE: "largest change of the expected gradient where batches are padded to the token limit",
    named.MISSING_END_CHANGE: "largest change of the expected gradient where truncated completions are called ended",
}
"""Figure to meaning; of `conformance`, whose ends of training have the names of `POSTERIOR`."""
_GRADIENT = "norm of the gradient before it is clipped"
_NATS = "nats"
CURVES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "train sft": {
        "loss": (_NATS, "mean negative log-probability of a completion token of the step"),
        named.GRADIENT_NORM: ("", _GRADIENT),
        named.VALIDATION_LOSS: (_NATS, "the same on all validation rows; the weights with the lowest are kept"),
    },
    "train reward": {
        "loss": (_NATS, "mean negative log-probability of a label (pointwise) or of a preference (pairwise)"),
        named.ACCURACY: (
            "share",
            "labels on the right side of 0 (pointwise), pairs with the chosen answer above (pairwise)",
        ),
        named.GRADIENT_NORM: ("", _GRADIENT),
        named.VALIDATION_LOSS: (_NATS, "the loss on all validation rows; the weights with the lowest are kept"),
        named.VALIDATION_ACCURACY: ("share", "the accuracy on all validation rows"),
    },
    "train dpo": {
        "loss": ("", "mean loss of a pair, or of a rated answer; of `sigmoid` in nats, log 2 at the first step"),
        named.ACCURACY: (
            "share",
            "pairs whose chosen answer has the larger implicit reward; of ratings, answers on the right side of the KL",
        ),
        named.IMPLICIT_REWARD_CHOSEN: (
            "reward",
            "mean of beta (log pi - log prior) of chosen or liked answers; below 0 they have become less likely",
        ),
        named.IMPLICIT_REWARD_REJECTED: ("reward", "the same of the others"),
        named.KL_ESTIMATE: (_NATS, "mean log pi - log prior of answers to other prompts, 0 at least; of `kto` only"),
        named.GRADIENT_NORM: ("", _GRADIENT),
        named.VALIDATION_LOSS: ("", "the loss on all validation rows; the weights with the lowest are kept"),
        named.VALIDATION_ACCURACY: ("share", "the accuracy on all validation rows"),
    },
    "train policy": {
        "reward": ("reward", "mean score of a sample; samples that never ended count with the missing-end reward"),
        named.REWARD_SPREAD: ("reward", "standard deviation of the scores"),
        named.WATCHED_REWARD: (
            "reward",
            "the same by the reward models that watch and do not reward, their mean; for alarms",
        ),
        named.WATCHED_ERROR: ("reward", "standard error of it, of this step's samples"),
        named.KL_TO_PRIOR: (
            _NATS,
            "mean over samples of the summed log pi - log prior (k1); 0 at the first step, exactly except for full "
            "tuning in bf16",
        ),
        named.KL_A_TOKEN: (_NATS, "the same divided by the tokens sampled"),
        named.KL_FULL: (
            _NATS,
            "with full_kl: mean over samples of the summed KL of the whole softmax at each token; the same mean as k1, "
            "less variance",
        ),
        named.ENTROPY: (_NATS, "mean over samples of the summed -log pi at the sampling temperature"),
        named.CLIPPED: (
            "share",
            "of `grpo`: tokens whose ratio is out of range on the side to which its advantage pulls",
        ),
        named.ENGINE_WEIGHT: (
            "",
            "of samples by a server: mean importance weight of a token; near 1 if server and trainer agree",
        ),
        named.POLICY_LOSS: ("", "the surrogate of the policy gradient; only its gradient has a meaning"),
        named.KL_LOSS: (
            "",
            "the surrogate of the KL as a loss term, where it is one; only its gradient has a meaning",
        ),
        named.VALUE_LOSS: ("reward²", "mean squared error of the value of a token"),
        named.EXPLAINED_VARIANCE: ("share", "1 - variance of the values' errors / variance of the returns"),
        "length": ("tokens", "mean sample, the end token included"),
        named.NEVER_ENDED: ("share", "samples cut off by the token limit"),
        named.GAP_AT_LEAST: (
            "reward",
            "lower bound of beta log Z - J from a prompt's own samples, where beta is above 0 and group above 1",
        ),
        named.EFFECTIVE_SAMPLES: (
            "samples",
            "effective sample size a prompt of the importance weights behind the gap",
        ),
        named.DISTINCT_SAMPLES: ("share", "distinct token sequences among the samples"),
        named.GRADIENT_NORM: ("", f"{_GRADIENT}; of `grpo`, which has no value function"),
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
