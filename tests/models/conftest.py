"""The tiny models that this room shares; one thread, so that figures are the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.models.tokenize import Encoded, PaddedBatch, pad

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of random weights."""
    return tiny_models.save_blank(tmp_path_factory.mktemp("models") / "blank")


@pytest.fixture
def backbone(blank: Path) -> Backbone:
    """Return a fresh backbone."""
    return open_backbone(blank)


@pytest.fixture
def batch() -> PaddedBatch:
    """Return two rows of unlike length, nothing of them trained."""
    return pad([Encoded((3, 20, 21, 1), (False,) * 4), Encoded((3, 40, 41, 42, 43, 1), (False,) * 6)], pad_id=0)
