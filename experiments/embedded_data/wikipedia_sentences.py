"""Sentences of the Wikipedia articles, as rows (title, text)."""

from collections.abc import Container, Iterable

from sampling import fingerprint, shuffled
from sentences import is_clean, split_sentences
from wikipedia_pages import Page
from wikitext import paragraphs

_MIN_WORDS, _MAX_WORDS = 8, 40


def clean_sentences(page: Page) -> list[str]:
    """Return the sentences of an article that read well alone, in its order."""
    candidates = (sentence for paragraph in paragraphs(page.wikitext) for sentence in split_sentences(paragraph))
    return [sentence for sentence in candidates if is_clean(sentence, _MIN_WORDS, _MAX_WORDS)]


def sample_sentences(
    pages: Iterable[Page], per_page: int, seed: int, excluded: Container[str]
) -> list[tuple[str, str]]:
    """Return at most ``per_page`` rows (title, text) of each article, the articles mixed.

    Args:
        pages: The articles.
        per_page: Sentences an article may give.
        seed: Which sentences.
        excluded: Fingerprints of texts that must not be among the rows.
    """
    title_of: dict[str, str] = {}
    seen: set[str] = set()
    for page in pages:
        fresh = [text for text in clean_sentences(page) if fingerprint(text) not in excluded]
        fresh = [text for text in shuffled(set(fresh), f"pick {seed}") if fingerprint(text) not in seen][:per_page]
        seen.update(map(fingerprint, fresh))
        title_of.update(dict.fromkeys(fresh, page.title))
    return [(title_of[text], text) for text in shuffled(title_of, f"order {seed}")]
