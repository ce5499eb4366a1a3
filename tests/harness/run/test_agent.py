"""The agent: the process that runs a user's target and reports which tasks were promised."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.places import ROOT, TARGETS
from support.waiting import wait_until
from zeroloss.history import Recorder, Submit, read
from zeroloss.ledger import digest
from zeroloss.system.environment import Environment
from zeroloss.system.submitter import AgentDied, Submitter
from zeroloss.target import Found, TargetError, Task, load_target

SCRIPTED = f"{TARGETS}:Scripted"


class Agents:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "events").mkdir()
        self.recorder = Recorder(directory / "events", "harness")
        self.opened: list[Submitter] = []

    def start(self, spec: str = SCRIPTED, python: str = sys.executable) -> Submitter:
        target = load_target(SCRIPTED)(
            redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=self.directory
        )
        env = Environment(self.directory, spec, target).of([sys.executable])
        log = self.directory / "agent.log"
        agent = Submitter(spec, python=python, env=env, log_path=log, recorder=self.recorder)
        self.opened.append(agent)
        return agent

    def submissions(self) -> list[tuple[str, str]]:
        events = read(self.directory / "events")
        return [(event.task, event.phase) for event in events if isinstance(event, Submit)]


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    made = Agents(tmp_path)
    yield made
    for agent in made.opened:
        agent.close()
    made.recorder.close()


def submit(agent: Submitter, **answers: str) -> None:
    for task, answer in answers.items():
        agent.enqueue(Task(task, {"answer": answer}))


def test_a_return_is_a_promise_refused_a_no_and_any_other_error_unknown(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, a="accept", b="refuse", c="fail")
    wait_until(lambda: agent.answered == 3)
    assert agent.promised == {"a"}
    assert sorted(agents.submissions()) == [
        ("a", "invoke"), ("a", "ok"), ("b", "fail"), ("b", "invoke"), ("c", "info"), ("c", "invoke"),
    ]  # fmt: skip


def test_the_version_of_the_interpreter_of_a_target_s_commands_is_on_record(agents: Agents) -> None:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    said = agents.start("bullmq").hello()
    assert said["node"] == node
    assert said["bullmq"]


def test_a_batch_is_one_call_and_each_of_its_tasks_has_an_outcome_of_its_own(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    agent.enqueue(*(Task(name, {"answer": answer}) for name, answer in (("a", "accept"), ("b", "refuse"))))
    agent.enqueue(*(Task(name, {"answer": answer}) for name, answer in (("c", "fail"), ("d", "accept"))))
    wait_until(lambda: agent.answered == 4)
    assert (agent.promised, agent.unknown, agent.handed) == ({"a"}, {"c", "d"}, 4)
    assert dict(agents.submissions()) == {"a": "ok", "b": "fail", "c": "info", "d": "info"}


def test_an_enqueue_that_would_end_python_leaves_the_outcome_unknown_and_the_agent_alive(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, **{f"t{number}": "exit" for number in range(9)}, a="accept")
    wait_until(lambda: agent.answered == 10)
    assert (agent.promised, len(agent.unknown)) == ({"a"}, 9)


def test_the_first_exception_of_a_submission_is_known_and_whether_all_raised_the_same(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, **{f"t{number}": "fail" for number in range(19)})
    wait_until(lambda: agent.answered == 19)
    assert (agent.first_error, agent.hopeless) == ("ConnectionError: the reply was lost", False)
    submit(agent, t19="fail")
    wait_until(lambda: agent.hopeless)
    submit(agent, a="accept")
    wait_until(lambda: agent.promised)
    assert not agent.hopeless


def test_a_misdeed_of_a_client_by_the_plan_is_not_an_error_of_its_own(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    for number in range(20):
        agent.enqueue(Task(f"t{number}", {"answer": "fail", "behaviour": "client-gives-up"}))
    wait_until(lambda: agent.answered == 20)
    assert (agent.first_error, agent.hopeless) == (None, False)


def test_a_client_that_retries_submits_its_task_twice_and_is_answered_once(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    agent.enqueue(Task("a", {"answer": "accept", "behaviour": "client-retries"}))
    agent.enqueue(Task("b", {"answer": "refuse", "behaviour": "client-retries"}))
    agent.enqueue(Task("c", {"answer": "fail first", "behaviour": "client-retries-unanswered"}))
    wait_until(lambda: agent.answered == 3)
    assert (agent.promised, agent.repeated, agent.unknown) == ({"a", "c"}, 2, frozenset())
    assert [phase for task, phase in agents.submissions() if task == "a"] == ["invoke", "ok", "invoke", "ok"]
    assert [phase for task, phase in agents.submissions() if task == "c"] == ["invoke", "info", "invoke", "ok"]


def test_a_client_that_retries_sends_the_very_same_text(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    text = '{"answer":"accept","behaviour":"client-retries","spelt":"\u00e9"}'
    agent.enqueue(Task("a", json.loads(text), text=text))
    wait_until(lambda: agent.answered == 1)
    events = [event for event in read(agents.directory / "events") if isinstance(event, Submit)]
    assert [event.raw_digest for event in events if event.phase == "invoke"] == [digest(text.encode())] * 2


@pytest.mark.parametrize("way", ["client-reuses-key", "client-reuses-key-at-once"])
def test_a_client_that_uses_its_key_again_records_what_each_request_was_answered(agents: Agents, way: str) -> None:
    agent = agents.start()
    agent.hello()
    text = f'{{"answer":"know the key","behaviour":"{way}","spelt":"\u00e9"}}'
    changed = text[:-1] + ',"changed":true}'
    agent.enqueue(Task("a", json.loads(text), text=text))
    wait_until(lambda: agent.answered == 1)
    assert (agent.promised, agent.first_error) == ({"a"}, None)
    events = [event for event in read(agents.directory / "events") if isinstance(event, Submit)]
    answers = sorted((one.phase, one.digest, one.promised, one.conflict) for one in events if one.phase != "invoke")
    assert answers == [
        *[("fail", digest(json.loads(changed)), None, True)] * 2,
        *[("ok", digest(json.loads(text)), "a", False)] * 3,
    ]
    sent = [one.raw_digest for one in events if one.phase == "invoke"]
    assert sorted(map(str, sent)) == sorted([digest(text.encode())] * 3 + [digest(changed.encode())] * 2)


def test_a_key_whose_first_request_was_not_promised_is_not_used_again_late(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    agent.enqueue(Task("a", {"answer": "refuse", "behaviour": "client-reuses-key"}))
    wait_until(lambda: agent.answered == 1)
    assert agents.submissions() == [("a", "invoke"), ("a", "fail")]


def test_a_full_file_system_is_named_when_the_agent_can_record_nothing(agents: Agents, tmp_path: Path) -> None:
    wrapper = tmp_path / "python-on-a-full-disk"
    patched = (
        "import os, sys, zeroloss.agent as agent; real = os.open; sys.argv = sys.argv[2:]; "
        "os.open = lambda path, *more: real('/dev/full', os.O_WRONLY) if 'agent-' in str(path) else real(path, *more); "
        "agent.main()"
    )
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{patched}" "$@"\n')
    wrapper.chmod(0o755)
    agent = agents.start(python=str(wrapper))
    agent.hello()
    submit(agent, a="accept")
    wait_until(lambda: agent.managed.poll() is not None)
    with pytest.raises(OSError, match="No space left on device") as raised:
        agent.census()
    assert raised.value.errno == errno.ENOSPC


def test_the_history_holds_the_digest_of_the_payload_and_the_error(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, a="fail")
    wait_until(lambda: agent.answered == 1)
    invoke, info = (event for event in read(agents.directory / "events") if isinstance(event, Submit))
    assert invoke.digest == digest({"answer": "fail"})
    assert invoke.raw_digest == digest(b'{"answer": "fail"}')
    assert info.error == "ConnectionError: the reply was lost"
    assert invoke.t < info.t


def test_a_submission_under_way_when_the_agent_dies_has_no_outcome(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, a="hang")
    wait_until(lambda: agents.submissions() == [("a", "invoke")])
    agent.managed.kill_session()
    assert agents.submissions() == [("a", "invoke")]
    assert agent.promised == frozenset()


def test_an_answer_that_can_not_be_true_is_on_record_and_leaves_the_outcome_unknown(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, a="lie", b="fail")
    agent.enqueue(*(Task(name, {"answer": answer}) for name, answer in (("c", "accept"), ("d", "lie"))))
    wait_until(lambda: sum(phase == "info" for _, phase in agents.submissions()) == 4)
    answers = (one for one in read(agents.directory / "events") if isinstance(one, Submit) and one.phase == "info")
    assert {one.task: one.wrong for one in answers} == {"a": True, "b": False, "c": True, "d": True}


def test_an_enqueue_that_hangs_does_not_hold_up_the_others(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    submit(agent, a="hang", b="accept", c="accept")
    wait_until(lambda: agent.promised == {"b", "c"})


def test_the_target_counts_what_lies_in_its_broker(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    assert agent.census() == [Found("a", "pending", None), Found("b", "dead_letter", "it was bad")]


def test_a_census_may_be_a_mapping(agents: Agents) -> None:
    agent = agents.start(SCRIPTED.replace("Scripted", "Unready"))
    agent.hello()
    assert agent.census() == [Found("a", "pending", None)]


def test_a_requeue_that_fails_is_unknown_and_one_that_returns_is_a_promise(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    agent.requeue(["b"])
    with pytest.raises(TargetError, match="LookupError: nobody is not among the dead letters"):
        agent.requeue(["nobody"])
    agent.requeue(["b"])


def test_it_tells_the_versions_of_its_own_environment(agents: Agents) -> None:
    assert agents.start().hello()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_target_that_cannot_be_loaded_there_is_reported_in_one_sentence(agents: Agents) -> None:
    with pytest.raises(TargetError, match="has no class Nothing"):
        agents.start(SCRIPTED.replace("Scripted", "Nothing")).hello()


def test_a_target_that_does_not_get_ready_is_reported_with_its_last_error(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.system.submitter.READY_DEADLINE_S", 0.1)
    agent = agents.start(SCRIPTED.replace("Scripted", "Unready"))
    agent.hello()
    with pytest.raises(TargetError, match=r"not ready.*RuntimeError: nobody listens"):
        agent.wait_until_ready(lambda: None)


def test_an_agent_that_is_gone_is_noticed_by_the_next_caller(agents: Agents) -> None:
    agent = agents.start()
    agent.hello()
    agent.managed.kill_session()
    for _ in range(2):
        with pytest.raises(AgentDied):
            agent.census()


def test_it_ends_when_its_standard_input_does(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    env = {"REDIS_URL": "redis://127.0.0.1:1/0", "ZEROLOSS_NAMESPACE": "z", "ZEROLOSS_RUN": str(tmp_path)}
    env |= {"ZEROLOSS_LEDGER": str(tmp_path / "events"), "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss.agent", SCRIPTED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=env,
        text=True,
    )
    command: dict[str, Any] = {"do": "enqueue", "tasks": [["a", '{"answer": "hang"}', "", "", 0]]}
    output, _ = process.communicate(json.dumps(command) + "\n", timeout=20)
    assert process.returncode == 0
    assert "a target may print" not in output  # standard output is for answers only


def test_another_interpreter_is_given_only_the_few_files_that_it_needs(tmp_path: Path) -> None:
    target = load_target(SCRIPTED)(redis_url="redis://127.0.0.1:1/0", namespace="zeroloss", directory=tmp_path)
    env = Environment(tmp_path, "package.module:Class", target).of(["/usr/bin/python3"])
    library = env["PYTHONPATH"].split(os.pathsep)[0]
    assert sorted(path.name for path in (Path(library) / "zeroloss").iterdir()) == [
        "__init__.py", "agent.py", "asynchronous.py", "client.py", "ledger.py", "target.py",
    ]  # fmt: skip
    code = "import zeroloss.agent, sys; print('redis' in sys.modules or 'msgspec' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": library}, capture_output=True, text=True
    )
    assert run.stdout.strip() == "False", run.stderr
