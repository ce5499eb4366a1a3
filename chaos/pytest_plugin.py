"""A fixture for pytest that kills a queue under test.

    def test_my_queue_survives(zeroloss):
        zeroloss.run(MyQueue(), faults=["worker-sigkill", "server-sigkill"], tasks=500, kills=20).assert_at_least_once()

Tests that use the fixture get the marker `zeroloss`, so that `-m "not zeroloss"` deselects them. An explicit
`@pytest.mark.zeroloss(tasks=500)` sets options for every `run` in a test. Every pytest loads this module if the package
is installed, so heavy modules are imported only when something is run.
"""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .checker.verdicts import Result
    from .target import Target

MARKER = "zeroloss"
ARTIFACTS = "zeroloss-runs"
_OF_EVERY_TARGET = {"redis_url", "namespace", "directory"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("zeroloss", "zeroloss: what a task queue loses when it is killed")
    group.addoption(
        "--zeroloss-backend", metavar="SERVER", help="auto, embedded, container, or the URL of an empty database (auto)"
    )
    group.addoption("--zeroloss-seed", metavar="N", type=int, help="repeats runs; else each draws its own")
    group.addoption(
        "--zeroloss-artifacts", metavar="DIR", help=f"where runs leave their reports and histories ({ARTIFACTS})"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARKER}(**options): uses the fixture `zeroloss`; options of its runs")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the marker before `-m` selects tests."""
    for item in items:
        if "zeroloss" in getattr(item, "fixturenames", ()) and item.get_closest_marker(MARKER) is None:
            item.add_marker(MARKER)


@pytest.fixture
def zeroloss(request: pytest.FixtureRequest) -> "Zeroloss":
    """Runs task queues under faults: `zeroloss.run(MyQueue(), ...).assert_at_least_once()`."""
    return Zeroloss(request.node)


class Zeroloss:
    """The value of the fixture in a test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item

    def run(self, target: "Target | type[Target] | str", **options: Any) -> "Survival":
        """Run a target to the end, as `zeroloss run` does, in a process of its own.

        `target`: a class, an instance made without arguments, or a name as on the command line. `options`: those of
        `zeroloss run`, such as faults (a list or text), tasks, kills, workers, seed, redis. They override the options
        of the marker, and pytest's command line overrides them. The test fails if the run could not be carried out.
        """
        from .campaigns.subharness import run_harness
        from .report.result import read

        directory = self._new_directory()
        words = ["run", "--target", _spec(target), *_words(self._chosen(options)), "--out", str(directory)]
        log = directory.with_name(f"{directory.name}.log")
        ended = run_harness(words, log_path=log)
        self._item.user_properties.append(("zeroloss", str(directory)))
        try:
            result = read(directory)
        except FileNotFoundError:
            result = None
        # With status 2 or 70, a result, if there is one, is of an unfinished run.
        if result is None or ended.poll() != result.exit_code:
            pytest.fail(f"The run could not be carried out (status {ended.poll()}): {ended.log_tail()}", pytrace=False)
        return Survival(result, directory)

    def _chosen(self, options: dict[str, Any]) -> dict[str, Any]:
        marker = self._item.get_closest_marker(MARKER)
        config = self._item.config
        given = {"redis": config.getoption("--zeroloss-backend"), "seed": config.getoption("--zeroloss-seed")}
        given = {name: value for name, value in given.items() if value is not None}
        return {**(marker.kwargs if marker else {}), **options, **given}

    def _new_directory(self) -> Path:
        """Make a run's directory here, not in the harness, so that two pytest-xdist processes never choose the same."""
        config = self._item.config
        given = config.getoption("--zeroloss-artifacts")
        parent = Path(config.invocation_params.dir, given) if given else config.rootpath / ARTIFACTS
        parent.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w.-]+", "-", self._item.name)[:80].strip("-")
        number = 1
        while True:
            directory = parent / f"{name}-{number}"
            try:
                directory.mkdir()
            except FileExistsError:
                number += 1
            else:
                return directory


class Survival:
    """The outcome of a run. `result`: the checker's result; `directory`: holds the report and the history."""

    def __init__(self, result: "Result", directory: Path) -> None:
        self.result = result
        self.directory = directory

    def __repr__(self) -> str:
        return f"<{self.result.verdict}: {self.result.because}>"

    def assert_at_least_once(self) -> None:
        """Fail the test unless the verdict is PASS, or EXCUSED by the server's durability.

        Duplicates, leaks, order, idempotency keys, attempts and backoff are not part of it: a run that breaks only
        stated promises about these lost nothing, and passes if it would have shown a loss.
        """
        from .checker.promises.beside import only_promises_broken
        from .report.summary import PASSING

        if not (self.result.verdict in PASSING or only_promises_broken(self.result)):
            self._fail()

    def assert_promise(self, name: str) -> None:
        """Fail the test if the run broke this promise, or shows nothing: `order`, `idempotent`, `max_attempts` ...

        Raises ValueError: there is no such promise, or the target does not state it.
        """
        stated = {one.name: one for one in self.result.promises if one.stated}
        if name not in stated:
            raise ValueError(f"The target does not state {name!r}; it states {', '.join(stated) or 'nothing'}.")
        if stated[name].broken or self.result.doubts:
            self._fail(*stated[name].broken)

    def assert_no_unexplained_duplicates(self) -> None:
        """Fail the test if a task was completed more often than faults explain, or if the run shows nothing.

        The target's own statements about duplicates do not matter. Other assertions check for losses.
        """
        unexplained = [one for one in self.result.duplicates if not one.explained]
        if unexplained or self.result.doubts:
            self._fail(*(f"{one.task} completed {one.executions} times: {one.explanation}" for one in unexplained[:10]))

    def assert_no_leak(self) -> None:
        """Fail the test if resources of a worker or the server grew with the disturbances, or the run shows nothing."""
        if self.result.leaks or self.result.doubts:
            self._fail(*map(str, self.result.leaks))

    def _fail(self, *lines: str) -> None:
        from .report.console import printable
        from .report.summary import plain

        text = plain(self.result, self.directory)
        pytest.fail("\n".join([text, *map(printable, lines)]), pytrace=False)


def _words(options: dict[str, Any]) -> list[str]:
    """Return the options as words of a command line."""
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if name == "plugin" and not isinstance(value, str | Path):
            words += [word for file in value for word in (option, str(file))]
        elif value is True:
            words.append(option)
        elif isinstance(value, str) or not isinstance(value, Sequence):
            words += [] if value is None or value is False else [option, str(value)]
        else:
            words += [option, ",".join(map(str, value))]
    return words


def _spec(target: "Target | type[Target] | str") -> str:
    """Return the name by which another process finds the target: its file, or its module within a package.

    Raises pytest.UsageError: another process could not find the target, or would make a different one.
    """
    if isinstance(target, str):
        return target
    found = target if isinstance(target, type) else type(target)
    own = set() if isinstance(target, type) else vars(target).keys() - _OF_EVERY_TARGET
    if own:
        names = ", ".join(sorted(own))
        raise pytest.UsageError(f"Other processes make their own {found.__name__}: set {names} in the class.")
    if "." in found.__qualname__:
        raise pytest.UsageError(f"Other processes can't import {found.__qualname__}: write it at the top of a module.")
    if "." in found.__module__:
        return f"{found.__module__}:{found.__name__}"
    return f"{Path(inspect.getfile(found)).resolve()}:{found.__name__}"
