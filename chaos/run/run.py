"""One run: server, producer, agent, workers; workload and faults; heal, drain, census; judge and report."""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import redis

from ..cause import explained
from ..checker.judge import judge
from ..checker.verdicts import Result
from ..history import EVENTS_DIRECTORY, Recorder, load, write_merged
from ..history.masking import mask_files
from ..history.tail import LedgerTail
from ..plan.plan import PLAN_NAME, Plan, repeat_command
from ..plan.requests import build_fault
from ..report import write_reports
from ..system.environment import DURABILITY_VARIABLE, NAMESPACE, Environment
from ..system.environments import equipped
from ..system.interruption import Interrupted, interruptible
from ..system.network import Network
from ..system.processes import Managed, spawn
from ..system.producer import Producer
from ..system.room import check_room, naming_a_full_file_system
from ..system.servers import Server, open_server
from ..system.submitter import Submitter
from ..system.workers import WorkerPool
from ..target import Target, TargetError
from .bodies import Bodies
from .complaints import Complaints
from .drain import Drain, on_record
from .load import Load, locust_command
from .nemesis import Nemesis
from .preamble import record_begin
from .progress import Progress
from .resources import Sampler
from .scan import scan
from .starvation import Watch
from .tracing import Tracing
from .workload import Workload

POLL_S = 0.05
JOIN_DEADLINE_S = 30.0
FIRST_TASK_S = 15.0
"""Longest wait, in seconds, of the trickle and the faults for a first task to begin. Without any the run goes on."""
LOGS_DIRECTORY = "logs"


class HarnessError(Exception):
    """The run could not be carried out; the text is one sentence for the user."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a run. `failure`: the error that ended the run early, or kept its reports from being written."""

    result: Result
    reports: dict[str, Path]
    failure: BaseException | None


def run(
    plan: Plan,
    target: type[Target],
    *,
    directory: Path,
    command: Sequence[str],
    progress: Progress,
    trace: bool = False,
) -> Outcome:
    """Carry out a plan in `directory`, which is created or empty. Whatever happens, the history so far is judged.

    `trace`: all connections go through the proxy, which records the commands that carried each task.

    Raises HistoryError or OSError if the history can't be written or judged.
    """
    with naming_a_full_file_system(directory):
        return _carried_out(plan, target, directory, command, progress, trace)


def _carried_out(
    plan: Plan, target: type[Target], directory: Path, command: Sequence[str], progress: Progress, trace: bool
) -> Outcome:
    for folder in (EVENTS_DIRECTORY, LOGS_DIRECTORY):
        (directory / folder).mkdir(parents=True)
    plan.write(directory / PLAN_NAME)
    progress.say(f"Run directory: {directory}")
    recorder = Recorder(directory / EVENTS_DIRECTORY, "harness")
    failure: BaseException | None = None
    with interruptible():
        try:
            with naming_a_full_file_system(directory), ExitStack() as stack:
                _Run(plan, target, directory, command, progress, recorder, stack, trace).carry_out()
            recorder.record("run", "end")
        except (Exception, Interrupted) as error:  # noqa: BLE001 - the caller reports it; the evidence is still judged
            failure = error
    recorder.close()
    mask_files(directory)
    write_merged(directory)
    events = load(directory)
    result = explained(directory, judge(events), events)
    reports: dict[str, Path] = {}
    try:
        reports = write_reports(directory, result, events)
    except Exception as error:  # noqa: BLE001 - the verdict stands without its report, and is reported
        failure = failure or error
    return Outcome(result=result, reports=reports, failure=failure)


def _is_done(act: Callable[[], None]) -> bool:
    """Return whether the target did it; False if the outcome is unknown, for example while the server is down."""
    with contextlib.suppress(TargetError):
        act()
        return True
    return False


class _Run:
    """The parts of one run. Each is put on `stack` when it starts, so that it is stopped whatever happens."""

    def __init__(
        self,
        plan: Plan,
        target: type[Target],
        directory: Path,
        command: Sequence[str],
        progress: Progress,
        recorder: Recorder,
        stack: ExitStack,
        trace: bool,
    ) -> None:
        self._plan, self._class, self._command = plan, target, command
        self._directory, self._repeat = directory.resolve(), repeat_command(directory)
        self._progress, self._recorder, self._stack = progress, recorder, stack
        self._ledger = LedgerTail(self._directory / EVENTS_DIRECTORY)
        self._producer: Producer | None = None
        self._network: Network | None = None
        faults = {planned.fault: build_fault(planned.fault, planned.options) for planned in plan.faults}
        self._shims = [str(shim) for name in sorted(faults) if (shim := faults[name].shim)]
        proxied = [fault for fault in faults.values() if fault.through_proxy]
        self._proxied_workers = trace or any(not fault.of_clients for fault in proxied)
        self._proxied_clients = trace or any(fault.of_clients for fault in proxied)
        self._tracing = Tracing(target.scripts, self._ledger.completed) if trace else None
        for fault in faults.values():
            fault.prepare(self._directory)

    def carry_out(self) -> None:
        self._class = equipped(self._class, self._progress.say)
        server = self._open_server()
        self._target = self._class(redis_url=server.client_url, namespace=NAMESPACE, directory=self._directory)
        self._environment = Environment(self._directory, self._plan.target, self._target, self._plan.durability)
        if self._proxied_workers or self._proxied_clients:
            self._network = self._open_network(server.url)
        self._submitter = self._start_agent()
        if self._network and self._tracing:
            self._stack.callback(self._keep_trace, self._network, self._tracing)
        versions = self._submitter.hello()
        self._progress.say(f"Target: {', '.join(f'{name} {version}' for name, version in versions.items())}")
        record_begin(
            self._recorder,
            self._plan,
            self._class,
            command=self._command,
            repeat=self._repeat,
            server=server,
            agent_versions=versions,
            asked=self._environment.of([sys.executable]).get(DURABILITY_VARIABLE),
            network=self._network.cost.recorded() if self._network and self._proxied_workers else None,
        )
        if command := self._target.producer:
            of_producer = self._client_environment("producer")
            self._producer = Producer(lambda: self._spawn(of_producer, command, "producer", "producer"))
            self._stack.callback(self._producer.close)
        self._submitter.wait_until_ready(self._check_processes)
        self._workers = WorkerPool(self._plan.workers, self._start_worker, self._forget_session)
        self._stack.callback(self._workers.close)
        self._workers.start()
        self._startup_s, self._started_s = 0.0, time.monotonic()
        self._load = self._prepare_load()
        self._workload = self._load or Workload(
            self._plan,
            self._submitter,
            lambda: self._nemesis.horizon_s(),
            lambda: self._nemesis.catches_up(),
            lambda number: self._nemesis.has_begun(number),
        )
        self._submissions = self._load or self._submitter
        self._nemesis = Nemesis(
            self._plan,
            server=server,
            workers=self._workers,
            ledger=self._ledger,
            recorder=self._recorder,
            recover_within_s=self._target.recover_within,
            producer=self._producer,
            directory=self._directory,
            network=self._network,
            under_way=self._under_way,
            startup_s=lambda: self._startup_s,
            batch_under_way=self._submitter.batch_under_way,
            promised=lambda: self._submissions.promised,
            unknown=lambda: self._submitter.unknown,
            dead_letters=self._dead_letters,
            requeue=lambda tasks: _is_done(lambda: self._submitter.requeue(tasks)),
            pause=lambda: _is_done(self._submitter.pause),
            resume=lambda: _is_done(self._submitter.resume),
            pauses_within_s=self._target.pauses_within or 0.0,
            repeated=lambda: self._submissions.repeated,
            workload_over=lambda: not self._workload.is_alive() and not self._under_way(),
        )
        self._stack.callback(self._stop_threads)
        self._stack.enter_context(self._progress)
        self._stack.enter_context(Watch(self._recorder))
        self._stack.enter_context(Sampler(self._recorder, server.url, self._workers.living))
        if not self._disturb():
            return
        self._workers.start_missing()
        self._recorder.record("run", "healed")
        Drain(
            self._plan,
            # The workers killed last are still starting. On a busy machine this takes longer than the first start did.
            recover_within_s=self._target.recover_within + 2 * self._startup_s,
            server_url=server.url,
            submitter=self._submissions,
            workers=self._workers,
            ledger=self._ledger,
            recorder=self._recorder,
            tick=lambda left_s: self._tick("drain", left_s),
            warn=self._progress.say,
            scan_finds=self._scan_finds,
        ).finish()
        if trouble := server.trouble():
            self._recorder.record("run", "void", reason=trouble)
            raise HarnessError(trouble)

    def _dead_letters(self) -> frozenset[str]:
        with contextlib.suppress(TargetError):  # for example while the server is down
            return frozenset(on_record(self._submitter.census() or ()))
        return frozenset()

    def _under_way(self) -> int:
        return self._submissions.handed - self._submissions.answered

    def _open_server(self) -> Server:
        appendfsync = None if self._plan.appendfsync == "off" else self._plan.appendfsync
        server = self._stack.enter_context(
            open_server(
                self._plan.server,
                appendfsync=appendfsync,
                directory=self._directory / "server",
                recorder=self._recorder,
            )
        )
        self._progress.say(f"Server: {server.describe()}")
        asked = (self._plan.durability or "").partition(":")[2]
        if asked and int(asked) > (has := server.durability().replicas):
            raise TargetError(
                f"--durability {self._plan.durability} can't be met: the server has {has or 'no'} replicas."
            )
        return server

    def _start_agent(self) -> Submitter:
        python = self._target.python or sys.executable
        agent = Submitter(
            self._plan.target,
            python=python,
            env=self._client_environment("client").of([python]),
            log_path=self._log("agent"),
            recorder=self._recorder,
        )
        self._stack.callback(agent.close)
        return agent

    def _prepare_load(self) -> Load | None:
        if self._plan.load is None:
            return None
        url, events = self._target.url(), self._directory / EVENTS_DIRECTORY
        if url is None:
            raise TargetError(f"Target {self._plan.target} takes no tasks over HTTP: it has no url() for --load.")
        command = locust_command(self._plan.load, url=url, events=events, reports=self._directory / "load")
        return Load(
            lambda: self._spawn(self._environment, command, "load", "load"), events=events, agent=self._submitter
        )

    def _open_network(self, url: str) -> Network:
        tracer = self._tracing.tracer if self._tracing else None
        try:
            return self._stack.enter_context(Network(url, self._plan.workers, tracer))
        except ValueError as error:
            raise TargetError(str(error)) from None

    def _keep_trace(self, network: Network, tracing: Tracing) -> None:
        self._ledger.poll()
        tracing.keep(network, self._directory, self._submitter.promised)

    def _client_environment(self, who: str) -> Environment:
        """Return the environment of a process that is not a worker, which may have its own port of the proxy, too."""
        if not (self._network and self._proxied_clients):
            return self._environment
        return self._environment_at(self._network.client_url(who))[1]

    def _environment_at(self, url: str) -> tuple[Target, Environment]:
        """Return the target and the environment of its processes for another URL of the server."""
        target = self._class(redis_url=url, namespace=NAMESPACE, directory=self._directory)
        return target, Environment(self._directory, self._plan.target, target, self._plan.durability)

    def _start_worker(self, slot: int) -> Managed:
        target, environment = self._target, self._environment
        if self._network and self._proxied_workers:
            # A target may derive anything from the URL, so each port of the proxy gets a target of its own.
            target, environment = self._environment_at(self._network.listeners[slot].url)
        return self._spawn(environment, target.worker, "worker", f"worker-{slot + 1}", self._shims)

    def _spawn(
        self, environment: Environment, command: Sequence[str], role: str, log: str, shims: Sequence[str] = ()
    ) -> Managed:
        env = environment.of(command)
        env["PYTHONPATH"] = os.pathsep.join([*shims, env["PYTHONPATH"]])
        return spawn(
            command,
            role=role,
            log_path=self._log(log),
            env=env,
            recorder=self._recorder,
        )

    def _log(self, name: str) -> Path:
        return self._directory / LOGS_DIRECTORY / f"{name}.log"

    def _forget_session(self, sid: int) -> None:
        self._ledger.poll()
        self._ledger.abandon(sid)

    def _disturb(self) -> bool:
        """Run workload and faults side by side until both have ended. Return False if no submission can succeed."""
        planned_s = [*(task.at_s for task in self._plan.tasks), *(fault.at_s for fault in self._plan.faults)]
        lasts_s = self._plan.load.run_s if self._plan.load else max(planned_s)
        complaints = Complaints(self._submitter, self._nemesis, self._progress.say)
        self._bodies = Bodies(self._plan, self._ledger, self._progress.say)
        self._workload.start()
        give_up_s = time.monotonic() + FIRST_TASK_S
        while not (self._load or self._ledger.seen or time.monotonic() > give_up_s):
            if not self._look(complaints, lasts_s):
                return False
        ends_s = time.monotonic() + lasts_s
        self._scan_finds = self._does_a_scan_find()
        self._nemesis.start()
        while self._workload.is_alive() or self._nemesis.is_alive():
            if not self._look(complaints, ends_s - time.monotonic()):
                return False
        self._tick("run", 0.0)
        return True

    def _does_a_scan_find(self) -> bool:
        """Return whether a scan finds tasks that wait now; False for a target with a census of its own."""
        if self._class.census is not Target.census:
            return False
        self._ledger.poll()
        waiting = self._submissions.promised - self._ledger.begun
        with contextlib.suppress(redis.RedisError):
            return bool(scan(self._target.redis_url, waiting))
        return False

    def _look(self, complaints: Complaints, left_s: float) -> bool:
        """Process what happened since the last call. Return False if no submission can succeed."""
        self._ledger.poll()
        if not self._startup_s and self._ledger.seen:
            self._startup_s = time.monotonic() - self._started_s
        self._tick("run", left_s)
        self._nemesis.bodies_end_at_once = self._bodies.end_at_once()
        if complaints.are_hopeless():
            return False
        time.sleep(POLL_S)
        return True

    def _tick(self, phase: str, left_s: float) -> None:
        if self._load:
            self._load.poll()
        self._check_processes()
        self._check_threads()
        score = self._nemesis.score
        self._progress.show(
            phase,
            submitted=self._submissions.answered,
            acked=self._submissions.promised_count,
            done=self._ledger.completed_count,
            kills=score.effective,
            planned=score.planned,
            mid_task=score.mid_task,
            left_s=left_s,
        )

    def _check_processes(self) -> None:
        check_room(self._directory)
        if self._producer and (status := self._producer.ended_by_itself()) is not None:
            tail = self._producer.process.log_tail()
            raise HarnessError(f"The target's producer ended by itself with status {status}; its last output: {tail}")
        if self._submitter.managed.poll() is not None:
            raise self._submitter.died()

    def _check_threads(self) -> None:
        for name, failure in (
            ("workload", self._workload.failure),
            ("nemesis", self._nemesis.failure),
            ("supervisor", self._workers.failure),
            ("proxy", self._network.proxy.failure if self._network else None),
        ):
            if failure:
                raise HarnessError(f"The {name} failed: {type(failure).__name__}: {failure}") from failure
        # Workers that ended after a fault, such as a kill of the server before their first task, are not broken.
        if not self._ledger.seen and not self._nemesis.score.effective and (futile := self._workers.futile()):
            raise TargetError(futile)

    def _stop_threads(self) -> None:
        self._nemesis.stop()
        self._workload.close()
        if self._nemesis.ident is not None:
            self._nemesis.join(JOIN_DEADLINE_S)
