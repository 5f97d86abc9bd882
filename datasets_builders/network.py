"""What fails on the way to a server, and why, in one line."""

from __future__ import annotations

import errno
import socket

__all__ = ["failures", "reason"]

_UNREACHED = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})


def failures() -> tuple[type[BaseException], ...]:
    """Return the kinds of errors that downloads and the hub's client raise when a request fails.

    `datasets` downloads through fsspec, which is built on aiohttp. The hub's client is built on httpx or httpx2, by its
    version, and lets the errors of that one out when no answer comes: its own error is a kind of them.
    """
    from aiohttp import ClientError
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, ClientError, *HfHubHTTPError.__bases__


def reason(error: BaseException) -> str:
    """Return why a request failed, in one line.

    Args:
        error: One of the `failures`. fsspec turns them all into a FileNotFoundError that holds the address alone, so
            what it came from is asked too.

    Returns:
        What the system said of a connection that could not be made; else what the innermost stated cause says.
    """
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(inner)
    for one in reversed(chain):
        if isinstance(one, ConnectionError | TimeoutError | socket.gaierror) or (
            isinstance(one, OSError) and one.errno in _UNREACHED
        ):
            return f"no connection: {one.strerror or str(one) or 'no answer in time'}"
    stated = error
    while stated.__cause__ is not None:
        stated = stated.__cause__
    return " ".join(str(stated).split()) or type(stated).__name__
