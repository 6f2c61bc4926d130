"""Ids come out as a call of the tokenizer gives them, and a long text costs no more than its start."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from embedllm import Embedder, tokenization
from embedllm.model_source import load_tokenizer
from embedllm.prompt import Prompt, compile_prompt
from embedllm.tokenization import token_ids

TEXTS = [
    "a car",
    "",
    "  spaced  ",
    "one " * 400,
    "naïve 日本 \u2028 x",
    "x" * 20_000,
    " " * 20_000 + "a b \x1c",
    "a\n" * 9_000,
]


@pytest.fixture
def prompt(tiny_path: Path) -> Prompt:
    return Embedder.from_pretrained(str(tiny_path), template="Text: {text} means").prompt


def by_the_tokenizer(prompt: Prompt, texts: list[str]) -> list[list[int]]:
    return prompt.tokenizer(texts, truncation=True).input_ids


def test_ids_are_those_of_the_tokenizer(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "_TEXTS", 3)
    assert token_ids(prompt, TEXTS) == by_the_tokenizer(prompt, TEXTS)


def test_earlier_calls_of_the_tokenizer_leave_no_trace(prompt: Prompt) -> None:
    expected = by_the_tokenizer(prompt, TEXTS)
    prompt.tokenizer(["a", "b c"], padding=True, truncation=True, max_length=10)
    assert token_ids(prompt, TEXTS) == expected
    prompt.tokenizer("a")
    assert token_ids(prompt, TEXTS) == expected


def test_a_line_of_100_mb_costs_its_start(prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer sees at most two longest tokens for each that may be kept."""
    seen: list[int] = []
    pieces = tokenization.pieces

    def watched(texts, *limits):
        for piece in pieces(texts, *limits):
            seen.extend(map(len, piece))
            yield piece

    monkeypatch.setattr(tokenization, "pieces", watched)
    (row,) = token_ids(prompt, ["hello world " * (100_000_000 // 12)])
    longest = max(map(len, prompt.tokenizer.get_vocab()))
    assert len(row) == prompt.tokenizer.model_max_length
    assert seen == [2 * longest * len(row)]


def test_a_tokenizer_that_drops_characters_reads_on() -> None:
    """Here white space within a text has no token, so that the start of a text may have too few."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    own = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<unk>")
    prompt = compile_prompt(own, max_length=8)
    text = "a" + " " * 1000 + "b" + " " * 5000 + "b a"
    assert token_ids(prompt, [text]) == by_the_tokenizer(prompt, [text]) == [[1, 2, 2, 1]]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "gpt2"])
def test_every_family_gives_the_same_ids(make_decoder: Callable[[str], Path], architecture: str) -> None:
    prompt = compile_prompt(load_tokenizer(str(make_decoder(architecture))), "Text: {text} means", max_length=128)
    assert token_ids(prompt, TEXTS) == by_the_tokenizer(prompt, TEXTS)
