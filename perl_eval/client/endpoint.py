"""What the backends that speak HTTP share: address, key, prices, and what a server's refusals mean."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from perl_eval.client import hiding
from perl_eval.client.rate_limit_headers import Allowance, allowance_of
from perl_eval.client.refusals import Answer, refusal_of, said_in_reply
from perl_eval.client.usage import BYTES_A_TOKEN
from perl_eval.errors import JudgeError, TimedOut, UserError

if TYPE_CHECKING:
    import openai

    from perl_eval.client.http import Transport

__all__ = ["Endpoint", "Posted"]

_NO_KEY = "unused"
_OPENAI = "https://api.openai.com/v1"


class Posted(NamedTuple):
    """A server's answer to a request: its JSON, and what it says it will still take."""

    content: Any
    left: Allowance | None


@dataclass(slots=True)
class Endpoint:
    """Where a judge is, how to get in, and what it takes.

    Attributes:
        base_url: Its address; None is OpenAI's own.
        key_variable: Environment variable that holds the key; the key is kept nowhere else.
        key_file: File that holds the key, instead of the variable.
        timeout_s: Longest wait for one reply.
        price_in_usd: Price of a million tokens in, if known.
        price_out_usd: Price of a million tokens out, if known.
        key_needed: Whether there must be a key, at an address that is given.

    Raises:
        UserError: There is no key, or the address is no plain http address.
    """

    base_url: str | None
    key_variable: str
    timeout_s: float
    price_in_usd: float | None
    price_out_usd: float | None
    key_file: Path | None = None
    key_needed: bool = False
    _hidden: str = field(default="", repr=False)
    _hide: Callable[[str], str] = field(default=str, repr=False)
    _line: Transport | None = field(default=None, repr=False)
    _client: openai.AsyncOpenAI | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.base_url is not None:
            try:
                parts = urlsplit(self.base_url)
                _ = parts.port
            except ValueError as error:
                raise UserError(f"the server's address is not valid: {error}", "give an http address") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise UserError(f"the server's address is {parts.scheme or 'no scheme'}://...", "give an http address")
            if parts.username or parts.password or parts.query:
                raise UserError(
                    "the server's address holds a user, a password or a query", "put the key in the environment"
                )
        if not self._key() and (self.key_needed or self.base_url is None):
            raise UserError(f"{self.key_variable} is not set", "put the key there, or into a file")

    def _key(self) -> str:
        """Return the key, read afresh, or nothing."""
        if self.key_file is None:
            words, place = os.environ.get(self.key_variable, "").split(), self.key_variable
        else:
            place = str(self.key_file)
            try:
                words = self.key_file.read_text("utf-8").split() or ["", ""]
            except (OSError, UnicodeDecodeError):
                words = ["", ""]
        if len(words) > 1 or not all(word.isascii() and word.isprintable() for word in words):
            fix = "give a file that holds" if self.key_file is not None else "put there"
            raise UserError(f"{place} holds no key", f"{fix} the key and nothing else")
        return words[0] if words else ""

    async def post(self, path: str, body: Mapping[str, object]) -> Posted:
        """Send a request and return the JSON that comes back; it is asked once, whoever asks again is the caller.

        Raises:
            JudgeError: The server failed, was too slow, or refused this request.
            UserError: The address is none, or the key cannot be read.
        """
        answer = await self._answered(path, body)
        try:
            reply = json.loads(answer.content)
            if not answer.content.isascii() or hiding.may_hold(answer.content, self._hidden):
                reply = hiding.mended(reply, self._hidden)
        except (ValueError, RecursionError):
            error = JudgeError("the reply is not JSON")
            # Somebody wrote it, and will want to be paid for it.
            error.paid = ((None, len(answer.content) // BYTES_A_TOKEN),)
            raise error from None
        if (said := said_in_reply(answer, reply, self._hide)) is not None:
            raise said
        return Posted(reply, allowance_of(answer.headers))

    async def tell(self, path: str, body: Mapping[str, object]) -> None:
        """Send a request whose answer, where it says success, may be anything.

        Raises:
            JudgeError: As `post` does.
            UserError: Likewise.
        """
        await self._answered(path, body)

    async def _answered(self, path: str, body: Mapping[str, object]) -> Answer:
        """Return an answer that says success."""
        if self._line is None:
            self._line = self._opened()
        answer = await self._line.post(path, json.dumps(body).encode("ascii"))
        if not 200 <= answer.status < 300:
            raise refusal_of(answer, self._hide)
        return answer

    def _opened(self) -> Transport:
        """Open the connections, with the key of now; until they are closed that is the key to hide."""
        from perl_eval.client.http import Transport

        self._hidden = self._secret()
        self._hide = _hiding(self._hidden)
        headers = {
            "authorization": f"Bearer {self._key() or _NO_KEY}",
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": "perl-eval",
        }
        return Transport(self.base_url or _OPENAI, headers, self.timeout_s)

    def mended(self, reply: Any) -> Any:
        """Return what a server sent without our key in its texts, and with whole letters only."""
        return hiding.mended(reply, self._secret())

    def _secret(self) -> str:
        """Return the key if it is one to hide, or nothing."""
        key = self._key()
        place = self.key_variable if self.key_file is None else str(self.key_file)
        return key if hiding.is_secret(key, place) else ""

    def client(self) -> openai.AsyncOpenAI:
        """Return the openai client for what it alone speaks, made on first use; loads the openai package."""
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(
                api_key=self._key() or _NO_KEY, base_url=self.base_url, timeout=self.timeout_s, max_retries=0
            )
        return self._client

    async def close(self) -> None:
        """Close the connections; the next question opens new ones."""
        line, self._line = self._line, None
        client, self._client = self._client, None
        if line is not None:
            await line.close()
        if client is not None:
            await client.close()

    def price_usd(self, tokens_in: float, tokens_out: float) -> float | None:
        """Return the price at the stated prices of a million tokens."""
        if self.price_in_usd is None or self.price_out_usd is None:
            return None
        return (tokens_in * self.price_in_usd + tokens_out * self.price_out_usd) / 1e6

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the openai client's errors into ours, without their requests, which hold the key.

        Raises:
            JudgeError: The server failed, was too slow, or refused this request.
        """
        import openai

        try:
            yield
        except openai.APITimeoutError:
            raise TimedOut(f"no reply within {self.timeout_s:g} s") from None
        except openai.APIConnectionError:
            raise TimedOut("the connection broke or could not be made") from None
        except openai.APIStatusError as error:
            headers = {name.lower(): value for name, value in error.response.headers.items()}
            answer = Answer(error.status_code, headers, error.response.content)
            raise refusal_of(answer, _hiding(self._secret())) from None
        except (json.JSONDecodeError, openai.APIResponseValidationError):
            raise JudgeError("the reply is not JSON") from None


def _hiding(secret: str) -> Callable[[str], str]:
    """Return what takes a key out of what a server says."""
    return lambda text: hiding.shown(text, secret)
