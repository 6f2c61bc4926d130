"""What is meant for the user's eyes: a wrong input, an interrupt, the sentence for a misspelt setting."""

import difflib
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


class InputError(ValueError):
    """A setting or an input is wrong.

    The message is one sentence: the setting as it is typed (``loss.temperature``), the value found, and what is
    allowed or what to do. Programs print it without a traceback and end with exit code 2.
    """


class Interrupted(BaseException):
    """A signal stopped the training after a whole step; nothing is lost.

    Like KeyboardInterrupt it passes handlers of errors, and so ends a whole sweep.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[int]]:
        """Travel from a worker to the process that started it."""
        return Interrupted, (self.number,)


class PeerLost(RuntimeError):
    """Another process of the training has ended."""

    def __init__(
        self, message: str = "another process of the training has ended before its time; what it printed says why"
    ) -> None:
        super().__init__(message)


@contextmanager
def renamed(settings: Mapping[str, str]) -> Iterator[None]:
    """Let an error name the setting that a value was given in, where the code that refuses it knows another one.

    Args:
        settings: as typed, by the name that the messages have: ``{"model.name": "generator.model"}``.

    Raises:
        InputError: as raised inside, with the names replaced.
    """
    try:
        yield
    except InputError as error:
        message = str(error)
        for name, typed in settings.items():
            message = message.replace(name, typed)
        raise InputError(message) from error


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the sentence for a setting that does not exist, with the nearest that does."""
    known = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, known, n=1)
    beside = [other for other in known if other.rpartition(".")[0] == name.rpartition(".")[0]]
    top = [other for other in known if "." not in other]
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(beside or top or known)}"
    return f"{name}: no such setting; {hint}"
