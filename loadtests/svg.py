"""The pieces of a plot as SVG: no library, and no text that is not escaped."""

from collections.abc import Iterable
from html import escape


def document(width: int, height: int, style: str, parts: Iterable[str]) -> str:
    """The file. `style`: CSS for the classes of its parts."""
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>{style}</style>'
    return "\n".join([opening, *parts, "</svg>\n"])


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """A line of the class `kind`."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "", colour: str = "") -> str:
    """Words that begin, have their middle, or end at `x`, by `anchor`."""
    style = f' style="fill:{colour}"' if colour else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def dot(x: float, y: float, radius: float, colour: str, filled: bool = True) -> str:
    """A circle; hollow where it is not filled."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" stroke="{colour}" fill="{colour if filled else "white"}"/>'
