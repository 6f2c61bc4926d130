"""Augmenters: pure functions ``(text, rng) -> text`` that make a positive out of a text.

An augmenter draws from the ``rng`` it is given and from nothing else, never returns an empty string for a text that
has words, and takes time linear in the text. It draws with ``rng.random()`` only: of all of Python's generators'
methods, that is the one whose sequence is guaranteed to stay the same from version to version.

To add one, write a frozen dataclass with a ``__call__`` here; Hydra's ``_target_`` finds it.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedllm.errors import InputError

Augmenter = Callable[[str, random.Random], str]
"""What ``data.augment`` builds."""


def keyed_rng(seed: int, epoch: int, index: int, salt: str = "") -> random.Random:
    """Return the generator of one text in one epoch; equal on every machine, process and Python version.

    Args:
        seed: the run's seed.
        epoch: pass over the data, from 0.
        index: row of the text in its table, from 0.
        salt: keeps draws for different purposes apart.
    """
    key = hashlib.sha256(f"{seed}:{epoch}:{index}:{salt}".encode()).digest()
    return random.Random(int.from_bytes(key, "big"))


def draw_index(size: int, rng: random.Random) -> int:
    """Return a uniform index below ``size``."""
    return int(rng.random() * size)


@dataclass(frozen=True)
class Identity:
    """The text itself, so that dropout alone tells the two views apart (SimCSE: Gao et al., 2021)."""

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return ``text``."""
        return text


@dataclass(frozen=True)
class WordDeletion:
    """Delete each word with probability ``p``, after EDA (Wei & Zou, 2019).

    At least one word goes and at least one stays, so a text of two or more words always gets shorter; a text of one
    word is returned as it is. Words are what white space separates.

    Args:
        p: probability, in [0, 1); 0 deletes nothing.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return ``text`` with fewer words."""
        words = text.split()
        if len(words) < 2 or self.p == 0:
            return text
        kept = [word for word in words if rng.random() >= self.p]
        chosen = draw_index(len(words), rng)
        if not kept:
            kept = [words[chosen]]
        elif len(kept) == len(words):
            del kept[chosen]
        return " ".join(kept)


@dataclass(frozen=True)
class WordSwap:
    """Exchange two random words, again and again, after EDA (Wei & Zou, 2019).

    A text of W words gets round(p W) exchanges, and at least one; a text of one word is returned as it is.

    Args:
        p: exchanges per word, in [0, 1); 0 exchanges nothing.
    """

    p: float = 0.1

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return ``text`` with its words in another order."""
        words = text.split()
        if len(words) < 2 or self.p == 0:
            return text
        for _ in range(max(1, round(self.p * len(words)))):
            first = draw_index(len(words), rng)
            second = draw_index(len(words) - 1, rng)
            second += second >= first  # any word but the first
            words[first], words[second] = words[second], words[first]
        return " ".join(words)


@dataclass(frozen=True)
class CharacterNoise:
    """Misspell words, after the synthetic noise of Belinkov & Bisk (2018), for any alphabet.

    Each letter that stands between two letters is, with probability ``p``, exchanged with the next letter, dropped or
    doubled (a third each). First letters, digits, punctuation, emoji and white space stay as they are.

    Args:
        p: probability, in [0, 1).
    """

    p: float = 0.05

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return ``text`` with misspelt words."""
        pieces: list[str] = []
        position = 0
        while position < len(text):
            char = text[position]
            inner = position > 0 and len(text) > position + 1 and text[position - 1 : position + 2].isalpha()
            if inner and rng.random() < self.p:
                following = text[position + 1]
                piece, step = ((following + char, 2), ("", 1), (char + char, 1))[draw_index(3, rng)]
            else:
                piece, step = char, 1
            pieces.append(piece)
            position += step
        return "".join(pieces)


@dataclass(frozen=True)
class Compose:
    """Several augmenters, one after the other, on one generator.

    Args:
        augmenters: applied in this order.
    """

    augmenters: Sequence[Augmenter]

    def __call__(self, text: str, rng: random.Random) -> str:
        """Return ``text`` after every augmenter."""
        for augment in self.augmenters:
            text = augment(text, rng)
        return text


def _check_probability(p: float) -> None:
    if not 0 <= p < 1:
        raise InputError(f"data.augment.p: {p!r} is not a probability of at least 0 and below 1")
