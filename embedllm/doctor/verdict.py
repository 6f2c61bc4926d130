"""A verdict, a line long."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "FAIL"
NAME_WIDTH = 13


@dataclass(frozen=True)
class Verdict:
    """What was looked at, and how it is."""

    name: str
    state: str
    """ok | warn: works, but not as it could | FAIL"""
    found: str
    """In words, and what to do about it."""

    def __str__(self) -> str:
        return f"{self.state:<4}  {self.name:<{NAME_WIDTH}}  {self.found}"


Look = Callable[[], Verdict]


def looked_at(looks: Iterable[tuple[str, Look]]) -> Iterator[Verdict]:
    """Yield one verdict after the other; a look that fails itself is a verdict too."""
    for name, look in looks:
        try:
            yield look()
        except Exception as error:  # whatever a broken installation trips over
            lines = str(error).strip().splitlines() or [""]
            yield Verdict(name, FAIL, f"{type(error).__name__}: {lines[0]}".rstrip(": "))
