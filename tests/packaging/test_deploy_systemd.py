"""The systemd units: they are valid, give a service few rights, and allow enough time for a stop."""

import configparser
import re
import sys
from pathlib import Path

import pytest
from support.deploy import DEPLOY, stop_takes_s, understood
from support.processes.programs import system_tool
from zeroloss.reference.options import HEALTH_PORT
from zeroloss.reference.queue.config import load_config, unknown_variables
from zeroloss.reference.worker.supervisor import USAGE_STATUS

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
PLACE = "/opt/zeroloss/bin/zeroloss"
EXPOSURE_MAX = 15  # in tenths of a point, on a scale from 0 (safest) to 10 points


class Unit(configparser.RawConfigParser):
    """A unit file. Of a repeated key only the last value is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False)
        self.optionxform = str  # type: ignore[method-assign, assignment]
        self.read(path)


def environment() -> dict[str, str]:
    lines = (SYSTEMD / "zeroloss.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def words(unit: Unit) -> list[str]:
    """Return the words of the unit's command, with the variables of the environment file expanded."""
    return [
        re.sub(r"\$\{(\w+)\}", lambda found: environment()[found[1]], word)
        for word in unit["Service"]["ExecStart"].split()
    ]


def test_there_is_a_unit_for_each_part() -> None:
    assert [path.stem for path in UNITS] == ["zeroloss-monitor", "zeroloss-producer", "zeroloss-worker"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_what_systemd_reads(path: Path, tmp_path: Path) -> None:
    """The path of the program is replaced by this machine's, because systemd checks that it exists."""
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace(PLACE, str(Path(sys.executable).with_name("zeroloss"))))
    assert system_tool("systemd-analyze", "systemd", "verify", "--man=no", copy) == ""


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_leaves_its_service_few_rights(path: Path) -> None:
    threshold = f"--threshold={EXPOSURE_MAX}"
    system_tool("systemd-analyze", "systemd", "security", "--no-pager", "--offline=true", threshold, path)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_runs_a_command_of_the_queue_and_stops_it_in_order(path: Path) -> None:
    unit = Unit(path)
    service = unit["Service"]
    program, *rest = words(unit)
    assert (program, rest[0]) == (PLACE, "queue")
    options = understood(rest[1:])
    assert path.stem == f"zeroloss-{rest[1]}"
    assert (service["KillMode"], service.get("KillSignal", "SIGTERM")) == ("mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) >= stop_takes_s(options)
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", str(USAGE_STATUS))
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_worker_answers_for_its_health_where_the_command_asks() -> None:
    assert understood(words(Unit(SYSTEMD / "zeroloss-worker.service"))[2:]).health_port == HEALTH_PORT


def test_the_environment_s_file_has_all_that_the_units_read_and_settings_that_there_are() -> None:
    used = {name for path in UNITS for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert environment().keys() == used | {"REDIS_URL"}
    assert unknown_variables(environment()) == []
    assert load_config(environment()).redis_url == environment()["REDIS_URL"]
