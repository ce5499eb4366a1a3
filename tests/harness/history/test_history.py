"""The history: one file per process, merged on the monotonic clock; torn lines are reported."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from zeroloss.history import Effect, HistoryError, Recorder, Submit, load, read, write_merged


def line(t: int, task: str = "a") -> bytes:
    return json.dumps({"t": t, "pid": 1, "kind": "submit", "phase": "ok", "task": task}).encode() + b"\n"


def test_a_recorded_event_is_read_back_with_its_time_and_pid(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "harness")
    recorder.record("submit", "invoke", task="a", digest="d")
    (event,) = read(tmp_path)
    assert isinstance(event, Submit)
    assert (event.kind, event.phase, event.task, event.digest, event.pid) == ("submit", "invoke", "a", "d", os.getpid())
    assert event.t > 0
    assert recorder.path.name == f"harness-{os.getpid()}.jsonl"


def test_events_of_several_processes_are_merged_by_time(tmp_path: Path) -> None:
    (tmp_path / "agent-1.jsonl").write_bytes(line(3, "c") + line(5, "e"))
    (tmp_path / "agent-2.jsonl").write_bytes(line(1, "a") + line(4, "d"))
    assert [event.t for event in read(tmp_path)] == [1, 3, 4, 5]


def test_events_of_one_file_with_equal_times_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "agent-1.jsonl").write_bytes(line(3, "first") + line(3, "second") + line(2, "zeroth"))
    assert [event.task for event in read(tmp_path) if isinstance(event, Submit)] == ["zeroth", "first", "second"]


def test_a_torn_last_line_is_tolerated_and_counted(tmp_path: Path) -> None:
    (tmp_path / "agent-1.jsonl").write_bytes(line(1) + line(2)[:-9])
    (tmp_path / "agent-2.jsonl").write_bytes(line(3)[:4])
    (tmp_path / "agent-3.jsonl").write_bytes(b"")
    history = read(tmp_path)
    assert [event.t for event in history] == [1]
    assert history.torn == 2


def test_a_torn_line_in_the_middle_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "agent-1.jsonl").write_bytes(line(1) + line(2)[:-9] + line(3))
    with pytest.raises(HistoryError, match=r"agent-1\.jsonl, line 2 "):
        read(tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"[]\n", id="not an object"),
        pytest.param(b"\xff\xfe\n", id="not UTF-8"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b'{"t":1,"pid":1,"kind":"sbumit","phase":"ok","task":"a"}\n', id="an unknown kind"),
        pytest.param(b'{"t":1,"pid":1,"kind":"submit","phase":"okay","task":"a"}\n', id="an unknown phase"),
        pytest.param(b'{"t":1,"pid":1,"kind":"submit","phase":"ok"}\n', id="a missing member"),
        pytest.param(b'{"t":1,"pid":1,"kind":"submit","phase":"ok","task":"\xff"}\n', id="a string that is not UTF-8"),
    ],
)
def test_a_line_that_is_not_an_event_is_an_error_in_one_sentence(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "agent-1.jsonl").write_bytes(bad)
    with pytest.raises(HistoryError, match="line 1 is not an event") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "phase", "members"),
    [
        ("submit", "okay", {"task": "a"}),
        ("submit", "ok", {}),
        ("submit", "ok", {"task": "a", "dgiest": "d"}),
        ("sbumit", "ok", {"task": "a"}),
    ],
)
def test_an_event_that_breaks_the_contract_is_refused_and_not_written(
    tmp_path: Path, kind: str, phase: str, members: dict[str, str]
) -> None:
    recorder = Recorder(tmp_path, "harness")
    with pytest.raises(HistoryError, match="breaks the contract"):
        recorder.record(kind, phase, **members)
    assert read(tmp_path) == []


def test_many_threads_record_without_mixing_their_lines(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "agent")

    def submit(number: int) -> None:
        for turn in range(50):
            recorder.record("submit", "invoke", task=f"{number}-{turn}" + "x" * 5_000)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    history = read(tmp_path)
    assert len({event.task for event in history if isinstance(event, Submit)}) == 400
    assert history.torn == 0


def test_the_merged_file_is_what_load_reads(tmp_path: Path) -> None:
    events = tmp_path / "events"
    Recorder(events, "harness").record(
        "fault", "effective", fault="worker-kill", number=1, evidence="status -9", pids=[7]
    )
    (events / "agent-7.jsonl").write_bytes(line(1) + line(2)[:-3])
    path = write_merged(tmp_path)
    assert path == tmp_path / "history.jsonl"
    assert load(tmp_path) == read(events)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["events", "history.jsonl"]


def test_merging_again_replaces_the_merged_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events", "harness")
    recorder.record("run", "begin", seed=1)
    write_merged(tmp_path)
    recorder.record("run", "end")
    write_merged(tmp_path)
    assert [event.phase for event in load(tmp_path)] == ["begin", "end"]


def test_loading_a_run_without_a_history_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"history\.jsonl can't be read: No such file"):
        load(tmp_path)


def test_merging_a_run_without_events_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="holds no events"):
        write_merged(tmp_path)


def test_a_process_killed_while_it_writes_leaves_a_readable_history(tmp_path: Path) -> None:
    script = (
        "import sys; from zeroloss.history import Recorder\n"
        "recorder = Recorder(sys.argv[1], 'agent'); print('ready', flush=True); n = 0\n"
        "while True:\n    n += 1; recorder.record('submit', 'invoke', task=f'{n}')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait(timeout=10)
    history = read(tmp_path)
    assert [event.task for event in history if isinstance(event, Submit)] == [
        str(n) for n in range(1, len(history) + 1)
    ]


def test_members_of_effects_survive_a_round_trip(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "worker")
    recorder.record("effect", "error", task="a", execution="x-1", attempt=2, error="\u2028<b>é\ud800")
    (event,) = read(tmp_path)
    assert isinstance(event, Effect)
    assert (event.attempt, event.error) == (2, "\u2028<b>é\\ud800")


def test_the_lines_of_a_recorder_are_numbered_and_a_refused_event_leaves_no_gap(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "harness")
    recorder.record("submit", "invoke", task="a")
    with pytest.raises(HistoryError):
        recorder.record("submit", "nonsense", task="a")
    recorder.record("submit", "ok", task="a")
    assert [(event.file, event.seq) for event in read(tmp_path)] == [(recorder.path.stem, 1), (recorder.path.stem, 2)]


@pytest.mark.parametrize("unknown", [{}, {"novelty": 1}])
def test_a_history_of_a_newer_format_is_refused_in_one_sentence(tmp_path: Path, unknown: dict[str, int]) -> None:
    begin = {"t": 1, "pid": 1, "kind": "run", "phase": "begin", "format": 99, **unknown}
    (tmp_path / "history.jsonl").write_text(json.dumps(begin) + "\n")
    with pytest.raises(HistoryError, match="version 99 of the format, and this zeroloss knows 2: use a newer one"):
        load(tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_line_that_is_nested_too_deeply_is_refused_in_one_sentence(tmp_path: Path, opening: str) -> None:
    line = '{"t":1,"pid":1,"kind":"run","phase":"begin","plan":' + opening * 50_000
    (tmp_path / "history.jsonl").write_text(line + "\n")
    with pytest.raises(HistoryError, match=r"line 1 is not an event: it is nested too deeply\.$"):
        load(tmp_path)
