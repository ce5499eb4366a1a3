"""`enqueue_command`: a program in any language submits tasks, and answers each with a line."""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from zeroloss.client import CommandClient, CommandFailed
from zeroloss.target import Conflict, Refused, Target, TargetError, Task, load_target

ECHO = """
import json, sys, time
for line in sys.stdin:
    request = json.loads(line)
    asked = json.loads(request["payload"])
    if "say" in asked: print(asked["say"], flush=True)
    if "exit" in asked: sys.exit(asked["exit"])
    if "answer" in asked: print(json.dumps({"request": request["request"], **asked["answer"]}), flush=True)
"""


@pytest.fixture(autouse=True)
def no_command_outlives_its_test() -> Iterator[None]:
    """Kill the commands that a test leaves. In a run the harness ends them with the submitting process's session."""
    before = psutil.Process().children()
    yield
    for child in psutil.Process().children():
        if child not in before:
            child.kill()
            child.wait()


def target(script: str = ECHO, deadline_s: float = 20.0) -> Target:
    class Commanded(Target):
        worker = ("true",)
        enqueue_command = (sys.executable, "-c", script)

    made = Commanded()
    made.__dict__["_command_client"] = CommandClient(Commanded.enqueue_command, deadline_s)
    return made


def task(**asked: object) -> Task:
    return Task("zl-1", {}, text=json.dumps(asked))


def ok(**members: object) -> dict[str, object]:
    return {"outcome": "ok", **members}


def test_a_task_that_the_command_accepts_is_promised_with_the_id_that_it_names() -> None:
    commanded = target()
    assert commanded.enqueue(task(answer=ok())) is None
    assert commanded.enqueue(task(answer=ok(promised="job-7"))) == "job-7"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"outcome": "refused", "error": "too large"}, Refused),
        ({"outcome": "refused", "conflict": True, "error": "too large"}, Conflict),
        ({"outcome": "unknown", "error": "too large"}, ConnectionError),
    ],
)
def test_an_outcome_other_than_ok_is_raised_with_what_the_command_says(
    answer: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error, match="too large") as caught:
        target().enqueue(task(answer=answer))
    assert caught.type is error


def test_the_command_reads_the_payload_s_very_text_and_what_else_a_task_has() -> None:
    script = (
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    print(json.dumps({'request': asked.pop('request'), 'outcome': 'refused', 'error': json.dumps(asked)}),"
        " flush=True)\n"
    )
    with pytest.raises(Refused) as caught:
        target(script).enqueue(Task("zl-1", {}, text='{"é": 1.10}', type="mail", attempt=2))
    assert json.loads(str(caught.value)) == {"task": "zl-1", "payload": '{"é": 1.10}', "type": "mail", "attempt": 2}


def test_answers_may_come_in_any_order_from_one_process() -> None:
    script = (
        "import json, os, sys\n"
        "held = []\n"
        "for line in sys.stdin:\n"
        "    held.append(json.loads(line)['request'])\n"
        "    if len(held) == 8:\n"
        "        for request in reversed(held):\n"
        "            answer = {'request': request, 'outcome': 'ok', 'promised': str(os.getpid())}\n"
        "            print(json.dumps(answer), flush=True)\n"
    )
    commanded = target(script)
    with ThreadPoolExecutor(8) as threads:
        promised = list(threads.map(commanded.enqueue, [task() for _ in range(8)]))
    assert len(set(promised)) == 1


def test_a_command_that_ends_leaves_the_outcome_unknown_and_is_started_again() -> None:
    commanded = target()
    with pytest.raises(CommandFailed, match="`enqueue_command` ended with status 3"):
        commanded.enqueue(task(exit=3))
    assert commanded.enqueue(task(answer=ok(promised="again"))) == "again"


def test_an_answer_that_does_not_come_leaves_the_outcome_unknown() -> None:
    with pytest.raises(CommandFailed, match=r"did not answer within 0\.2 s"):
        target(deadline_s=0.2).enqueue(task())


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("hello", "It must be JSON. It wrote: hello"),
        ("[]", "`request` must be the number of the request."),
        ('{"request": 1}', "`outcome` must be ok, refused or unknown."),
    ],
)
def test_a_line_that_is_not_an_answer_is_shown_with_what_it_must_be(said: str, sentence: str) -> None:
    commanded = target()
    with pytest.raises(CommandFailed, match="`enqueue_command` wrote a line that is not an answer") as caught:
        commanded.enqueue(task(say=said))
    assert sentence in str(caught.value)
    assert commanded.enqueue(task(answer=ok())) is None


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"`enqueue_command` can't be started: /no/such/program: No such file"):
        CommandClient(["/no/such/program"]).ask({})


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ('enqueue_command = "node client.mjs"', "its `enqueue_command` must be a command, a list of words"),
        ('build = "make"', "its `build` must be a command, a list of words"),
        ('numbers = "float"', 'its `numbers` must be "exact" or "double", not \'float\''),
    ],
)
def test_a_member_of_a_target_that_is_invalid_is_named(tmp_path: Path, members: str, named: str) -> None:
    path = tmp_path / f"target_{abs(hash(members))}.py"
    path.write_text(f"from zeroloss import Target\n\nclass Mine(Target):\n    worker = ['true']\n    {members}\n")
    with pytest.raises(TargetError, match="its `") as caught:
        load_target(f"{path}:Mine")
    assert named in str(caught.value)


def test_a_target_without_any_way_to_enqueue_says_so() -> None:
    with pytest.raises(NotImplementedError, match="neither `enqueue` nor `enqueue_command`"):
        Target().enqueue(task())
