"""The ledgers in other languages write the same events as the Python ledger, and `vendor-ledger` copies them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from zeroloss.cli import execute
from zeroloss.history import Effect, read
from zeroloss.ledger import digest
from zeroloss.starter.languages import LANGUAGES

TEXT = '{"id":"a","é":[1.10,"\\"\\n"]}'
VALUE = {"b": 1, "a": ['é\U0001f4a5 "\\/\n\x7f\x01', None, 0.1, True], "\U0001f4a5": 1, "￿": 2}

PROGRAMS = {
    "node": """
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { digest, effect } from "./ledger.mjs";
const [text, value] = JSON.parse(readFileSync("cases.json", "utf8"));
await effect("a", { payload: text, attempt: 2 }, async () => {});
await effect("b", { payload: Buffer.from(text) }, () => { throw new TypeError("no\\ud800"); }).catch(() => {});
await effect("c");
if (!process.argv[2]) spawnSync(process.execPath, [process.argv[1], "again"]);
console.log(digest(value));
""",
    "ruby": """
require_relative "ledger"
text, value = JSON.parse(File.read("cases.json", encoding: "UTF-8"))
ZeroLoss.effect("a", payload: text, attempt: 2) {}
Process.wait(fork { ZeroLoss.effect("a", payload: text, attempt: 2) {} })
begin
  ZeroLoss.effect("b", payload: text) { raise TypeError, "no" }
rescue TypeError
end
ZeroLoss.effect("c") {}
puts ZeroLoss.digest(value)
""",
    "shell": """
. ./ledger.sh
text=$(cat text)
zeroloss_effect a "$text" true
(zeroloss_effect a "$text" true)
fail() { zeroloss_effect c '{}' true; return 3; }
zeroloss_effect b "$text" fail || echo "status $?"
""",
}
COMMANDS = {"node": ["node", "main.mjs"], "ruby": ["ruby", "main.rb"], "shell": ["sh", "-eu", "main.sh"]}


def written(folder: Path, language: str) -> tuple[list[Effect], str]:
    """Run a program that executes a, b (which raises), c, and a in another process. Return its events and output."""
    assert execute(["vendor-ledger", language, str(folder)]) == 0
    (folder / "cases.json").write_text(json.dumps([TEXT, VALUE]))
    (folder / "text").write_text(TEXT)
    (folder / COMMANDS[language][-1]).write_text(PROGRAMS[language])
    events = folder / "events"
    events.mkdir()
    env = {**os.environ, "ZEROLOSS_LEDGER": str(events), "LC_ALL": "C.UTF-8"}
    ended = subprocess.run(COMMANDS[language], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = read(events)
    assert all(isinstance(event, Effect) for event in found), found
    return [event for event in found if isinstance(event, Effect)], ended.stdout


@pytest.mark.parametrize("language", PROGRAMS)
def test_the_ledger_records_each_execution_in_a_file_of_its_process(language: str, tmp_path: Path) -> None:
    events, output = written(tmp_path, language)
    begun = [event for event in events if event.phase == "begin"]
    assert len({event.execution for event in begun}) == len(begun)
    first = next(event for event in begun if event.task == "a")
    assert first.digest == hashlib.sha256(TEXT.encode()).hexdigest()
    assert {event.pid for event in begun if event.task == "a"} != {first.pid}
    errors = [(event.task, event.error) for event in events if event.phase == "error"]
    assert set(errors) == {("b", "exit status 3" if language == "shell" else errors[0][1])}
    assert language == "shell" or (first.attempt, first.payload) == (2, TEXT)
    assert language == "shell" or errors[0][1].startswith("TypeError: no")
    assert {event.task for event in events if event.phase == "end"} == {"a", "c"}
    assert output.strip() == ("status 3" if language == "shell" else digest(VALUE))


@pytest.mark.parametrize("language", PROGRAMS)
def test_without_the_variable_the_body_runs_and_no_file_is_written(language: str, tmp_path: Path) -> None:
    assert execute(["vendor-ledger", language, str(tmp_path)]) == 0
    (tmp_path / "cases.json").write_text(json.dumps([TEXT, VALUE]))
    (tmp_path / "text").write_text(TEXT)
    (tmp_path / COMMANDS[language][-1]).write_text(PROGRAMS[language])
    env = {name: value for name, value in os.environ.items() if name != "ZEROLOSS_LEDGER"}
    before = sorted(tmp_path.rglob("*"))
    ended = subprocess.run(COMMANDS[language], cwd=tmp_path, env={**env, "LC_ALL": "C.UTF-8"}, timeout=60)
    assert ended.returncode == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_clock_of_a_shell_is_that_of_the_harness_on_a_machine_that_was_suspended(tmp_path: Path) -> None:
    assert execute(["vendor-ledger", "shell", str(tmp_path)]) == 0
    script = ". ./ledger.sh; zeroloss_effect a '{}' true"
    env = {**os.environ, "ZEROLOSS_LEDGER": str(tmp_path)}
    for suspended in ("0", "5000000000"):
        subprocess.run(["sh", "-c", script], cwd=tmp_path, env={**env, "ZEROLOSS_SUSPENDED_NS": suspended}, check=True)
    (tmp_path / "ledger.sh").unlink()
    times = [event.t for event in read(tmp_path) if isinstance(event, Effect) and event.phase == "begin"]
    assert 4.5e9 < times[1] - times[0] < 60e9


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_ledger_is_copied_once_and_a_changed_copy_is_not_written_over(
    language: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = LANGUAGES[language].ledger
    for destination in (tmp_path / "lib", tmp_path / "lib" / name, tmp_path / "lib"):
        assert execute(["vendor-ledger", language, str(destination)]) == 0
    assert [path.name for path in (tmp_path / "lib").iterdir()] == [name]
    (tmp_path / "lib" / name).write_text("mine")
    assert execute(["vendor-ledger", language, str(tmp_path / "lib")]) == 2
    assert f"{name} exists and differs from the file of this zeroloss: remove it" in capsys.readouterr().err
    assert (tmp_path / "lib" / name).read_text() == "mine"


def test_a_ledger_of_go_belongs_to_the_package_of_its_folder(tmp_path: Path) -> None:
    assert execute(["vendor-ledger", "go", str(tmp_path / "task-ledger")]) == 0
    assert "\npackage taskledger\n" in (tmp_path / "task-ledger" / "ledger.go").read_text()
    (tmp_path / "main.go").write_text("// A comment.\npackage main\n")
    assert execute(["vendor-ledger", "go", str(tmp_path)]) == 0
    assert "\npackage main\n" in (tmp_path / "ledger.go").read_text()


def test_a_ledger_of_go_records_payloads_errors_and_panics(tmp_path: Path) -> None:
    program = """package main

import ("errors"; "os")

func main() {
	text, _ := os.ReadFile("text")
	Effect("a", text, 2, func() error { return nil })
	Effect("b", text, 0, func() error { return errors.New("no") })
	defer func() { recover(); Effect("c", nil, 0, func() error { return nil }) }()
	Effect("d", text, 0, func() error { panic("no") })
}
"""
    (tmp_path / "main.go").write_text(program)
    (tmp_path / "text").write_text(TEXT)
    assert execute(["vendor-ledger", "go", str(tmp_path)]) == 0
    (tmp_path / "events").mkdir()
    env = {"HOME": str(Path.home()), **os.environ, "ZEROLOSS_LEDGER": str(tmp_path / "events"), "CGO_ENABLED": "0"}
    go = Path(sys.executable).with_name("go")
    subprocess.run([go, "run", "main.go", "ledger.go"], cwd=tmp_path, env=env, check=True, timeout=100)
    events = [event for event in read(tmp_path / "events") if isinstance(event, Effect)]
    assert [(event.task, event.phase) for event in events] == [
        *(("a", "begin"), ("a", "end"), ("b", "begin"), ("b", "error")),
        *(("d", "begin"), ("d", "error"), ("c", "begin"), ("c", "end")),
    ]
    assert (events[0].digest, events[0].attempt) == (hashlib.sha256(TEXT.encode()).hexdigest(), 2)
    assert (events[0].payload, events[6].digest) == (TEXT, None)
    assert [event.error for event in events if event.error] == ["*errors.errorString: no", "panic: no"]
