"""What the tokens of a text in its prompt are: BOS, prompt, content word, stop word, punctuation, EOS."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from embedllm.analysis.words import CONTENT, PUNCTUATION, STOP, is_mark, kinds_of_characters
from embedllm.embedder import Embedder

BOS, FIRST, PROMPT, EOS = "bos", "first", "prompt", "eos"
KINDS = (BOS, FIRST, PROMPT, CONTENT, STOP, PUNCTUATION, EOS)

MEANINGS = {
    BOS: "the token that begins every text",
    FIRST: "the first token of a model without BOS, whatever it is: heads rest there, as they do on BOS",
    PROMPT: "the template's other tokens, before and after the text",
    CONTENT: "words of the text that are no stop words, numbers included",
    STOP: "articles, pronouns, prepositions, conjunctions and auxiliaries of English in the text",
    PUNCTUATION: "tokens of the text without a letter or digit",
    EOS: "the token that ends every text",
}


@dataclass(frozen=True)
class Tokens:
    """A text in its prompt, n tokens in all."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    """What each token stands for, without white space around it."""
    kinds: tuple[str, ...]
    """One of :data:`KINDS` for each."""
    uncut: int
    """Tokens that there were before the text was cut to the model's length."""

    def __len__(self) -> int:
        return len(self.ids)


def describe(embedder: Embedder, texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of each text, as ``embedder`` reads them."""
    return [_described(embedder, text, row) for text, row in zip(texts, embedder.tokenize(texts), strict=True)]


def _described(embedder: Embedder, text: str, row: Sequence[int]) -> Tokens:
    prompt, tokenizer = embedder.prompt, embedder.prompt.tokenizer
    # one text at a time: the places of all tokens of a text that is cut take far more memory than what is left of it
    whole = tokenizer(text, truncation=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    offsets = whole.offset_mapping
    before, end = prompt.prefix_tokens, len(row) - prompt.suffix_tokens
    characters = kinds_of_characters(text)
    pieces, kinds = [], []
    for i, token in enumerate(row):
        if before <= i < end and offsets:  # a token of the text; what is cut off stood after all of them
            first, last = offsets[i]
            pieces.append(text[first:last].strip() or tokenizer.decode([token]))
            kinds.append(_kind(characters[first:last], text[first:last]))
        else:
            pieces.append(tokenizer.decode([token]).strip() or tokenizer.convert_ids_to_tokens(token))
            ends = token == tokenizer.eos_token_id and i == len(row) - 1
            kinds.append(EOS if ends else PROMPT)
    kinds[0] = BOS if before and row[0] == tokenizer.bos_token_id else FIRST
    return Tokens(tuple(row), tuple(pieces), tuple(kinds), max(len(offsets), len(row)))


def _kind(characters: Sequence[str], text: str) -> str:
    """Return the kind of most of a token's letters and digits."""
    pairs = zip(characters, text, strict=True)
    found = Counter(kind for kind, character in pairs if character.isalnum() or is_mark(character))
    del found[PUNCTUATION]
    return max((CONTENT, STOP), key=lambda kind: found[kind]) if found else PUNCTUATION
