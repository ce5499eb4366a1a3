"""Third-party queues: the statements of each shipped target, and its environment."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from zeroloss.checker.verdicts import Verdict
from zeroloss.cli import execute
from zeroloss.report.result import read
from zeroloss.system.environment import Environment
from zeroloss.system.environments import environment, equipped
from zeroloss.system.packages import COMPLETE, node_modules, unpacked
from zeroloss.target import SHIPPED, Target, TargetError, Task, load_target, title

LINES_MAX = 60
STRANGERS = [name for name in SHIPPED if (found := load_target(name)).requirements or found.npm or found.debian]
TEXTBOOK = ["brpop", "shared-list"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """An environment requested by several threads at once. `said`: all their messages; `places`: path each received."""

    package: str
    said: list[str]
    places: list[Path]


@pytest.fixture
def without_index(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install only from this machine's disk, into the cache of these tests."""
    monkeypatch.setenv("ZEROLOSS_VENVS", str(made.places[0].parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An environment for all tests of the module, because building takes seconds; three threads request it at once."""
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
        "arq", "bullmq", "celery", "celery-late", "dramatiq", "huey", "rq", "rq-retry", "shared-list-go", "sidekiq",
        "sidekiq-reliable", "taskiq-list", "taskiq-stream",
    }  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
def test_a_strangers_target_pins_its_releases_and_cites_its_projects_promise(name: str) -> None:
    target = load_target(name)
    assert all("==" in requirement for requirement in target.requirements)
    assert all("@" in package for package in target.npm)
    assert not target.debian or any("=" in package for package in target.debian)
    assert target.promise.endswith(".")
    assert target.promise_url.startswith("https://")


def test_an_environment_is_made_once_however_many_ask_for_it_at_once(made: Made) -> None:
    assert len(made.places) == 3
    assert len(set(made.places)) == 1
    assert [line.partition(":")[0] for line in made.said] == ["Environment", "Environment"]


def test_an_environment_holds_its_requirements_and_nothing_of_the_harnesss(made: Made) -> None:
    (place,) = set(made.places)
    assert subprocess.run([place / "bin" / "stranger"], capture_output=True, text=True).stdout == "at your service\n"
    ours = ("redis", "msgspec", "zeroloss", "pytest")
    code = f"import importlib.util as u; print([m for m in {ours} if u.find_spec(m)])"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run([place / "bin" / "python", "-c", code], capture_output=True, text=True, cwd=place, env=env)
    assert shown.stdout == "[]\n"


@pytest.mark.usefixtures("without_index")
def test_the_harnesss_libraries_are_not_on_the_path_of_another_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/somewhere/site-packages", "/the/users/own"]))
    huey = load_target("huey")(redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=tmp_path)
    path = Environment(tmp_path, "huey", huey).of(["/elsewhere/bin/huey_consumer"])["PYTHONPATH"]
    assert path.split(os.pathsep) == [str(tmp_path / "lib"), "/the/users/own"]
    assert (tmp_path / "lib" / "zeroloss" / "targets" / "huey_app.py").is_file()


@pytest.mark.usefixtures("without_index")
def test_an_environment_that_was_broken_off_is_made_again(made: Made) -> None:
    place = made.places[0]
    (place / COMPLETE).unlink()
    (place / "bin" / "stranger").unlink()
    assert environment([made.package], lambda _: None) == place
    assert (place / "bin" / "stranger").is_file()


@pytest.mark.usefixtures("without_index")
def test_requirements_that_are_missing_are_reported_in_one_sentence() -> None:
    with pytest.raises(TargetError, match=r"The environment with zeroloss-absent==1 can't be made: .*zeroloss-absent"):
        environment(["zeroloss-absent==1"], lambda _: None)


@pytest.mark.usefixtures("without_index")
def test_a_target_with_requirements_runs_its_programs_from_its_environment(made: Made) -> None:
    class Stranger(Target):
        """Another user's."""

        name = "stranger"
        requirements = (made.package,)
        worker = ("stranger", "--threads", "2")

        def enqueue(self, task: Task) -> None: ...

    found, programs = equipped(Stranger, lambda _: None), made.places[0] / "bin"
    assert found.worker == (str(programs / "stranger"), "--threads", "2")
    assert found.python == str(programs / "python")
    assert title(found) == "stranger"
    assert found.__doc__ == "Another user's."
    assert issubclass(found, Stranger)


def test_a_target_without_requirements_stays_as_it_is() -> None:
    brpop = load_target("brpop")
    assert equipped(brpop, lambda _: None) is brpop


def test_a_package_of_npm_is_installed_once_and_found_by_require(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLOSS_VENVS", str(tmp_path / "cache"))
    (tmp_path / "greeter").mkdir()
    (tmp_path / "greeter" / "package.json").write_text('{"name": "greeter", "version": "1.0.0", "main": "main.js"}')
    (tmp_path / "greeter" / "main.js").write_text('module.exports = "at your service";')
    said: list[str] = []

    class Node(Target):
        npm = (str(tmp_path / "greeter"),)
        worker = ("node", "-e", 'console.log(require("greeter"))')

    node = equipped(Node, said.append)
    assert node_modules(Node.npm, said.append) == Path(node.equipment["NODE_PATH"])
    assert len(said) == 2
    env = Environment(tmp_path, "mine:Node", node()).of(node.worker)
    shown = subprocess.run(node.worker, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert shown.stdout == "at your service\n", shown.stderr


def test_packages_of_debian_that_are_installed_are_used_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLOSS_VENVS", str(tmp_path))
    assert [path.name for path in unpacked(["dash"], lambda _: None).iterdir()] == [COMPLETE]


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"npm": ("/no/such/folder",)}, "npm can't install /no/such/folder: "),
        ({"debian": ("zeroloss-absent",)}, "Debian's packages zeroloss-absent can't be installed: "),
        ({"build": ("sh", "-c", "echo no >&2; exit 3")}, "`build` of the target Mine failed: no"),
        ({"build": ("/no/such/compiler",)}, "`build` of the target Mine failed: /no/such/compiler: No such file"),
    ],
    ids=["npm", "debian", "build", "no compiler"],
)
def test_a_package_or_program_that_is_missing_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, tuple[str, ...]], sentence: str
) -> None:
    monkeypatch.setenv("ZEROLOSS_VENVS", str(tmp_path))
    target = type("Mine", (Target,), {"worker": ("true",), **members})
    with pytest.raises(TargetError) as caught:
        equipped(target, lambda _: None)
    assert str(caught.value).startswith(sentence)


def test_a_program_that_a_target_builds_is_found_by_its_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLOSS_VENVS", str(tmp_path / "cache"))

    class Compiled(Target):
        build = (
            "sh",
            "-c",
            'printf "#!/bin/sh\\necho at your service\\n" > servant && chmod +x $ZEROLOSS_BUILD/servant',
        )
        worker = ("servant",)
        enqueue_command = ("servant",)

    compiled = equipped(Compiled, lambda _: None)
    env = Environment(tmp_path, "mine:Compiled", compiled()).of(compiled.worker)
    for command in (compiled.worker, compiled.enqueue_command):
        assert subprocess.run(command, env=env, capture_output=True, text=True).stdout == "at your service\n"


def test_huey_loses_what_a_killed_consumer_held_and_its_own_releases_are_on_record(tmp_path: Path) -> None:
    arguments = ["--target", "huey", "--redis", "embedded", "--seed", "1", "--tasks", "40"]
    out = tmp_path / "run"
    assert execute(["run", *arguments, "--faults", "worker-sigkill:count=1", "--out", str(out)]) == 1
    result = read(out)
    assert result.verdict is Verdict.VIOLATION
    assert result.counts["LOST"] >= 1
    assert result.versions["target's huey"] == "3.5.4"


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
