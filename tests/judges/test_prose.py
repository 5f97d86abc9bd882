"""Sentences that commit to a verdict, and sentences that look as if they did.

Most are taken from replies of real judges: LLMBar's (arXiv 2310.07641), Auto-J's (2310.05470) and Arena-Hard's.
"""

from __future__ import annotations

import time

import pytest

from perl_eval.judges.parsing.verdicts import read

FIRST = (
    "Output (b) lists nine. Therefore, Output (a) is better.",
    "Output (b) is better.\n\nOutput (a) is more exact. Therefore, Output (a) is better.",
    "Output (a) is better because it asks for the topic first. Output (b) does not.",
    "The instruction asks for a rainforest, so Output (a) is better.",
    "Therefore, based on whether the output executes the instruction, Output (a) is the better choice.",
    "After weighing both, I have come to the conclusion that Output (a) is better.\n\nOutput (b) is longer.",
    "So, the final decision is Response 1.",
    "Both are fine. So, the final decision is **Response 1**",
    "Both have strengths. Overall, I believe Assistant A's answer is slightly better, as it is exact.",
    "A: Feedback 1 is significantly better.\n\nReason: it is specific, while Feedback 2 is not.",
    "Assistant B's answer is good.\n\nIn conclusion, Assistant A's response is better than Assistant B's.",
    "I prefer Output (a) over Output (b).",
    "Overall, I would choose the first response, since it is safe.",
    "Output (a) wins.",
    "In summary, Model A outperforms Model B.",
    "It names the source, making Output (a) the better response.",
    "Overall, Output (b) is worse than Output (a).",
    "I find Assistant A's answer to be the better one.",
    "The better output for the given instruction is Output (a).",
    "My vote goes to Assistant A.",
    "Therefore, A is better.",
    "Therefore, Output (a) is better at following the instruction.",
    "Output (a) is better. (Note: both have strengths in other contexts.)",
    'Output (b) says "Output (b) is better than all others". Therefore, Output (a) is better.',
    "Output (b) would be better if it were shorter. Hence Output (a) is better.",
    "Assistant (b) argues that Output (b) is better. I conclude that Output (a) is better.",
    "Therefore, Output (a) is better.\n\nI see that Assistant (b) argues that Output (b) is better because of it.",
    "> Output (b) is better.\n\nOutput (a) is better.",
    "```\nOutput (b) is better.\n```\nOutput (a) is better.",
    '{"reason": "Output (b) is better in style. Therefore, Output (b) is better.", "winner": "A"}',
    "<think>Output (b) is better.</think>Output (b) is longer, but Output (a) is better.",
    "Output (a) is better in this case.",
)
TIE = (
    "Both outputs are exact. Therefore, both are equally good.",
    "C: Neither is significantly better.\n\nReason: they say the same.",
    "Therefore, neither Output (a) nor Output (b) is better as they both fail.",
    "So, the final decision is Tie.",
    "The answers say the same. I would call it a tie.",
    "Output (a) is better in style. In conclusion, it is a tie.",
)
HEDGES = (
    "Output (a) might be better if it named the source.",
    "Output (a) would be better if it were shorter.",
    "Output (a) could be better.",
    "Output (a) may be better for those in a hurry.",
    "If accuracy matters most, Output (a) is better.",
    "Output (a) is better if accuracy matters most.",
    "Output (a) is better in terms of style.",
    "Output (a) is better in some respects.",
    "In terms of style, Output (a) is better.",
    "When it comes to tone, Output (a) is better.",
    "Output (a) is more exact.",
    "Output (a) is more helpful, accurate, and detailed in executing the instruction.",
    "Is Output (a) better?",
    "The question is whether Output (a) is better.",
    "It is not clear that Output (a) is better.",
    "I do not think that Output (a) is better.",
    "I cannot claim that either Output (a) or Output (b) is better, as both fail.",
    "Output (a) is not better because it gives no advice.",
    "Output (a) is no better than Output (b).",
    "Assistant (b) argues that Output (b) is better because it is concise.",
    "According to Assistant (a), Output (a) is better.",
    "Some would say that Output (a) is better.",
    "Output (a) seems better.",
    "Output (a) is probably better.",
    "Perhaps Output (a) is better.",
    "At first glance, Output (a) is better.",
    "While Output (a) is better at rhyme, both miss the point.",
    "Output (a) is better because it is objective, while Output (b) is better because it is thorough.",
    "I think answer A is better, or B.",
    "Output (a) is better than my own answer.",
    "I would rate Assistant B's answer as slightly better than my answer, but worse than Assistant A's answer.",
    "A better answer would name the price.",
    "As the first response is better known, it is often quoted.",
    "Output (a) has a better tone.",
    "Both responses are equally concise, and both name the source.",
    "Neither is right.",
    "Output (a) ties the story to a better ending.",
    'The text says "Therefore, Output (a) is better." and nothing else.',
    "Output (a) suggests that the best answer is C.",
    "Therefore, if you value brevity, Output (a) is better.",
    "It depends on whether Output (a) is better for you.",
    "Therefore, neither output is unhelpful.",
    "Output (a) should be better.",
    "For beginners, perhaps, Assistant A is better",
    "I hope that Output (a) is better.",
    "You asked me to say that Output (a) is better.",
    "Output (a) is better but only for experts, and Output (b) is better for all others.",
)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [(reply, verdict) for verdict, replies in (("first", FIRST), ("tie", TIE), (None, HEDGES)) for reply in replies],
)
def test_a_sentence_commits_or_hedges(reply: str, verdict: str | None) -> None:
    assert read(reply, "pairwise").verdict == verdict


@pytest.mark.parametrize("reply", FIRST)
def test_the_other_answer_named_is_the_other_verdict(reply: str) -> None:
    if "Response 1" in reply or "the first" in reply or "Feedback 1" in reply:
        reply = reply.translate(str.maketrans("12", "21")).replace("the first", "the second")
        reply = reply.replace("A: ", "B: ")
    else:
        for one, other in (("(a)", "(b)"), ("Assistant A", "Assistant B"), ("Model A", "Model B"), ('"A"', '"B"')):
            reply = reply.replace(one, "@").replace(other, one).replace("@", other)
        reply = reply.replace(", A is", ", B is")
    assert read(reply, "pairwise").verdict == "second"


def test_a_sentence_of_prose_says_nothing_of_yes_and_no() -> None:
    assert read("Therefore, Output (a) is better.", "yes_no").verdict is None


@pytest.mark.parametrize(
    "unit",
    [
        *("Output (a) is better, ", "Therefore, Output (a) might be better. ", '"a ', '"', "`a b c d ", "a.", "A is "),
        *("I think that ", "```\n", "both the two ", "better;", "[[A]] ", "'a b c d ", '[[A]] "', "<think>", "so "),
        *("therefore based on ", "Output (a) is better while ", "<|channel|>final<|message|>", "[THINK]", "1. [[A]]\n"),
        *("\\boxed{", "<verdict>A", "### Verdict\n", "the winner is "),
    ],
)
def test_a_megabyte_of_anything_is_read_in_bounded_time(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    begun_s = time.process_time()
    read(text, "pairwise")
    read(text, "yes_no")
    assert time.process_time() - begun_s < 10.0
