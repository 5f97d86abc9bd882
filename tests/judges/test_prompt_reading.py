"""Prompts read in parts: where the parts end, and that a model which cannot go on from one reads whole prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tiny_models
import torch

from perl_eval.judges.backends.prompt_reading import PromptReader, ReadPrompt, parts_of


def prompt(ids: Sequence[int], **inputs: torch.Tensor) -> ReadPrompt:
    return ReadPrompt(torch.tensor(ids), inputs)


@pytest.mark.parametrize(("count", "ends"), [(1, [1]), (4, [4]), (5, [4, 5]), (8, [4, 8]), (11, [4, 8, 11])])
def test_parts_end_at_fixed_places(count: int, ends: list[int]) -> None:
    assert parts_of(prompt(range(count)), 4) == ends


def test_the_first_part_holds_all_pictures() -> None:
    pixels = torch.zeros(1, 3, 2, 2)
    assert parts_of(prompt([9, 1, 1, 1, 1, 9, 1, 1, 1, 1], pixels=pixels), 4, picture_token=9) == [8, 10]
    assert parts_of(prompt([9, 1, 1, 1, 1, 1, 1, 1, 1, 1], pixels=pixels), 4, picture_token=9) == [4, 8, 10]
    assert parts_of(prompt(range(10), pixels=pixels), 4) == [10]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_models.decided(tiny_models.tokenizer_of_a_judge())


def test_logits_are_those_of_the_whole_prompt_and_equal_prompts_are_read_once(model: Any) -> None:
    ids = [[3, 4, 5, 6, 7, 8, 9], [3, 4, 5, 6, 7, 8, 11, 12], [3, 4, 5], [3, 4, 5, 6, 7, 8, 9]]
    reader = PromptReader(model, 3)
    found = list(reader.logits([prompt(one) for one in ids]))
    for one, logits in zip(ids, found, strict=True):
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor([one])).logits[0, -1]
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)
    assert found[3] is found[0]


def test_what_earlier_prompts_left_behind_changes_no_bit(model: Any) -> None:
    random = torch.Generator().manual_seed(1)
    begin = torch.randint(300, (10,), generator=random).tolist()
    many = [
        begin[: place % 11] + torch.randint(300, (1 + place % 7,), generator=random).tolist() for place in range(40)
    ]
    reader = PromptReader(model, 4)
    together = list(reader.logits([prompt(one) for one in many]))
    for one, logits in zip(many, together, strict=True):
        (alone,) = reader.logits([prompt(one)])
        assert torch.equal(alone, logits)


class Forgetful(torch.nn.Module):
    """A model that forgets what it read when it goes on with more than one token."""

    def __init__(self, model: Any, error: type[Exception] | None) -> None:
        super().__init__()
        self.inner, self.config, self.device, self.error = model, model.config, model.device, error
        self.sizes: list[int] = []

    def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, cache: Any = None, **named: Any) -> Any:
        self.sizes.append(input_ids.shape[1])
        del named["attention_mask"]
        if (cache is not None or past_key_values is not None) and self.error is not None:
            raise self.error("one token at a time")
        return self.inner(input_ids=input_ids, **named)


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_model_that_cannot_go_on_reads_whole_prompts(model: Any, error: type[Exception] | None) -> None:
    forgetful = Forgetful(model, error)
    ids = list(range(3, 23))
    (found,) = PromptReader(forgetful, 4).logits([prompt(ids)])
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert forgetful.sizes[-1] == 20
