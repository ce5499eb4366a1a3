"""`zeroloss explain` for a run without losses."""

from pathlib import Path

import msgspec
import pytest
from support.histories import Story
from zeroloss.cli import execute


def test_the_tasks_by_which_a_promise_was_broken_are_named_where_none_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = Story().begin(plan={"tasks": 1, "doomed": ["a"], "max_attempts": 3}).submit("a")
    story.started("a", "x", 100).add("effect", "error", pid=100, task="a", execution="x", error="as planned")
    lines = [msgspec.json.encode(event) for event in story.drained().end(a=("dead_letter", "as planned")).events]
    (tmp_path / "history.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert execute(["explain", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "1 task was given up before its last attempt (I5): a" in said
    assert f"zeroloss explain {tmp_path} TASK" in said
