"""What others than Locust have to know of a profile. Locust reads the same file by itself, with `--config`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class ProfileError(Exception):
    """A profile that can't be read; the text is one sentence."""


@dataclass(frozen=True)
class Profile:
    """`system`: settings of the system that the load is meant for."""

    system: Mapping[str, str]


def read_profile(path: Path) -> Profile:
    """Raises ProfileError."""
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ProfileError(f"The profile {path} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ProfileError(f"The profile {path} can't be read: it is no text.") from None
    found = [line.partition("=")[2].strip() for line in lines if re.match(r"system\s*=", line)]
    words = found[-1].split() if found else []
    if wrong := [word for word in words if "=" not in word]:
        raise ProfileError(f"{path}: system has to be NAME=VALUE ..., not {wrong[0]!r}.")
    return Profile({name: value for name, _, value in (word.partition("=") for word in words)})
