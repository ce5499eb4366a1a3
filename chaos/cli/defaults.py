"""`[tool.zeroloss]` in pyproject.toml: a team's defaults for `run`, `prove` and `enumerate`."""

import os
import tomllib
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from .common import UsageError
from .common import app as zeroloss

COMMANDS = ("run", "prove", "enumerate")
PROJECT_FILE = Path("pyproject.toml")
NOT_A_DEFAULT = ("out", "resume")
"""Options without a default: their values belong to a single run."""


def apply_defaults(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill in options that the command line leaves out, from the command's own table, else from [tool.zeroloss].

    Raises UsageError: a name is not an option, or the file can't be read.
    """
    from ..system.environment import DEFAULTS_VARIABLE, DURABILITY_VARIABLE

    if len(commands) != 1 or commands[0] not in COMMANDS or os.environ.get(DEFAULTS_VARIABLE) == "off":
        return
    (command,) = commands
    shared = _table(_read(), "tool", "zeroloss")
    if not shared:
        return
    options = {name: _options_of(name) for name in COMMANDS}
    own = {name: _table(shared, name) for name in COMMANDS if name in shared}
    for name, table in own.items():
        _refuse_unknown(table, f"[tool.zeroloss.{name}]", f"`zeroloss {name}`", options[name])
    everywhere = {key: value for key, value in shared.items() if key not in COMMANDS}
    _refuse_unknown(everywhere, "[tool.zeroloss]", "these commands", set().union(*options.values()))
    chosen = {key: value for key, value in everywhere.items() if _spelt(key) in options[command]}
    chosen = {_spelt(key): value for key, value in (chosen | own.get(command, {})).items()}
    if os.environ.get(DURABILITY_VARIABLE):  # the environment wins over the file
        chosen.pop("durability", None)
    # Nested below the command: a flat Dict would drop options that are named like a command, such as `faults`.
    Dict({command: chosen}, source=str(PROJECT_FILE))(app, commands, arguments)


def _read() -> dict[str, Any]:
    try:
        return tomllib.loads(PROJECT_FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{PROJECT_FILE} can't be read for the defaults in [tool.zeroloss]: {error}.") from None


def _table(table: dict[str, Any], *path: str) -> dict[str, Any]:
    found: Any = table
    for key in path:
        found = found.get(key, {})
        if not isinstance(found, dict):
            raise UsageError(f"{key} in {PROJECT_FILE} must be a table, not {found!r}.")
    return dict(found)


def _options_of(command: str) -> set[str]:
    names = {name for argument in zeroloss[command].assemble_argument_collection() for name in argument.names}
    return {name.removeprefix("--") for name in names} - set(NOT_A_DEFAULT)


def _refuse_unknown(table: dict[str, Any], place: str, of: str, options: set[str]) -> None:
    for key in table:
        if _spelt(key) not in options:
            known = ", ".join(sorted(name for name in options if not name.startswith("no-")))
            raise UsageError(
                f"{place} in {PROJECT_FILE}: {key} is not an option of {of} with a default; use one of {known}."
            )


def _spelt(key: str) -> str:
    return key.replace("_", "-")
