"""A client of OpenAI's chat completions that does not give up on a busy server, nor wait for a dead one forever."""

import asyncio
import os
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from embedllm.errors import InputError

_WRONG = {400, 413, 422}
_DENIED = {401, 403, 404, 405}
_CUT = {
    "length": "no text within generator.max_new_tokens; models that think first need more",
    "content_filter": "the server's filter let no text through",
}
"""Why an answer may have been cut, and what it means if nothing is left of it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class Answer(NamedTuple):
    """What was written."""

    text: str
    finished: bool
    """False: it was cut."""


class Refused(Exception):
    """The server says that one request is wrong, or has no text for it; others may not be."""


class Completions:
    """Sends chats and returns answers, several at the same time; an asynchronous context manager.

    Args:
        url: up to and including ``/v1``.
        key: environment variable that holds the key.
        timeout_s: for one answer, from the request to its last byte.
        attempts: for one answer; the pause after a failure doubles from half a second to half a minute, unless the
            server names one (``Retry-After``).
        concurrency: requests that are open at the same time.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float, attempts: int, concurrency: int) -> None:
        secret = os.environ.get(key, "").strip()  # as read from a file, with the end of its line
        if not (secret.isascii() and secret.isprintable()):
            raise InputError(f"generator.key: the variable {key!r} holds characters that no key has")
        self.url = f"{url.rstrip('/')}/chat/completions"
        self.attempts, self.timeout_s = attempts, timeout_s
        self._free = asyncio.Semaphore(concurrency)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            headers={"Authorization": f"Bearer {secret}"} if secret else {},
            limits=httpx.Limits(max_connections=None),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(self, body: dict[str, Any]) -> Answer:
        """Return the answer.

        Raises:
            Refused: the request is wrong, or its answer has no text whenever it is asked for.
            InputError: the server denies access, or did not answer in any attempt.
        """
        pause, trouble, silent = _FIRST_PAUSE_S, "", False
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            silent = False
            try:
                async with self._free, asyncio.timeout(self.timeout_s):  # httpx counts from byte to byte
                    response = await self._http.post(self.url, json=body)
            except httpx.InvalidURL as error:
                raise InputError(f"generator.url: {self.url!r} is not an address ({error})") from error
            except (httpx.TimeoutException, TimeoutError):
                trouble = "no answer in time (generator.timeout_s)"
                continue
            except httpx.HTTPError as error:
                trouble = str(error) or type(error).__name__
                continue
            self._check(response)
            if response.status_code == httpx.codes.OK:
                answer = _answer(response)
                if isinstance(answer, Answer):
                    return answer
                silent = answer
                trouble = f"an answer that is no chat completion: {response.text[:60]!r}"
            else:
                trouble = f"HTTP {response.status_code}"
                pause = max(pause, _asked_pause(response))
        if silent:
            raise Refused(trouble)
        raise InputError(
            f"generator.url: {self.url!r} failed {self.attempts} times, at last with {trouble}; what is written stays, "
            "and the same command goes on when the server does"
        )

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _WRONG:
            raise Refused(f"HTTP {status}: {_start(response)}")
        if status in _DENIED:
            reason = _start(response)
            raise InputError(
                f"generator.url: {self.url!r} answers HTTP {status} ({reason}); look at generator.url, generator.model "
                "and the variable that generator.key names"
            )


def _answer(response: httpx.Response) -> Answer | bool:
    """Return the answer; True if there is one without a text, False if the body is half a JSON or something else.

    Raises:
        Refused: the next attempt would have no text either.
    """
    try:
        choice = response.json()["choices"][0]
        text, declined = (choice["message"].get(name) for name in ("content", "refusal"))
        end = str(choice.get("finish_reason"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    if isinstance(text, str):
        return Answer(text, end not in _CUT)
    if declined or end in _CUT:
        raise Refused(str(declined or _CUT[end]))
    return True


def _start(response: httpx.Response) -> str:
    return " ".join(response.text.split())[:120]


def _asked_pause(response: httpx.Response) -> float:
    """Return the seconds that the server asks to wait, at most those that we would ever wait."""
    try:
        return min(float(response.headers.get("Retry-After", 0)), _LONGEST_PAUSE_S)
    except ValueError:
        return 0.0
