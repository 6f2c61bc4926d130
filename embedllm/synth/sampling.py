"""How a token is drawn from the logits of a language model, with a draw of its own for each row.

Legend: B rows, V vocabulary, k tokens that are drawn from.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: from the ``top_k`` likeliest, and of these from the fewest that have ``top_p``.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: at least 1.
        top_p: in (0, 1].
    """

    temperature: float = 0.7
    top_k: int = 50
    top_p: float = 0.9

    def __call__(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """Return a token for each row.

        Args:
            logits: (B, V).
            uniform: (B,) draws in [0, 1).
        """
        if self.temperature == 0:
            return logits.argmax(dim=1)
        values, tokens = logits.float().topk(min(self.top_k, logits.size(1)), dim=1)  # (B, k), likeliest first
        shares = (values / self.temperature).softmax(dim=1)
        before = shares.cumsum(dim=1) - shares
        shares = shares.masked_fill(before >= self.top_p, 0)
        reached = shares.cumsum(dim=1) > uniform.unsqueeze(1) * shares.sum(dim=1, keepdim=True)
        return tokens.gather(1, reached.int().argmax(dim=1, keepdim=True)).squeeze(1)
