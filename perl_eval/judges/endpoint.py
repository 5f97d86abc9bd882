"""What the doors that speak HTTP share: address, key, prices, and the errors of the openai client as ours.

Importing this module loads the openai package.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai

from perl_eval.errors import JudgeError, RateLimited, Refused, TimedOut, UserError
from perl_eval.judges.wire import LeanTransport

__all__ = ["Endpoint"]

_NO_KEY = "unused"
_OPENAI = "https://api.openai.com"


@dataclass(slots=True)
class Endpoint:
    """Where a judge is, how to get in, and what it takes.

    Attributes:
        base_url: Its address; None is OpenAI's own.
        key_variable: Environment variable that holds the key; the key is kept nowhere else.
        timeout_s: Longest wait for one reply.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_file: File that holds the key, instead of the variable.
    """

    base_url: str | None
    key_variable: str
    timeout_s: float
    price_in_usd: float | None
    price_out_usd: float | None
    key_file: Path | None = None
    _client: openai.AsyncOpenAI | None = None

    def __post_init__(self) -> None:
        if self.base_url is not None:
            parts = urlsplit(self.base_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UserError(f"the judge's address is {parts.scheme or 'no scheme'}://...", "give an http address")
            if parts.username or parts.password or parts.query:
                raise UserError(
                    "the judge's address holds a user, a password or a query", "put the key in the environment"
                )
        elif self.key_file is None and not os.environ.get(self.key_variable):
            raise UserError(f"{self.key_variable} is not set", "put the judge's key there, or into a file")
        if self.key_file is not None:
            self._key()

    def client(self) -> openai.AsyncOpenAI:
        """Return the client, connected on first use; it asks once, whoever asks again is the caller."""
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key() or _NO_KEY,
                base_url=self.base_url,
                timeout=self.timeout_s,
                max_retries=0,
                http_client=self._transported(),
            )
        return self._client

    def _key(self) -> str | None:
        if self.key_file is None:
            return os.environ.get(self.key_variable)
        try:
            words = self.key_file.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError):
            words = []
        if len(words) != 1 or not words[0].isascii():
            raise UserError(f"{self.key_file} holds no key", "give a file that holds the key and nothing else")
        return words[0]

    def _transported(self) -> httpx2.AsyncClient | None:
        """Return a client with the lean transport, or None, the general one, where a proxy stands between."""
        parts = urlsplit(self.base_url or _OPENAI)
        if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        return httpx2.AsyncClient(transport=LeanTransport(), timeout=self.timeout_s, follow_redirects=True)

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return the price at the stated prices of a million tokens."""
        if self.price_in_usd is None or self.price_out_usd is None:
            return None
        return (tokens_in * self.price_in_usd + tokens_out * self.price_out_usd) / 1e6

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client's errors into ours, without their requests, which hold the key.

        Raises:
            JudgeError: The server failed, was too slow, or refused this request.
            UserError: It will refuse every request: wrong key, address or model.
        """
        try:
            yield
        except openai.APITimeoutError:
            raise TimedOut(f"no reply within {self.timeout_s:g} s") from None
        except openai.APIConnectionError:
            raise TimedOut("the connection broke or could not be made") from None
        except openai.RateLimitError as error:
            raise RateLimited(_said(error), _retry_after_s(error)) from None
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise UserError(f"the judge's server answered {_said(error)}", "check key, address and model") from None
        except openai.APIStatusError as error:
            if error.status_code in (408, 409) or error.status_code >= 500:
                raise JudgeError(_said(error)) from None
            raise Refused(_said(error)) from None
        except (json.JSONDecodeError, openai.APIResponseValidationError):
            raise JudgeError("the reply is no JSON") from None


def _said(error: openai.APIStatusError) -> str:
    """Return status and message in one short line, without the key, should the server echo it."""
    said = " ".join(f"{error.status_code}: {error.message}".split())
    sent = error.request.headers.get("authorization", "").removeprefix("Bearer ")
    return (said.replace(sent, "(key)") if sent else said)[:200]


def _retry_after_s(error: openai.RateLimitError) -> float | None:
    headers = error.response.headers
    for name, second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) / second)
        except ValueError:
            continue
    return None
