"""Kinds of tokens, whatever the tokenizer cuts words into."""

from collections.abc import Callable

import pytest
from small_decoders import ARCHITECTURES

from embedllm.analysis.tokens import Tokens, describe
from embedllm.analysis.words import is_stop_word, kinds_of_characters
from embedllm.embedder import Embedder
from embedllm.pooling import EosPooling

PROMPT = 'This sentence : "{text}" means in one word:'


def of_kind(tokens: Tokens, kind: str) -> str:
    return "".join(piece for piece, found in zip(tokens.pieces, tokens.kinds, strict=True) if found == kind)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_words_keep_their_kind_in_every_tokenizer(architecture: str, decoder: Callable[..., Embedder]) -> None:
    embedder = decoder(architecture, template=PROMPT)
    (tokens,) = describe(embedder, ["  The man didn't see 42 rivers, but it's the café's window.\n"])
    assert list(tokens.ids) == embedder.tokenize(["The man didn't see 42 rivers, but it's the café's window."])[0]
    assert set(of_kind(tokens, "stop")) <= set("Thedidn'tbutit'sthe")
    for word in ("man", "42", "rivers", "window"):
        assert word in of_kind(tokens, "content")
    for word in ("The", "but", "the"):
        assert word in of_kind(tokens, "stop")
    assert "." in of_kind(tokens, "punctuation")
    begin = "bos" if embedder.prompt.tokenizer.bos_token_id == tokens.ids[0] else "first"
    assert tokens.kinds[0] == begin
    assert tokens.kinds.count("prompt") == embedder.prompt.prefix_tokens + embedder.prompt.suffix_tokens - 1
    assert tokens.uncut == len(tokens)


def test_without_bos_the_first_token_is_a_kind_of_its_own(decoder: Callable[..., Embedder]) -> None:
    (tokens,) = describe(decoder("qwen3"), ["The man"])
    assert (tokens.kinds[0], set(tokens.kinds[1:])) == ("first", {"content"})


def test_a_text_that_is_cut_keeps_its_prompt(decoder: Callable[..., Embedder]) -> None:
    embedder = decoder("llama", template=PROMPT, max_length=40)
    short, cut = describe(embedder, ["A child", "A child paints " * 40])
    assert (len(cut), cut.uncut > 120) == (40, True)
    assert cut.kinds.count("prompt") == short.kinds.count("prompt")
    assert cut.kinds[-1] == "prompt"


def test_eos_and_texts_without_tokens(decoder: Callable[..., Embedder]) -> None:
    (ended,) = describe(decoder("llama", EosPooling, PROMPT), ["A child"])
    assert (ended.kinds[0], ended.kinds[-1]) == ("bos", "eos")
    (empty,) = describe(decoder("qwen3"), [""])
    assert empty.kinds == ("first",)
    (prompt,) = describe(decoder("qwen3", template=PROMPT), [""])
    assert set(prompt.kinds) == {"first", "prompt"}


@pytest.mark.parametrize("word", ["the", "THE", "didn't", "it\u2019s", "can't"])
def test_stop_words(word: str) -> None:
    assert is_stop_word(word)
    assert set(kinds_of_characters(word)) == {"stop"}


@pytest.mark.parametrize("word", ["John's", "car", "42", "fire", "like"])
def test_content_words(word: str) -> None:
    assert not is_stop_word(word)
    assert set(kinds_of_characters(word)) == {"content"}


@pytest.mark.parametrize(
    "word", ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e17\u0e35\u0e48\u0e19\u0e31\u0e49\u0e19", "re\u0301sume\u0301"]
)
def test_vowel_signs_and_accents_are_parts_of_words(word: str, decoder: Callable[..., Embedder]) -> None:
    assert set(kinds_of_characters(word)) == {"content"}
    (tokens,) = describe(decoder("qwen3", template=PROMPT), [word])
    assert "punctuation" not in tokens.kinds


def test_a_mark_without_a_letter_is_no_word() -> None:
    assert set(kinds_of_characters("\u2764\ufe0f")) == {"punctuation"}


def test_characters_outside_words() -> None:
    assert kinds_of_characters("a $5.") == ["stop", "punctuation", "punctuation", "content", "punctuation"]
