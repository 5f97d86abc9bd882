"""A built data set as a folder that `datasets.load_dataset` reads, and that folder on the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path

from datasets_builders import network
from datasets_builders.builder import Builder
from datasets_builders.card import Built
from datasets_builders.errors import BuilderError
from datasets_builders.sources import Origin

__all__ = ["push", "refuse_push", "write_config"]

_SHARD = "256MB"


def write_config(builder: Builder, folder: Path, *, num_proc: int | None = None) -> Built:
    """Build one configuration into ``folder/<config>/<split>-00000-of-0000N.parquet``.

    Args:
        builder: The builder of the configuration.
        folder: The data set's folder; an earlier build of this configuration in it is replaced once
            this one is finished.
        num_proc: Processes to build with.

    Returns:
        What was built, for the card.

    Raises:
        SourceError: An upstream file is missing or is not the pinned one.
        DataError: An upstream file holds what it should not.
    """
    config = builder.config.name
    workshop = folder / f".{config}.partial"
    shutil.rmtree(workshop, ignore_errors=True)
    target = folder / config
    try:
        rows, named = workshop / "rows", workshop / "named"
        named.mkdir(parents=True)
        builder.download_and_prepare(str(rows), file_format="parquet", num_proc=num_proc, max_shard_size=_SHARD)
        for path in sorted(rows.glob("*.parquet")):
            name = path.name.removeprefix(f"{builder.dataset_name}-")
            path.replace(named / (name if "-of-" in name else f"{path.stem.rsplit('-', 1)[1]}-00000-of-00001.parquet"))
        tallies = builder.tallies()
        shutil.rmtree(target, ignore_errors=True)
        named.replace(target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return Built(
        description=builder.config.description or "",
        columns=list(builder.info.features),
        tallies={split: tallies[split] for split in builder.info.splits},
        checksums=builder.checksums(),
        pinned=builder.pinned(),
        settings=builder.settings(),
    )


def refuse_push(origin: Origin, *, private: bool) -> None:
    """Refuse to upload what may not be uploaded.

    Raises:
        BuilderError: The terms do not allow it.
    """
    if origin.publishing == "never":
        raise BuilderError(f"{origin.name} may not be uploaded anywhere: {origin.terms}", "keep the folder local")
    if origin.publishing == "private" and not private:
        raise BuilderError(
            f"{origin.name} may not be uploaded publicly: {origin.terms}", "push to a private repository"
        )


def push(folder: Path, repo_id: str, origin: Origin, *, private: bool = True) -> str:
    """Upload the card and the parquet files of a folder to a dataset repository on the hub.

    Args:
        folder: What `write_config` and `card.write_card` filled.
        repo_id: ``owner/name``; made if it does not exist.
        origin: Where the data set comes from.
        private: Make the repository private.

    Returns:
        The repository's address.

    Raises:
        BuilderError: The terms do not allow it, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    refuse_push(origin, private=private)
    hub = HfApi()
    try:
        address = hub.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if private and not hub.repo_info(repo_id, repo_type="dataset").private:
            raise BuilderError(f"{repo_id} is there already and public", "make it private, or choose another name")
        hub.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=["README.md", "croissant.json", "*/*.parquet"],
            commit_message=f"Add {origin.title}",
        )
    except network.failures(HFValidationError) as error:
        raise BuilderError(
            f"cannot push to {repo_id} ({network.reason(error)})", "check the name, your login and the network"
        ) from None
    return str(address)
