"""What column somebody may mean: proposed where its words say so and no other's do, never by its place."""

from __future__ import annotations

import pytest

from perl_eval.sources.column_names import column_like, columns_typed


@pytest.mark.parametrize(
    ("field", "columns", "found"),
    [
        ("prompt", "ticket_id user_question bot_reply latency_ms", "user_question"),
        ("text", "ticket_id user_question bot_reply latency_ms", "bot_reply"),
        ("prompt", "caseId userQuery", "userQuery"),
        ("prompt", "promt anwser", "promt"),
        ("text", "promt anwser", "anwser"),
        ("label", "ticket_id user_question rater verdict", "verdict"),
        ("label", "prompt policy_a policy_b Aiko Esra", ""),
        ("label", "item voter", ""),  # who voted is no vote
        ("prompt", "ticket_id rater", ""),
        ("prompt", "prompt_id input_tokens system_prompt", ""),  # about a prompt, or another one
        ("text", "expected_answer answer_length response_model", ""),
        ("text", "response_a response_b", ""),  # either
        ("text", "question_and_answer", ""),  # both in one
        ("text", "generator", ""),
        ("verdict", "item winner", "winner"),
    ],
)
def test_a_column_is_proposed_by_its_words_or_none_is(field: str, columns: str, found: str) -> None:
    assert column_like(field, columns.split()) == found


def test_what_to_type_names_every_field() -> None:
    typed = columns_typed(["prompt", "text"], ["the question", "n"])
    assert typed == "--column prompt='the question' --column text=NAME"
