"""An inspection as one HTML page: no script, nothing that is fetched, light and dark, for desks and phones."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from embedllm.synth.inspection import Histogram, Inspection
from embedllm.synth.pair_file import SCORE

_CSS = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #1d2329; --soft: #5d6873; --line: #e2e0d9;
  --bar: #2f6f8f; --bar-soft: #d9e7ed; --warn: #b4532a; --quote: #f3f1eb; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --card: #1c2228; --ink: #e6e9ec; --soft: #9aa6b2;
  --line: #2e363e; --bar: #6bb3d3; --bar-soft: #26404d; --warn: #e59368; --quote: #232a31; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 2px; overflow-wrap: anywhere; } h2 { font-size: 17px; margin: 34px 0 10px; }
p { margin: 0; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 20px; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 14px; }
.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 14px; }
table { width: 100%; border-collapse: collapse; } td { padding: 5px 0; vertical-align: middle; }
td.n { text-align: right; font-variant-numeric: tabular-nums; padding-left: 12px; white-space: nowrap; }
td.bar { width: 45%; padding-left: 14px; }
td.bar span { display: block; height: 9px; border-radius: 5px; background: var(--bar); min-width: 2px; }
tr + tr td { border-top: 1px solid var(--line); }
svg { display: block; width: 100%; height: auto; } svg rect { fill: var(--bar); }
svg text { fill: var(--soft); font-size: 11px; }
svg line { stroke: var(--line); } svg .median { stroke: var(--warn); stroke-dasharray: 3 3; }
.pair { padding: 12px 0; } .pair + .pair { border-top: 1px solid var(--line); }
.pair p { overflow-wrap: anywhere; } .pair p + p { margin-top: 6px; }
.pair .made { background: var(--quote); border-left: 3px solid var(--bar); padding: 6px 10px;
  border-radius: 0 6px 6px 0; }
.gone .made { border-left-color: var(--warn); }
.tag { display: inline-block; font-size: 12px; color: var(--soft); margin-right: 10px; }
details { margin-top: 10px; } summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font-size: 12.5px; }
"""
_WIDTH, _HEIGHT, _FOOT = 320, 120, 18


def page(found: Inspection) -> str:
    """Return the page."""
    made = found.notes.get("drafts")
    tiles = [(f"{found.pairs:,}", "pairs")]
    if made:
        tiles += [(f"{made:,}", "drafts made"), (f"{found.notes['kept'] / made:.0%}", "kept")]
    tiles += [(f"{len(found.styles)}", "styles"), (f"{sum(found.overlaps.values()):,}", "overlap with evaluation")]
    parts = [
        f"<h1>{escape(found.name)}</h1><p class=soft>Training pairs, inspected</p>",
        "<div class=tiles>",
        *(f"<div class=tile><b>{escape(number)}</b>{escape(what)}</div>" for number, what in tiles),
        "</div>",
        "<div class='grid wide'>",
        _counts("Styles", found.styles.items()),
        _counts("Removed by gates", sorted(found.notes.get("removed", {}).items())) if found.notes else "",
        _counts("Repeated texts", found.duplicates, bars=False),
        _counts("Pairs with a text of an evaluation task", found.overlaps.items(), bars=False),
        "</div><h2>Distributions</h2><div class=grid>",
        *(f"<div class=card>{_chart(histogram)}</div>" for histogram in found.histograms),
        "</div>",
        *(f"<h2>{escape(style)}</h2>{_pairs(rows)}" for style, rows in found.examples.items()),
        *_removed(found.notes.get("examples", {})),
        _settings(found.notes),
    ]
    return (
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f"<title>{escape(found.name)}</title><style>{_CSS}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _counts(title: str, counts: Iterable[tuple[str, int]], bars: bool = True) -> str:
    rows = list(counts)
    top = max([count for _, count in rows], default=0) or 1
    body = "".join(
        f"<tr><td>{escape(name)}</td>{_bar(count / top) if bars else ''}<td class=n>{count:,}</td></tr>"
        for name, count in rows
    )
    body = body or "<tr><td class=soft>nothing</td></tr>"
    return f"<section><h2>{title}</h2><div class=card><table>{body}</table></div></section>"


def _bar(share: float) -> str:
    return f'<td class=bar><span style="width:{share:.0%}"></span></td>' if share else "<td></td>"


def _chart(histogram: Histogram) -> str:
    """Return a histogram as an image that fits its box, the median as a dashed line."""
    top = max(*histogram.counts, 1)
    step = _WIDTH / len(histogram.counts)
    bars = "".join(
        f'<rect x="{i * step + 0.75:.2f}" y="{_HEIGHT - _HEIGHT * count / top:.2f}" width="{step - 1.5:.2f}" '
        f'height="{_HEIGHT * count / top:.2f}" rx="1"><title>{histogram.edges[i]:.3g} to {histogram.edges[i + 1]:.3g}: '
        f"{count:,}</title></rect>"
        for i, count in enumerate(histogram.counts)
    )
    low, high = histogram.edges[0], histogram.edges[-1]
    place = _WIDTH * min(1.0, max(0.0, (histogram.median - low) / (high - low)))
    label = f"{histogram.title}; median {histogram.median:.3g}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role=img aria-label="{escape(label)}">{bars}'
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<line class=median x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="{_HEIGHT}"/>'
        f'<text x="0" y="{_HEIGHT + 14}">{low:.3g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{high:.3g}</text></svg>'
        f"<p>{escape(histogram.title)} <span class=soft>· median {histogram.median:.3g}</span></p>"
    )


def _pairs(rows: Sequence[Mapping[str, Any]], kind: str = "") -> str:
    return f"<div class='card {kind}'>{''.join(_pair(row) for row in rows)}</div>"


def _pair(row: Mapping[str, Any]) -> str:
    scores = {name.removeprefix(SCORE): row[name] for name in row if name.startswith(SCORE) and row[name] is not None}
    facts = [row["style"]] if not scores and "source_row" not in row and row.get("style") else []
    facts += [f"source row {row['source_row']}"] if "source_row" in row else []
    facts += [f"{name} {value:.2f}" for name, value in scores.items()]
    against = "".join(f"<p class=soft>not: {escape(text)}</p>" for text in row.get("negatives") or ())
    tags = "".join(f"<span class=tag>{escape(str(fact))}</span>" for fact in facts)
    made = escape(row["positive"]) or "<span class=soft>(empty)</span>"
    return f"<div class=pair><p>{escape(row['anchor'])}</p><p class=made>{made}</p>{against}<p>{tags}</p></div>"


def _removed(examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterable[str]:
    if examples:
        yield "<h2>What the gates removed</h2>"
    for reason, rows in sorted(examples.items()):
        yield f"<details><summary>{escape(reason)}</summary>{_pairs(rows, 'gone')}</details>"


def _settings(notes: Mapping[str, Any]) -> str:
    if "settings" not in notes:
        return ""
    import json

    text = json.dumps(notes["settings"], indent=2, ensure_ascii=False)
    return f"<h2>How it was made</h2><details><summary>Settings</summary><pre>{escape(text)}</pre></details>"
