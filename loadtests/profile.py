"""Reads a profile for programs other than Locust, which reads the same file itself, with `--config`.

Locust searches the profile's locustfiles in the current folder. This module also searches beside the profile and in
this package, so that a profile can be used from any folder.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parent


class ProfileError(Exception):
    """A profile that can't be read; the text is one sentence."""


@dataclass(frozen=True)
class Profile:
    """A profile. `system`: settings of the system for this load. `locustfiles`: the paths of its code."""

    path: Path
    system: Mapping[str, str]
    locustfiles: Sequence[Path]

    def text(self) -> str:
        """Return the profile's text for `locust --config` in any folder: with whole paths of the locustfiles."""
        files = f"locustfile = {','.join(map(str, self.locustfiles))}"
        lines = [line for line in self.path.read_text().splitlines() if not re.match(r"locustfile\s*=", line)]
        return "\n".join([*lines, files, ""])

    def options(self) -> list[str]:
        """Return Locust's options for this profile, for any current folder."""
        return ["--config", str(self.path), "--locustfile", ",".join(map(str, self.locustfiles))]


def read_profile(name: str) -> Profile:
    """Read a profile by its path, or by the name of a profile of this package: `smoke`.

    Raises:
        ProfileError: there is no such profile, or it can't be read.
    """
    shipped = _HERE / "profiles" / f"{name}.conf"
    path = Path(name) if Path(name).exists() or not shipped.exists() else shipped
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        shipped_names = ", ".join(sorted(each.stem for each in shipped.parent.glob("*.conf")))
        raise ProfileError(f"There is no profile {path}; shipped ones are {shipped_names}.") from None
    except OSError as error:
        raise ProfileError(f"The profile {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ProfileError(f"The profile {path} can't be read: it is not text.") from None
    words = _last(lines, "system").split()
    if wrong := [word for word in words if "=" not in word]:
        raise ProfileError(f"{path}: system must be NAME=VALUE ..., not {wrong[0]!r}.")
    system = {setting: value for setting, _, value in (word.partition("=") for word in words)}
    files = _last(lines, "locustfile") or "locustfile.py"
    return Profile(path, system, [_locustfile(path, one.strip()) for one in files.split(",")])


def _last(lines: Sequence[str], option: str) -> str:
    found = [line.partition("=")[2].strip() for line in lines if re.match(rf"{option}\s*=", line)]
    return found[-1] if found else ""


def _locustfile(profile: Path, name: str) -> Path:
    """Find a locustfile: in the current folder, as Locust does, else beside the profile, else in this package."""
    for place in (Path(name), profile.parent / name, _HERE / name.removeprefix("loadtests/")):
        if place.is_file():
            return place.resolve()
    raise ProfileError(f"{profile}: there is no locustfile {name} here, beside the profile or in {__package__}.")
