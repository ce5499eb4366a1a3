"""`--faults`: the requested faults, their counts and options."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

import msgspec

from ..faults import FAULTS, Fault, load_faults

MIX = "mix"
"""Stands for faults drawn from the seed; see `mix.py`."""


class PlanError(Exception):
    """The request is invalid, or a plan can't be read; the text is one sentence for the user."""


class FaultRequest(msgspec.Struct, frozen=True):
    """A requested fault: `name:count=3,option=x`."""

    fault: str
    count: int
    options: dict[str, Any]
    at_end: bool = False
    """Whether the fault is planned at the end, after all faults without this flag."""


def parse_faults(text: str, kills: int | None) -> list[FaultRequest]:
    """Read `worker-sigkill:count=50,server-sigkill:down_s=2,count=3`.

    `kills`: the count of a worker fault that has no count of its own.

    Raises:
        PlanError: an unknown fault or option, or an invalid value.
    """
    if kills is not None:
        checked_kills(kills)
    requests: list[tuple[str, dict[str, str]]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, options = part.partition(":")
        if not options and "=" in part and requests:
            name, options = "", part  # another option of the previous fault
        if name:
            requests.append((name, {}))
        for option in filter(None, options.split(":")):
            key, equals, value = option.partition("=")
            if not equals:
                raise PlanError(f"--faults: {option!r} is not an option; write {requests[-1][0]}:name=value.")
            requests[-1][1][key.strip()] = value.strip()
    if not requests:
        raise PlanError("--faults is empty; for a run without faults use --faults none.")
    for name, _ in requests:
        if name == MIX:
            raise PlanError(f"--faults {name} cannot be combined, and takes no option but --kills.")
        if len(requests) > 1 and known_fault(name).baseline:
            raise PlanError(f"--faults {name} cannot be combined: it is a baseline.")
    return [_request(name, options, kills) for name, options in requests]


def parse_work_ms(text: str) -> tuple[int, int]:
    """Read `MIN:MAX`, in ms. Raises PlanError if the text is invalid."""
    least, _, most = text.partition(":")
    if not (least.isdecimal() and most.isdecimal() and text.isascii() and int(least) <= int(most)):
        raise PlanError(f"--work-ms must be MIN:MAX in milliseconds, as 0:50, not {text!r}.")
    return int(least), int(most)


def checked_kills(kills: int) -> int:
    """Return the same number. Raises PlanError if it is invalid."""
    if kills < 1:
        raise PlanError(f"--kills must be at least 1, not {kills}; for none use --faults none.")
    return kills


def _request(name: str, texts: Mapping[str, str], kills: int | None) -> FaultRequest:
    fault = known_fault(name)
    options: dict[str, Any] = dict(texts)
    count = fault.count
    if "count" in options:
        text = options.pop("count")
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise PlanError(f"--faults {name}: count must be a whole number of at least 1, not {text!r}.")
        count = int(text)
    elif kills is not None and fault.aims_at == "worker" and not fault.last:
        count = kills
    types = typing.get_type_hints(fault)
    for key, value in options.items():
        if key in {field.name for field in dataclasses.fields(fault)}:
            options[key] = _read(name, key, value, types[key])
    build_fault(name, options)
    return FaultRequest(name, count, options)


def _read(name: str, key: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        wanted = " or ".join(map(str, typing.get_args(kind))) or f"a {kind.__name__}"
        raise PlanError(f"--faults {name}: {key} can't be {text!r}, it must be {wanted}.") from None


def build_fault(name: str, options: Mapping[str, Any]) -> Fault:
    """Return the fault with its options. Raises PlanError for an unknown fault or option, or an invalid number."""
    fault = known_fault(name)
    fields = {field.name: field for field in dataclasses.fields(fault)}
    for key, value in options.items():
        if key not in fields:
            has = ", ".join(["count", *fields])
            raise PlanError(f"--faults {name}: it has no option {key!r}, but {has}.")
        least = fields[key].metadata.get("least", 0)
        if isinstance(value, int | float) and not least <= value < math.inf:
            raise PlanError(f"--faults {name}: {key} must be a number of at least {least}, not {value:g}.")
    return fault(**options)


def known_fault(name: str) -> type[Fault]:
    """Return the fault class of this name. Raises PlanError if the name is unknown."""
    if name not in FAULTS:
        known = ", ".join(fault.name for fault in load_faults())
        if name not in FAULTS:  # `load_faults` has not added it either
            raise PlanError(f"There is no fault {name!r}; `zeroloss faults` lists them: {known}.")
    return FAULTS[name]
