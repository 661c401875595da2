# SPDX-License-Identifier: Apache-2.0
"""The demo's own words as a picture for the README."""

from __future__ import annotations

import html
from pathlib import Path

_WIDTH, _LINE, _SIZE, _MARGIN = 980, 20, 14, 18  # pixels
_COLUMNS = 112
_COLOURS = {"==": "#e6c07b", " ·": "#abb2bf", "  ": "#7f8896"}


def draw(lines: list[str], out: Path) -> None:
    """Write lines as an SVG of a terminal; the colour tells acts, steps and remarks apart."""
    height = 2 * _MARGIN + _LINE * (len(lines) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="ui-monospace,Menlo,Consolas,monospace" font-size="{_SIZE}">',
        "<title>make demo</title>",
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#21252b"/>',
    ]
    for number, line in enumerate(["$ make demo", *lines]):
        colour = _COLOURS.get(line[:2], "#98c379")
        y = _MARGIN + _LINE * (number + 1) - 6
        text = html.escape(line[:_COLUMNS])
        parts.append(f'<text x="{_MARGIN}" y="{y}" fill="{colour}" xml:space="preserve">{text}</text>')
    out.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
