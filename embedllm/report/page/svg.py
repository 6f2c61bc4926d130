"""Vector graphics for a page: elements, scales and axes. Colours are the page's own, so they follow light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

SERIES = 8
"""Colours that tell series apart: the classes ``c0`` to ``c7`` of the page's style."""

WIDEST, NARROWEST = 420, 310
"""Wider figures scroll on a phone; others shrink, and no further than this."""

CHARACTER = 6.9
"""Width of a character of the figures' text, roughly, in the figures' units."""


def element(name: str, *children: str, **attributes: float | str | None) -> Markup:
    """Return an element, all text in it escaped; an underscore in a name is a hyphen or, at its end, nothing."""
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    words = Markup("").join(Markup(' {}="{}"').format(key, _text(value)) for key, value in given.items())
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), words, join(children))


def join(parts: Iterable[str]) -> Markup:
    """Return parts one after the other, those that are no markup escaped."""
    return Markup("").join(parts)


def figure(width: float, height: float, label: str, *children: str) -> Markup:
    """Return an image of so many units; on the page a unit is a pixel or more, and wide images scroll."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        style=f"min-width:{width if width > WIDEST else min(width, NARROWEST):g}px;max-width:{1.25 * width:g}px",
    )


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None, **more: str) -> Markup:
    """Return a line of text; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return element("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_, **more)


def title(words: str) -> Markup:
    """Return what a browser shows when the mouse rests on the element that it is a child of."""
    return element("title", words)


def path(points: Iterable[tuple[float, float]], class_: str, *children: str) -> Markup:
    """Return straight lines from point to point."""
    return element("path", *children, d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)


def shortened(words: str, characters: int) -> str:
    """Return ``words``, or their beginning and an ellipsis."""
    return words if len(words) <= characters else words[: max(1, characters - 1)].rstrip(", ") + "…"


@dataclass(frozen=True)
class Scale:
    """Where values lie."""

    ticks: tuple[float, ...]
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def name(self, tick: float) -> str:
        """Return the number of a tick, with as many decimals as tell it from its neighbours."""
        if self.log or len(self.ticks) < 2 or max(map(abs, self.ticks)) >= 1_000:
            return number(tick)
        step = self.ticks[1] - self.ticks[0]
        decimals = next(d for d in range(12) if abs(step * 10**d - round(step * 10**d)) < 1e-6 * step * 10**d)
        return f"{tick:.{decimals}f}"

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def linear(values: Sequence[float], start: float, end: float, count: int = 5) -> Scale:
    """Return a scale with about ``count`` round ticks that holds ``values``."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    ticks = [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return Scale(tuple(ticks), low, high, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale for positive values of several magnitudes; a linear one for others."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < 8:
        return linear(values, start, end, count=4)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    low, high = low / 1.2, high * 1.2
    wide = high / low > 200
    marks = [factor * 10.0**power for power in powers for factor in ((1,) if wide else (1, 3))]
    return Scale(tuple(mark for mark in marks if low <= mark <= high), low, high, start, end, log=True)


def number(value: float) -> str:
    """Return a number for a tick: ``1.2M``, ``30k``, ``45``, ``0.05``."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def axes(x: Scale, y: Scale, label: str) -> Markup:
    """Return grid, ticks and the name of what goes across; ``y`` runs upwards, so that it starts at the foot."""
    left, right = x.start, x.end
    parts = [*rulers(y, left, right)]
    parts += [text(x(tick), y.start + 16, x.name(tick), "middle") for tick in x.ticks]
    parts.append(element("path", d=f"M{left:.1f} {y.start:.1f}H{right:.1f}", class_="axis"))
    parts.append(text((left + right) / 2, y.start + 33, label, "middle"))
    return join(parts)


def rulers(y: Scale, left: float, right: float) -> list[Markup]:
    """Return lines across at the ticks of ``y``, with their numbers."""
    lines = [element("path", d=f"M{left:.1f} {y(tick):.1f}H{right:.1f}", class_="grid") for tick in y.ticks]
    return lines + [text(left - 6, y(tick) + 4, y.name(tick), "end") for tick in y.ticks]


def spread_out(places: Sequence[float], gap: float, limits: tuple[float, float]) -> list[float]:
    """Return places moved apart, as little as may be, until none are nearer than ``gap``, and all in ``limits``."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[tuple[float, int]] = []  # centre and count, none overlapping the next
    for i in order:
        centre, count = _inside(places[i], 1, gap, limits), 1
        while blocks and centre - blocks[-1][0] < (count + blocks[-1][1]) * gap / 2:
            before, size = blocks.pop()
            centre, count = (before * size + centre * count) / (size + count), size + count
            centre = _inside(centre, count, gap, limits)
        blocks.append((centre, count))
    moved = [centre + (k - (count - 1) / 2) * gap for centre, count in blocks for k in range(count)]
    return [place for _, place in sorted(zip(order, moved, strict=True))]


def _inside(centre: float, count: int, gap: float, limits: tuple[float, float]) -> float:
    half = (count - 1) * gap / 2
    return max(limits[0] + half, min(limits[1] - half, centre))


def _text(value: float | str) -> str:
    return escape(f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value))
