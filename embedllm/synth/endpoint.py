"""Positives that a server writes: anything that speaks OpenAI's chat completions (vLLM, llama.cpp, Ollama, TGI)."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embedllm.errors import InputError
from embedllm.synth.chat import chat_messages
from embedllm.synth.completions import Completions, Refused
from embedllm.synth.draft import Draft, Generator, Item, Rows
from embedllm.synth.llm import check_sampling
from embedllm.synth.rows import whole_characters
from embedllm.synth.styles import check_styles, drawn_style

log = logging.getLogger(__name__)

_MANY = 8  # requests that are not all refused because of their texts


@dataclass
class Endpoint(Generator):
    """Answers of a chat server to a style drawn for each row.

    Each request has a seed of its own, which servers may or may not respect. A request that the server says is wrong
    (400, 413, 422: too long a text, a filter) costs its row, with the reason ``endpoint_refused``; what the server says
    to the first is printed. An endpoint that refuses all of the first block or does not answer ends the run, which goes
    on later: rows are not lost to an outage, nor to a setting that the server does not know.

    Args:
        url: up to and including ``/v1``.
        model: name that the server knows.
        key: environment variable that holds the key; one that is not set sends none.
        styles: drawn from with equal weight.
        system: the system message; None: none is sent.
        example: whether the chat begins with an example that has been answered.
        temperature: 0 takes the likeliest token each time.
        top_p: least probability of the tokens that are drawn from.
        max_new_tokens: of an answer.
        concurrency: requests that are open at the same time.
        timeout_s: for one answer.
        attempts: before the run ends, with a growing pause between them.
    """

    ASIDE = frozenset({"key", "concurrency", "timeout_s", "attempts"})

    url: str = "http://localhost:8000/v1"
    model: str = "default"
    key: str = "OPENAI_API_KEY"
    styles: Sequence[str] = ("paraphrase", "simplify", "summary")
    system: str | None = None
    example: bool = False
    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 256
    concurrency: int = 8
    timeout_s: float = 60.0
    attempts: int = 6
    name: str = "endpoint"
    _rows: tuple[int, int] = field(default=(-1, 0), init=False, repr=False)
    """Number of the first row, and how many there are."""
    _refusal: str = field(default="", init=False, repr=False)
    """What the server said to the first request that it refused."""

    def __post_init__(self) -> None:
        self.styles = check_styles(self.styles)
        check_sampling(self.temperature, self.top_p)
        self.check_counts("max_new_tokens", "concurrency", "attempts")
        if self.timeout_s <= 0:
            raise InputError(f"generator.timeout_s: {self.timeout_s} is not above 0")
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"generator.url: {self.url!r} does not begin with http:// or https://")

    @property
    def writes(self) -> bool:
        """All of them."""
        return True

    def prepare(self, rows: Rows) -> None:
        """Find out which block is the first."""
        self._rows = next((item.row for item in rows), -1), len(rows)

    def generate(self, items: Sequence[Item]) -> list[Draft]:
        """Return the drafts in the order of the items, whatever order the answers come in.

        Raises:
            InputError: the server refuses all requests of the first block, denies access or does not answer.
        """
        told = self._refusal
        drafts = asyncio.run(self._drafts(items))
        first, count = self._rows
        begins = items[0].row == first and len(drafts) >= min(count, _MANY)
        if begins and all(draft.reason for draft in drafts):
            raise InputError(
                f"generator.url: {self.url!r} refuses all requests of the first block, one with: {self._refusal}; "
                "change the setting of the generator that it names"
            )
        if self._refusal and not told:
            log.warning("the endpoint refuses some requests, the first with: %s", self._refusal)
        return drafts

    async def _drafts(self, items: Sequence[Item]) -> list[Draft]:
        """Ask for all items; the first failure, or Ctrl-C, cancels what is still open."""
        client = Completions(
            self.url, self.key, timeout_s=self.timeout_s, attempts=self.attempts, concurrency=self.concurrency
        )
        async with client:
            return await asyncio.gather(*(self._draft(client, item) for item in items))

    async def _draft(self, client: Completions, item: Item) -> Draft:
        style = drawn_style(item, self.styles)
        draft = Draft(item.row, item.copy, item.text, generator=self.name, style=style, written=True)
        try:
            text, finished = await client.ask(self._body(item, style))
        except Refused as error:
            self._refusal = self._refusal or str(error)
            return draft.refused("endpoint_refused")
        return replace(draft, positive=whole_characters(text).strip(), truncated=not finished)

    def _body(self, item: Item, style: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": chat_messages(style, item.text, self.system, self.example),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_new_tokens,
            "seed": int(item.rng(self.name).random() * 2**31),
        }
