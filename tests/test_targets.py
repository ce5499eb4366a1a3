"""Other people's queues: what each shipped target says of itself, its environment, and the comparison's table."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import wait_until

from chaos.cli import execute
from chaos.compare import Cell, Comparison, Request, Subject, fault_words, load_targets, outcome
from chaos.environment import Environment
from chaos.report import comparison as report
from chaos.report.result import read
from chaos.sessions import bearing
from chaos.target import SHIPPED, Target, TargetError, Task, load_target, title
from chaos.venvs import COMPLETE, environment, equipped
from chaos.verdicts import Summary, Verdict

ROOT = Path(__file__).resolve().parents[1]
LINES_MAX = 60
STRANGERS = [name for name in SHIPPED if load_target(name).requirements]
TEXTBOOK = ["brpop", "shared-list"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """An environment that several asked for at once. `said`: all that they were told; `places`: what each got."""

    package: str
    said: list[str]
    places: list[Path]


@pytest.fixture
def without_index(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed comes from this machine's disk, into the cache of these tests."""
    monkeypatch.setenv("ZEROLOSS_VENVS", str(made.places[0].parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """To make one takes seconds, so it is made once for all tests, by several at once."""
    folder = tmp_path_factory.mktemp("environments")
    wheel = folder / "stranger-1.0-py3-none-any.whl"
    _write_wheel(wheel)
    made = Made(package=str(wheel), said=[], places=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROLOSS_VENVS", str(folder / "venvs"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        askers = [
            threading.Thread(target=lambda: made.places.append(environment([str(wheel)], made.said.append)))
            for _ in range(3)
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    return made


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_is_short_and_says_what_it_is(name: str) -> None:
    target = load_target(name)
    assert title(target) == name
    assert target.__doc__
    assert target.settings
    if name not in ("reference", "reference-in-order"):
        source = sys.modules[target.__module__].__file__
        assert source is not None
        assert len(Path(source).read_text().splitlines()) <= LINES_MAX


def test_the_textbook_workers_and_the_queues_of_others_are_shipped() -> None:
    assert [name for name in TEXTBOOK if name not in SHIPPED] == []
    assert set(STRANGERS) == {
        "arq", "celery", "celery-late", "dramatiq", "huey", "rq", "rq-retry", "taskiq-list", "taskiq-stream",
    }  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_target_pins_its_releases_and_cites_its_projects_promise(name: str) -> None:
    target = load_target(name)
    assert all("==" in requirement for requirement in target.requirements)
    assert target.promise.endswith(".")
    assert target.promise_url.startswith("https://")


def test_an_environment_is_made_once_however_many_ask_for_it_at_once(made: Made) -> None:
    assert len(made.places) == 3
    assert len(set(made.places)) == 1
    assert [line.partition(":")[0] for line in made.said] == ["Environment", "Environment"]


def test_an_environment_holds_its_requirements_and_nothing_of_the_harnesss(made: Made) -> None:
    (place,) = set(made.places)
    assert subprocess.run([place / "bin" / "stranger"], capture_output=True, text=True).stdout == "at your service\n"
    code = "import importlib.util as u; print([m for m in ('redis', 'msgspec', 'chaos', 'pytest') if u.find_spec(m)])"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run([place / "bin" / "python", "-c", code], capture_output=True, text=True, cwd=place, env=env)
    assert shown.stdout == "[]\n"


@pytest.mark.usefixtures("without_index")
def test_what_was_installed_for_the_harness_is_not_on_the_path_of_another_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/somewhere/site-packages", "/the/users/own"]))
    huey = load_target("huey")(redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=tmp_path)
    path = Environment(tmp_path, "huey", huey).of(["/elsewhere/bin/huey_consumer"])["PYTHONPATH"]
    assert path.split(os.pathsep) == [str(tmp_path / "lib"), "/the/users/own"]
    assert (tmp_path / "lib" / "chaos" / "targets" / "huey_app.py").is_file()


@pytest.mark.usefixtures("without_index")
def test_an_environment_that_was_broken_off_is_made_again(made: Made) -> None:
    place = made.places[0]
    (place / COMPLETE).unlink()
    (place / "bin" / "stranger").unlink()
    assert environment([made.package], lambda _: None) == place
    assert (place / "bin" / "stranger").is_file()


@pytest.mark.usefixtures("without_index")
def test_requirements_that_cannot_be_had_are_said_in_one_sentence() -> None:
    with pytest.raises(TargetError, match=r"The environment with zeroloss-absent==1 can't be made: .*zeroloss-absent"):
        environment(["zeroloss-absent==1"], lambda _: None)


@pytest.mark.usefixtures("without_index")
def test_a_target_with_requirements_runs_its_programs_from_its_environment(made: Made) -> None:
    class Stranger(Target):
        """Somebody else's."""

        name = "stranger"
        requirements = (made.package,)
        worker = ("stranger", "--threads", "2")

        def enqueue(self, task: Task) -> None: ...

    found, programs = equipped(Stranger, lambda _: None), made.places[0] / "bin"
    assert found.worker == (str(programs / "stranger"), "--threads", "2")
    assert found.python == str(programs / "python")
    assert title(found) == "stranger"
    assert found.__doc__ == "Somebody else's."
    assert issubclass(found, Stranger)


def test_a_target_without_requirements_stays_as_it_is() -> None:
    brpop = load_target("brpop")
    assert equipped(brpop, lambda _: None) is brpop


def test_a_worker_is_stopped_for_longer_than_its_queue_takes_to_recover() -> None:
    assert fault_words("worker-sigstop", 15.0, 10) == "worker-sigstop:count=1:for_s=18"
    assert fault_words("worker-sigkill", 15.0, 10) == "worker-sigkill:count=10"
    assert fault_words("worker-sigterm", 15.0, 10) == "worker-sigterm:count=2:patience_s=20"
    assert fault_words("server-sigkill", 15.0, 10) == "server-sigkill"
    assert fault_words("worker-sigkill:count=3", 15.0, 10) == "worker-sigkill:count=3"


def test_the_command_of_a_cell_is_one_that_a_user_would_type() -> None:
    request = Request(
        targets=load_targets(["brpop"]), faults=["worker-sigkill"], tasks=40, kills=2, seed=7, server="embedded"
    )
    assert " ".join(request.command("brpop", "worker-sigkill")) == (
        "run --target brpop --seed 7 --redis embedded --tasks 40 --faults worker-sigkill:count=2"
    )


def test_the_table_shows_every_cell_beside_the_promise_and_the_settings() -> None:
    lossy = _cell("queue", "worker-sigkill", Verdict.VIOLATION, counts={"LOST": 3, "DONE": 37}, struck=3, never=3)
    slow = _cell("queue", "server-sigkill", Verdict.PASS, counts={"DONE": 40}, duplicates=2, struck=2)
    comparison = _comparison([lossy, slow], ["worker-sigkill", "server-sigkill", "worker-sigterm"])
    text = report.render("comparison.md.j2", comparison)
    assert "| queue | VIOLATION: 3 lost | PASS | not run | Loses nothing. |" in text
    assert "| its documentation |\n| --- | --- | --- | --- | --- |\n| queue |" in text
    assert "- Documented: Loses nothing. (https://example.org/promise)" in text
    assert "- Settings: lease 5 s (default 60)." in text
    assert "- Versions: queue 1.2.3, server 9.1." in text
    assert "| worker-sigkill | VIOLATION | 40 | 3 | 0 | 0 | 0 | 3 of 3 never |" in text
    assert "| server-sigkill | PASS | 40 | 0 | 0 | 0 | 2 | median 1.2 s, max 2.5 s |" in text
    assert "    zeroloss run --target queue --faults server-sigkill\n" in text
    assert "**2 of 3 cells were run**" in text


def test_the_html_table_is_self_contained_and_takes_no_text_for_markup() -> None:
    cell = _cell("queue", "worker-sigkill", Verdict.LIVENESS, because="<b>stuck</b>", counts={"STUCK": 1, "DONE": 1})
    page = report.render("comparison.html.j2", _comparison([cell], ["worker-sigkill"]))
    assert "&lt;b&gt;stuck&lt;/b&gt;" in page
    assert "1 stuck" in page
    assert not any(outside in page for outside in ("<script", "<link", "src=", "@import"))


def test_the_exit_status_is_that_of_the_worst_cell() -> None:
    cells = [_cell("queue", verdict.value, verdict) for verdict in (Verdict.PASS, Verdict.LIVENESS)]
    assert _comparison(cells, []).exit_code == 3
    assert _comparison([*cells, _cell("queue", "x", Verdict.VIOLATION)], []).exit_code == 1
    assert _comparison([], []).exit_code == Verdict.INCONCLUSIVE.exit_code


def test_a_cell_says_what_moved_its_stuck_tasks() -> None:
    cell = _cell("queue", "quiet", Verdict.LIVENESS, counts={"NEEDS_TRAFFIC": 2, "STUCK": 1})
    assert outcome(cell) == "LIVENESS: 1 stuck, 2 moved by new traffic only"
    assert cell.stuck == 3


def test_a_comparison_is_gone_on_with_and_does_not_run_a_cell_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--targets", "brpop", "--faults", "none", "--tasks", "40", "--out", str(tmp_path / "out")]
    written = tmp_path / "docs" / "comparison.md"
    assert execute([*words, "--write", str(written)]) == 0
    assert "[1/1] brpop under none: PASS: " in capsys.readouterr().out
    assert written.read_text() == (tmp_path / "out" / "comparison.md").read_text()
    assert execute(words) == 0
    assert "under none" not in capsys.readouterr().out
    repeat = "zeroloss run --target brpop --seed 1 --redis embedded --tasks 40 --faults none"
    assert repeat in (tmp_path / "out" / "comparison.html").read_text()


def test_a_comparison_that_is_interrupted_leaves_nothing_running_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = ["compare", "--targets", "brpop", "--faults", "worker-sigkill", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "chaos", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ledger = tmp_path / "out" / "cells" / "brpop.worker-sigkill" / "run" / "events"
    wait_until(lambda: any(ledger.glob("worker-*.jsonl")), 30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"the same command with --out {tmp_path / 'out'} goes on with it." in said
    wait_until(lambda: not bearing(f"ZEROLOSS_LEDGER={ledger}"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--targets", "nobody"], "'nobody' is no target: say one of reference, "),
        (["--faults", "earthquake"], "There is no fault 'earthquake'"),
        (["--tasks", "0"], "--tasks has to be at least 1, not 0."),
        (["--kills", "0"], "--kills has to be at least 1, not 0."),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["compare", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"zeroloss: {sentence}")


def test_huey_loses_what_a_killed_consumer_held_and_its_own_releases_are_on_record(tmp_path: Path) -> None:
    arguments = ["--target", "huey", "--redis", "embedded", "--seed", "1", "--tasks", "40"]
    out = tmp_path / "run"
    assert execute(["run", *arguments, "--faults", "worker-sigkill:count=1", "--out", str(out)]) == 1
    result = read(out)
    assert result.verdict is Verdict.VIOLATION
    assert result.counts["LOST"] >= 1
    assert result.versions["target's huey"] == "3.5.4"


def _cell(target: str, fault: str, verdict: Verdict, **members: object) -> Cell:
    known = {
        "command": ["run", "--target", target, "--faults", fault],
        "because": "It is so.",
        "promised": 40,
        "versions": {"python": "3.11.7", "target's queue": "1.2.3", "server": "9.1"},
        **members,
    }
    if verdict is Verdict.PASS:
        known.setdefault("redelivery_ms", Summary(count=2, median=1_200.0, p90=2_500.0, p99=2_500.0, max=2_500.0))
    return Cell(target=target, fault=fault, verdict=verdict, **known)  # type: ignore[arg-type]


def _comparison(cells: list[Cell], faults: list[str]) -> Comparison:
    subject = Subject(
        name="queue",
        summary="A queue.",
        promise="Loses nothing.",
        promise_url="https://example.org/promise",
        settings="lease 5 s (default 60)",
        recover_within_s=15.0,
    )
    return Comparison(subjects=[subject], faults=faults, cells=cells, tasks=40, seed=1, planned=len(faults))


def _write_wheel(path: Path) -> None:
    import zipfile

    files = {
        "stranger.py": "def main():\n    print('at your service')\n",
        "stranger-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n",
        "stranger-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "stranger-1.0.dist-info/entry_points.txt": "[console_scripts]\nstranger = stranger:main\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, "stranger-1.0.dist-info/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "stranger-1.0.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
