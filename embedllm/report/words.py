"""How a report says numbers."""


def plural(count: int, what: str) -> str:
    """Return ``1 run`` or ``2 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def signed(points: float) -> str:
    """Return a difference with its sign; what rounds to nothing has none of its own."""
    return f"{round(points, 1) + 0.0:+.1f}"
