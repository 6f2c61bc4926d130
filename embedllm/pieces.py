"""Cut a stream of texts into pieces that fit into memory."""

from collections.abc import Iterable, Iterator


def pieces(texts: Iterable[str], count: int, characters: int) -> Iterator[list[str]]:
    """Yield ``texts`` in their order, in lists that end where they have ``count`` texts or ``characters`` characters.

    The borders depend on the texts alone. A piece may be longer than ``characters`` by its last text.
    """
    piece: list[str] = []
    held = 0
    for text in texts:
        piece.append(text)
        held += len(text)
        if len(piece) == count or held >= characters:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece
