"""The tiny models that this room shares; one thread, so that figures are the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch

from perl_eval.models.backbone import Backbone, open_backbone
from perl_eval.training import sft

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="session")
def blank(room: Path) -> Path:
    """Return a model folder of random weights."""
    return tiny_models.save_blank(room / "blank")


@pytest.fixture(scope="session")
def demonstrations(room: Path) -> Path:
    return tiny_models.write_rows(
        room / "demonstrations",
        train=tiny_models.demonstrations(1, 400),
        validation=tiny_models.demonstrations(2, 60),
    )


@pytest.fixture(scope="session")
def prior(room: Path, blank: Path, demonstrations: Path) -> Path:
    """Return a model that answers with one to three colours and then stops."""
    options = sft.SftOptions(model=str(blank), epochs=6, batch=16, learning_rate=1e-2, max_tokens=32)
    return sft.run(demonstrations, room / "prior", options=options)


@pytest.fixture
def backbone(prior: Path) -> Backbone:
    """Return a fresh backbone of the trained prior."""
    return open_backbone(prior)
