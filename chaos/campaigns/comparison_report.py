"""What `zeroloss compare` writes: comparison.json, comparison.md and a self-contained comparison.html."""

from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader

from ..checker.wording import duration
from .compare import COMPARISON_NAME, Cell, Comparison

MARKDOWN_NAME = "comparison.md"
HTML_NAME = "comparison.html"
OF_TARGET = "target's "
"""Prefix, in a result, of the versions in the target's own environment."""


def write(directory: Path, comparison: Comparison, also: Path | None = None) -> None:
    """Write all three files into the directory. `also`: another file for the Markdown."""
    pages = {
        COMPARISON_NAME: (msgspec.json.format(msgspec.json.encode(comparison)) + b"\n").decode(),
        MARKDOWN_NAME: render("comparison.md.j2", comparison),
        HTML_NAME: render("comparison.html.j2", comparison),
    }
    for name, text in pages.items():
        (directory / name).write_text(text)
    if also is not None:
        also.parent.mkdir(parents=True, exist_ok=True)
        also.write_text(pages[MARKDOWN_NAME])


def render(template: str, comparison: Comparison) -> str:
    """Return one page."""
    environment = Environment(
        loader=PackageLoader("zeroloss", "campaigns"),
        autoescape=template.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(redelivery=redelivery, versions=versions)
    environment.filters["cell"] = _table_cell
    return environment.get_template(template).render(c=comparison)


def redelivery(cell: Cell) -> str:
    """Return how long interrupted tasks waited for their next execution, and how many never had one."""
    times = cell.redelivery_ms
    shown = [f"median {duration(times.median)}, max {duration(times.max)}"] if times else []
    if cell.never:
        shown.append(f"{cell.never} of {cell.struck} never")
    return "; ".join(shown) or "-"


def versions(comparison: Comparison, target: str) -> str:
    """Return the versions of the target, its Python, and the server."""
    found = comparison.versions_of(target)
    named = {name.removeprefix(OF_TARGET): version for name, version in found.items() if name.startswith(OF_TARGET)}
    if server := found.get("server"):
        named["server"] = server
    return ", ".join(f"{name} {version}" for name, version in named.items())


def _table_cell(text: str) -> str:
    """Return the text on one line, safe for a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
