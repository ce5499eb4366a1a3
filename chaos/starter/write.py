"""`zeroloss init`: a starter target, a test and a workflow in a repository, which run as they are written."""

import ast
import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from keyword import iskeyword
from pathlib import Path
from urllib.parse import urlsplit

import jinja2

from .languages import LANGUAGES, STANDIN, standin

TARGET = Path("tests/zeroloss_target.py")
TEST = Path("tests/test_zeroloss.py")
WORKFLOW = Path(".github/workflows/zeroloss.yml")
IGNORE = Path(".gitignore")
IGNORED = ("/zeroloss-runs/", "/zeroloss-report/")
CLASS = "MyQueue"
FILES_MAX = 2_000
SUBMITTING = ("enqueue", "submit", "send")
"""Names of a function that takes a payload and submits it, the likeliest first."""
_NOT_SOURCE = {"tests", "test", "docs", "build", "dist", "node_modules", "venv", "env", "zeroloss-runs"}


class InitError(Exception):
    """Nothing was written; the text is one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a repository says of its queue."""

    worker: str | None
    """The module that `python -m` runs."""
    enqueue: tuple[str, str] | None
    """The module and the function that takes a payload."""
    requirements: str
    """Further arguments of pip that install what the queue needs."""
    records: bool
    """Some module calls `zeroloss.ledger.effect` already."""


def explore(root: Path) -> Findings:
    """Search the Python files below `root` for a worker and for functions that submit tasks. Nothing is imported.

    A part of the result for which no file, or more than one, qualifies is None.
    """
    workers: list[str] = []
    functions: dict[str, list[str]] = {name: [] for name in SUBMITTING}
    records = False
    for path in _sources(root):
        try:
            text = path.read_text()
            tree = ast.parse(text)
        except (OSError, SyntaxError, ValueError):
            continue
        records = records or "zeroloss.ledger" in text
        module = _module(root, path)
        if module is None:
            continue
        if "worker" in module.rpartition(".")[2] and any(map(_is_main, tree.body)):
            workers.append(module)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name in functions and _takes_one(node.args):
                functions[node.name].append(module)
    candidates = [(modules[0], name) for name, modules in functions.items() if len(modules) == 1]
    requirements = " -r requirements.txt" if (root / "requirements.txt").is_file() else ""
    if (root / "pyproject.toml").is_file() or (root / "setup.py").is_file():
        requirements = " ."
    return Findings(
        worker=workers[0] if len(workers) == 1 else None,
        enqueue=candidates[0] if candidates else None,
        requirements=requirements,
        records=records,
    )


def write_starter(root: Path, findings: Findings, recover_within_s: float, language: str | None = None) -> list[Path]:
    """Write the files; returns them. Raises InitError: one of them is there already.

    `language`: of `LANGUAGES`, whose stand-in is tested until it is replaced; None: Python.
    """
    if language or (findings.worker is None) != (findings.enqueue is None):
        # Half of a queue can't be run.
        findings = replace(findings, worker=None, enqueue=None)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # what is written is Python and YAML
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    texts = {} if language is None else standin(language)
    for path, template in ((TARGET, "target.py.j2"), (TEST, "test.py.j2"), (WORKFLOW, "workflow.yml.j2")):
        texts[path] = templates.get_template(template).render(
            worker=findings.worker,
            enqueue=findings.enqueue,
            requirements=findings.requirements,
            zeroloss=own_requirement(),
            recover_within=f"{recover_within_s:g}",
            target=f"{TARGET}:{CLASS}",
            language=LANGUAGES[language] if language else None,
            standin=STANDIN.name,
        )
    taken = [path for path in texts if (root / path).exists()]
    if taken:
        raise InitError(f"{root / taken[0]} exists and is not overwritten: remove it first.")
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return [*texts, *_ignore_runs(root / IGNORE)]


def _ignore_runs(path: Path) -> list[Path]:
    """Have git ignore what runs leave; the file, if that was not so already."""
    text = path.read_text() if path.exists() else ""
    missing = [line for line in IGNORED if line not in text.splitlines()]
    if not missing:
        return []
    path.write_text("\n".join([*text.splitlines(), *missing, ""]))
    return [IGNORE]


def own_requirement() -> str | None:
    """What pip installs this very zeroloss from; None: no other machine can, or it is unknown.

    An installation by name has a version alone; others say where they came from in direct_url.json (PEP 610).
    """
    try:
        installed = importlib.metadata.distribution("zeroloss")
    except importlib.metadata.PackageNotFoundError:
        return None
    text = installed.read_text("direct_url.json")
    if text is None:
        # Without an installer it is a folder that was built in, and came from no index.
        return f"zeroloss=={installed.version}" if installed.read_text("INSTALLER") else None
    origin = json.loads(text)
    url, vcs, archive = origin["url"], origin.get("vcs_info"), origin.get("archive_info", {})
    if urlsplit(url).scheme == "file" or "@" in urlsplit(url).netloc:
        return None
    fragments = [f"subdirectory={origin['subdirectory']}"] if "subdirectory" in origin else []
    fragments += [f"sha256={digest}" for name, digest in archive.get("hashes", {}).items() if name == "sha256"]
    where = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    return f"zeroloss @ {where}" + (f"#{'&'.join(fragments)}" if fragments else "")


def _sources(root: Path) -> Iterator[Path]:
    """Modules in the folder itself, in `src`, and in packages; a bounded number of them."""
    count = 0
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if any(part.startswith(".") or part in _NOT_SOURCE for part in parts) or "site-packages" in parts:
            continue
        count += 1
        if count > FILES_MAX:
            return
        yield path


def _module(root: Path, path: Path) -> str | None:
    """What it is imported as; None: it can't be."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    parts = parts[:-1] if parts and parts[-1] in ("__init__", "__main__") else parts
    named = all(part.isidentifier() and not iskeyword(part) for part in parts)
    return ".".join(parts) if parts and named else None


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _takes_one(arguments: ast.arguments) -> bool:
    """It can be called with the payload alone."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    return positional - len(arguments.defaults) == 1 and None not in arguments.kw_defaults
