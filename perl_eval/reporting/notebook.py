"""Results as a notebook shows them: HTML without script, whose colours fit a light and a dark page.

Everything that comes from outside is escaped, and what cannot be seen is written out.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from perl_eval.outcomes import outcomes_of, pooled, word
from perl_eval.records import Estimate, Measurement
from perl_eval.reporting.format import count, number, visible
from perl_eval.reporting.svg_curves import CurveLine, panel

__all__ = ["curves_html", "decisions_html", "figures_html", "framed", "outcomes_html", "table"]

_SHADES = {"win": "#0072b2", "yes": "#0072b2", "undecided": "#b4bcc4", "loss": "#d55e00", "no": "#d55e00"}
_PANELS = 12


def _text(value: object) -> str:
    return html.escape(visible(str(value)))


def framed(title: str, facts: Sequence[str], body: str) -> str:
    """Return a result with what it is above it.

    Args:
        title: What it is.
        facts: What else is known of it, a few words each.
        body: Its HTML.
    """
    line = " · ".join(map(_text, facts))
    return f'<div class="perl-eval"><p><b>{_text(title)}</b> <small>{line}</small></p>{body}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], more: Sequence[str] = ()) -> str:
    """Return a table.

    Args:
        columns: Names of its columns.
        rows: Cells of text.
        more: Lines below it.
    """
    return _table(columns, [[_text(cell) for cell in row] for row in rows], more)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], more: Sequence[str] = ()) -> str:
    head = "".join(f'<th scope="col" style="text-align:left">{_text(name)}</th>' for name in columns)
    lines = ("".join(f'<td style="text-align:left">{cell}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    below = "".join(f"<p>{_text(line)}</p>" for line in more)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def _whisker(estimate: Estimate) -> str:
    """Draw an interval in [0, 1] or [-1, 1]; nothing for other figures."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None or low is None or high is None or not -1 <= low <= value <= high <= 1:
        return ""
    start, width = (0.0, 1.0) if low >= 0 else (-1.0, 2.0)
    left, middle, right, half = (
        2 + 100 * (place - start) / width for place in (low, value, high, 0.5 if start == 0 else 0.0)
    )
    return (
        '<svg width="104" height="12" viewBox="0 0 104 12" aria-hidden="true" stroke="currentColor">'
        f'<path d="M2 6H102M{half:g} 2V10" opacity="0.4"/><path d="M{left:g} 6H{right:g}" stroke-width="3"/>'
        f'<circle cx="{middle:g}" cy="6" r="3" fill="currentColor"/></svg>'
    )


def figures_html(estimates: Sequence[Estimate], more: Sequence[str] = ()) -> str:
    """Return figures with their intervals, drawn where they are shares or differences of shares."""
    rows = []
    for one in estimates:
        if one.value is None:
            value = f"<i>none: {_text(one.reason or 'undefined')}</i>"
        else:
            value = f"{one.value:,.0f}" if one.kind == "count" else number(one.value)
        interval = "" if one.low is None or one.high is None else f"{number(one.low)} to {number(one.high)}"
        mark = " <small>simulated</small>" if one.simulated else ""
        rows.append(
            [
                _text(one.name) + mark,
                value,
                interval,
                _whisker(one),
                count(one.n),
                _text(one.subject),
                _text(one.method),
            ]
        )
    return _table(("figure", "value", "interval", "", "n", "about", "method"), rows, more)


def decisions_html(sentences: Sequence[str], estimates: Sequence[Estimate]) -> str:
    """Return what is decided, a sentence a comparison, and the figures behind it, folded."""
    lines = "".join(f"<li>{_text(line)}</li>" for line in sentences)
    return f"<ul>{lines}</ul><details><summary>figures</summary>{figures_html(estimates)}</details>"


def outcomes_html(groups: Mapping[tuple[str, ...], Mapping[str, int]]) -> str:
    """Return the outcomes of each comparison as a bar and as counts.

    Args:
        groups: Counts by outcome, of each ``(a, b, judge, kind)``.
    """
    rows = []
    for (a, b, judge, kind), counts in groups.items():
        total = sum(counts.values())
        start, parts, said = 0.0, [], []
        for outcome in outcomes_of(kind):
            n = counts.get(outcome, 0)
            if not n:
                continue
            share = 200 * n / total
            shade = _SHADES.get(pooled(outcome), "none")
            parts.append(f'<rect x="{start:.1f}" width="{share:.1f}" height="12" fill="{shade}" stroke="#808080"/>')
            said.append(f"{word(outcome)} {count(n)}")
            start += share
        words = _text(", ".join(said))
        bar = f'<svg width="201" height="12" role="img" aria-label="{words}">{"".join(parts)}</svg>'
        who = f"{a} against {b}" if b else a
        rows.append([_text(who), _text(judge), count(total), bar, words])
    return _table(("comparison", "judge", "judgements", "", "outcomes"), rows)


def curves_html(points: Sequence[Measurement]) -> str:
    """Return the curve of each metric, and its last value."""
    metrics: dict[str, list[tuple[float, float]]] = {}
    for one in points:
        metrics.setdefault(one.metric, []).append((one.step, one.value))
    drawn = [panel(name, [("", 0, sorted(own))]) for name, own in list(metrics.items())[:_PANELS]]
    figures = "".join(_panel(one.metric, one.lines[0]) for one in drawn if one.lines)
    left = len(metrics) - _PANELS
    more = f"<p>and {left} more metrics; see to_pandas()</p>" if left > 0 else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{figures}</div>{more}'


def _panel(metric: str, line: CurveLine) -> str:
    paths = "".join(f'<path d="{path}" fill="none" stroke="#0072b2" stroke-width="2"/>' for path in line.paths)
    dots = "".join(f'<circle cx="{x:g}" cy="{y:g}" r="3" fill="#0072b2"/>' for x, y in line.dots)
    words = f"{metric}: {number(line.first)} to {number(line.last)}"
    return (
        f'<figure style="margin:0"><figcaption>{_text(words)}</figcaption>'
        f'<svg width="213" height="127" viewBox="0 0 320 190" role="img" aria-label="{_text(words)}">'
        f'<path d="M46 166H310M46 10V166" stroke="currentColor" fill="none" opacity="0.4"/>{paths}{dots}</svg></figure>'
    )
