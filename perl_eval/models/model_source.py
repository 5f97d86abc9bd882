"""From what a user types to a model's folder: a path as it is, or a model of the Hugging Face hub, downloaded.

``ORG/NAME`` or ``ORG/NAME@REVISION`` is brought into the hub's own cache by its own client, which other programs share:
weights as safetensors only, and never code. A folder or a file of that name comes first.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from perl_eval.errors import UserError
from perl_eval.storage.hub_snapshot import LEFT, WANTED
from perl_eval.storage.quiet_logs import quiet

__all__ = ["SCRATCH", "located"]

SCRATCH = "scratch:"
"""What a model that is made from nothing begins with."""
_WORD = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_ID = re.compile(rf"(?P<repository>{_WORD}/{_WORD})(?:@(?P<revision>[\w./-]+))?", re.ASCII)


def located(typed: str | Path) -> Path:
    """Return the folder of a model, downloaded first if it is one of the hub.

    Args:
        typed: A folder or a file, ``scratch:SIZE``, or ``ORG/NAME`` with or without ``@REVISION``: a branch, a tag or a
            commit, by default the branch ``main``.

    Returns:
        The folder in the hub's cache, which ends in the commit. What is there already, or has not the form of a model's
        name, is returned as it is: who opens it says what is wrong.

    Raises:
        UserError: The hub has no such model, or none that one may read; it has no safetensors; or nobody can be asked.
    """
    path = Path(typed)
    match = _ID.fullmatch(str(typed))
    if match is None or path.exists():
        return path
    return _downloaded(match["repository"], match["revision"])


def _downloaded(repository: str, revision: str | None) -> Path:
    """Bring a model of the hub into its cache."""
    import huggingface_hub
    from huggingface_hub import errors

    from datasets_builders import network

    typed = f"{repository}@{revision}" if revision else repository
    none = f"no model at {typed}: there is no such folder, and"
    try:
        with quiet(logging.ERROR, "huggingface_hub"):  # it tells each try of what is told in one line
            place = huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=list(WANTED), ignore_patterns=list(LEFT)
            )
    except errors.GatedRepoError:
        raise UserError(
            f"the hub's model {typed} is gated", "accept its terms on its page, and put your token into HF_TOKEN"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{none} the hub shows no model of that name", "check the name; for a private one put a token into HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"the hub's model {repository} has no revision {revision}", "check the part after @") from None
    except errors.HFValidationError as error:
        raise UserError(f"{none} that is not a name on the hub ({error})", "check the name") from None
    except network.failures() as error:
        raise UserError(f"{none} {_unreached(error)}", "check the name and the network") from None
    folder = Path(place)
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"the hub's model {typed} has no safetensors weights", "take one that has, or convert them")
    return folder


def _unreached(error: BaseException) -> str:
    """Say why the hub could not be asked for a model that is not in its cache."""
    from huggingface_hub import constants

    from datasets_builders import network

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and the hub's cache does not hold it"
    return f"the hub cannot be asked ({network.reason(error)})"
