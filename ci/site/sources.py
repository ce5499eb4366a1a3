"""Show the source files that pages link to as pages of the site.

A page may link to a file of the repository, such as `../chaos/target.py`. The site has no such file, so each one
becomes a page below `source/`, and a folder becomes a list of its files. A missing file is a warning, which
`--strict` makes an error.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from properdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)(?=\))")
LANGUAGES = {"yml": "yaml", "py": "python", "mjs": "javascript", "rb": "ruby", "sh": "bash"}

logger = logging.getLogger("properdocs.hooks.sources")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file outside docs/ that a page links to."""
    for file in list(files.documentation_pages()):
        for link in LINK.findall(file.content_string):
            source = _outside(file.src_uri, link)
            if source is None or files.get_file_from_path(_page(source)):
                continue
            if not source.exists():
                logger.warning("%s links to %s, which does not exist.", file.src_uri, link)
                continue
            files.append(File.generated(config, _page(source), content=_shown(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files outside docs/ to their pages."""

    def pointed(link: re.Match[str]) -> str:
        source = _outside(page.file.src_uri, link[0])
        return link[0] if source is None else os.path.relpath(_page(source), Path(page.file.src_uri).parent)

    return LINK.sub(pointed, markdown)


def _outside(page: str, link: str) -> Path | None:
    """The file of the repository that a link leads to, or None where it stays in docs/."""
    target = (DOCS / page).parent.joinpath(link).resolve()
    return None if target.is_relative_to(DOCS) else target


def _page(source: Path) -> str:
    return f"source/{str(source.relative_to(ROOT)).lstrip('.')}.md"  # a hidden folder would be left out


def _shown(source: Path) -> str:
    title = f"# {source.relative_to(ROOT)}\n\n"
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return title + "".join(f"- `{path.relative_to(ROOT)}`\n" for path in files)
    language = LANGUAGES.get(source.suffix[1:], source.suffix[1:])
    return f"{title}````{language}\n{source.read_text()}\n````\n"
