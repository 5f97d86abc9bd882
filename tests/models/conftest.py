"""The tiny models that this room shares; one thread, so that figures are the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.models.backbone import Backbone, open_backbone

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder of random weights."""
    return tiny_models.save_blank(tmp_path_factory.mktemp("models") / "blank")


@pytest.fixture
def backbone(blank: Path) -> Backbone:
    """Return a fresh backbone."""
    return open_backbone(blank)
