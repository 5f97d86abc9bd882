"""Prompts read once: the same states and gradients as sequence by sequence, by fewer tokens; and where it is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SIZE, stir

from perl_eval.models.adapters import ATTENTION, LoraShape
from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.device import Placement
from perl_eval.models.generate import Sampling, generate
from perl_eval.models.shared_prefix import can_share, obeys_masks, shared
from perl_eval.models.tokenize import Encoded, PaddedBatch, pad

LONG = (3, 20, 21, 22, 23, 24, 25, 26)
WORDS = st.lists(st.integers(4, 60), min_size=1, max_size=6)


def sequence(prompt: Sequence[int], said: Sequence[int]) -> Encoded:
    return Encoded((*prompt, *said), (False,) * len(prompt) + (True,) * len(said))


@pytest.fixture(scope="module")
def stirred(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Return a backbone with an adapter that changes what it says, in float64: only its norms round to float32."""
    from tiny_models import save_blank

    made = open_backbone(save_blank(tmp_path_factory.mktemp("sharing") / "blank"), Placement("cpu"))
    made.attach("policy", LoraShape(4, targets=ATTENTION), seed=0)
    stir(made, "policy")
    made.causal.double()
    return made


def test_a_row_is_a_prompt_and_its_continuations() -> None:
    """Written out by hand: prompt 7 8, which goes on with 9, and with 5 6."""
    batch = pad([sequence((7, 8), (9,)), sequence((7, 8), (5, 6))], pad_id=0)
    found = shared(batch)
    assert found is not None
    assert found.ids.tolist() == [[7, 8, 9, 5, 6]]
    assert found.positions.tolist() == [[0, 1, 2, 2, 3]]
    assert found.sees[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    assert found.places[0, :3].tolist() == [0, 1, 2]
    assert found.places[1].tolist() == [0, 1, 3, 4]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), WORDS), min_size=2, max_size=8))
def test_states_are_those_of_each_sequence_alone(stirred: Backbone, drawn: list[tuple[int, list[int]]]) -> None:
    rows = [sequence((*LONG, *range(30, 30 + kind)), said) for kind, said in drawn]
    together = shared(pad(rows, pad_id=0))
    with torch.no_grad(), stirred.adapter("policy"):
        found = stirred.hidden(pad(rows, pad_id=0))
        for index, row in enumerate(rows):
            alone = stirred.hidden(pad([row], pad_id=0))[0]
            assert torch.allclose(found[index, : len(row.ids)], alone, rtol=1e-6, atol=1e-6)
    if len({kind for kind, _ in drawn}) == 1:  # one prompt of 8 tokens or more, and at most 6 after it
        assert together is not None
    if together is not None:
        assert together.ids.numel() <= 0.9 * len(rows) * max(len(row.ids) for row in rows)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_sequences_apart(blank: Path, checkpointing: bool) -> None:
    rows = [sequence(LONG, (40, 41, 1)), sequence(LONG, (42, 1)), sequence((*LONG, 9), (43, 44, 45, 1))]
    weights = torch.randn(3, 13, SIZE.width, generator=torch.Generator().manual_seed(0))
    found = []
    for shares in (True, False):
        backbone = open_backbone(blank, Placement("cpu", checkpointing=checkpointing))
        backbone.attach("policy", LoraShape(4), seed=0)
        stir(backbone, "policy")
        backbone.causal.double()
        backbone.train_only("policy")
        assert backbone.shares
        backbone.shares = shares
        batch = pad(rows, pad_id=0)
        with backbone.adapter("policy"):
            (backbone.hidden(batch) * weights * batch.live.unsqueeze(-1)).sum().backward()  # type: ignore[no-untyped-call]
        found.append({name: one.grad for name, one in backbone.parameters_of("policy").items()})
    for name, wanted in found[1].items():
        assert wanted is not None
        assert found[0][name] is not None
        assert torch.allclose(found[0][name], wanted, rtol=1e-5, atol=1e-6 * float(wanted.abs().max())), name


def tokens_read(backbone: Backbone, work: Any) -> list[int]:
    """Return how many tokens, padding counted, each pass through the model was given."""
    seen = []
    handle = backbone.causal.get_input_embeddings().register_forward_hook(
        lambda _, given, __: seen.append(given[0].numel())
    )
    try:
        work()
    finally:
        handle.remove()
    return seen


def test_a_shared_prompt_is_read_once(blank: Path) -> None:
    backbone = open_backbone(blank)
    assert backbone.shares
    pair = [sequence(LONG, (40, 1)), sequence(LONG, (42, 1))]
    assert tokens_read(backbone, lambda: backbone.hidden(pad(pair, pad_id=0))) == [8 + 2 + 2]
    apart = [sequence(LONG, (40, 1)), sequence((9, *LONG), (42,))]
    assert tokens_read(backbone, lambda: backbone.hidden(pad(apart, pad_id=0))) == [2 * 10]


def test_a_prompt_sampled_twice_is_read_once(blank: Path) -> None:
    backbone = open_backbone(blank)
    prompts, seeds, sampling = [LONG, LONG[:3], LONG], [5, 6, 7], Sampling(max_new_tokens=4)
    single = [generate(backbone, [prompt], [seed], sampling)[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert tokens_read(backbone, lambda: generate(backbone, prompts, seeds, sampling))[0] == 2 * 8
    assert generate(backbone, prompts, seeds, sampling) == single


def ignoring(ids: torch.Tensor, _: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A recurrence, which takes tokens as they come."""
    return torch.stack([ids.cumsum(1), positions], -1).float()


def unplaced(ids: torch.Tensor, sees: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Attention that counts its own positions."""
    if sees.dim() == 2:
        sees = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()[None, None]
    place = torch.arange(ids.shape[1]).float()
    return (sees[:, 0].float() @ ids.float().unsqueeze(-1)) + place[None, :, None]


@pytest.mark.parametrize("states", [ignoring, unplaced])
def test_a_model_with_ways_of_its_own_is_noticed(states: Any) -> None:
    assert not obeys_masks(states)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_attn_implementation": "sdpa"}, True),
        ({"_attn_implementation": "sdpa", "layer_types": ["full_attention"] * 2, "sliding_window": None}, True),
        ({"_attn_implementation": "flash_attention_2"}, False),
        ({"_attn_implementation": "sdpa", "sliding_window": 4096}, False),
        ({"_attn_implementation": "sdpa", "layer_types": ["full_attention", "linear_attention"]}, False),
        ({"_attn_implementation": "sdpa", "attention_chunk_size": 8192}, False),
    ],
)
def test_only_plain_attention_shares(config: dict[str, Any], expected: bool) -> None:
    """What sees a window of its own passes the short probe, and would be wrong on long rows."""
    assert can_share(SimpleNamespace(**config)) is expected


def test_a_batch_padded_on_the_left_is_not_shared() -> None:
    rows = [sequence(LONG, (40, 41)), sequence(LONG, (42,))]
    assert shared(pad(rows, pad_id=0)) is not None
    assert shared(pad(rows, pad_id=0, left=True)) is None


def test_what_spares_too_little_is_not_shared() -> None:
    """A family of two beside six singles: every row would be as long as the family's."""
    rows = [sequence((3,), range(4, 12)) for _ in range(2)] + [sequence((2, one), range(4, 12)) for one in range(6)]
    batch = pad(rows, pad_id=0)
    assert isinstance(batch, PaddedBatch)
    assert shared(batch) is None


def test_a_packed_row_is_several_sequences_that_do_not_see_each_other() -> None:
    """Written out by hand: 7 8 9, and in the room beside the shorter ones 5 6 and 4."""
    batch = pad([sequence((5,), (6,)), sequence((7, 8), (9,)), sequence((4,), ())], pad_id=0)
    found = shared(batch, pack=True)
    assert found is not None
    assert found.ids.tolist() == [[7, 8, 9], [5, 6, 4]]
    assert found.positions.tolist() == [[0, 1, 2], [0, 1, 0]]
    assert found.sees[1, 0].int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert [found.places[0, :2].tolist(), found.places[1].tolist(), found.places[2, :1].tolist()] == [
        [3, 4],
        [0, 1, 2],
        [5],
    ]
    assert shared(batch) is None  # nothing is in common


@pytest.fixture(scope="module")
def packing(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    from tiny_models import save_blank

    made = open_backbone(save_blank(tmp_path_factory.mktemp("packing") / "blank"), Placement("cpu", packing=True))
    made.attach("policy", LoraShape(4, targets=ATTENTION), seed=0)
    stir(made, "policy")
    made.causal.double()
    return made


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(4, 60), min_size=2, max_size=30), min_size=2, max_size=9))
def test_packed_states_are_those_of_each_sequence_alone(packing: Backbone, drawn: list[list[int]]) -> None:
    rows = [sequence(ids[:1], ids[1:]) for ids in drawn]
    together = shared(pad(rows, pad_id=0), pack=True)
    with torch.no_grad(), packing.adapter("policy"):
        found = packing.hidden(pad(rows, pad_id=0))
        for index, row in enumerate(rows):
            alone = packing.hidden(pad([row], pad_id=0))[0]
            assert torch.allclose(found[index, : len(row.ids)], alone, rtol=1e-6, atol=1e-6)
    if together is not None:
        assert together.ids.numel() <= 0.9 * len(rows) * max(len(row.ids) for row in rows)


def test_another_neighbour_changes_nothing_and_gradients_stay_in_their_row(packing: Backbone) -> None:
    """What shares the row is exchanged; and the gradient of one sequence reaches no embedding of its neighbour."""
    long, short = sequence((3,), tuple(range(10, 30))), sequence((4,), (31, 32, 33))
    neighbours = [sequence((5,), (40, 41, 42)), sequence((6,), (50, 51, 52, 53))]
    states = []
    for neighbour in neighbours:
        rows = [long, short, neighbour]
        packed = shared(pad(rows, pad_id=0), pack=True)
        assert packed is not None
        assert len(packed.ids) == 2
        with torch.no_grad(), packing.adapter("policy"):
            states.append(packing.hidden(pad(rows, pad_id=0))[1, : len(short.ids)])
    assert torch.equal(*states)
    packing.train_only(None)
    with packing.adapter("policy"):
        packing.hidden(pad([long, short, neighbours[0]], pad_id=0))[1, : len(short.ids)].square().sum().backward()
    reached = packing.causal.get_input_embeddings().weight.grad.abs().sum(1).nonzero().flatten().tolist()
    packing.train_only()
    assert set(reached) == set(short.ids)
