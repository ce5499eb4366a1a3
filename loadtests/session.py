"""One load, in each of Locust's processes: users report accepted tasks to it, and it reports them to the judge.

The judge is the only process, or the master. It follows every accepted task to its execution, waits at the end until
all are executed, and checks the thresholds. Locust's workers report their accepted tasks to it.
"""

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from locust import events, stats
from locust import log as locust_log
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import STATE_MISSING, MasterRunner, WorkerRunner
from locust.stats import CSV_STATS_INTERVAL_SEC, StatsEntry, StatsError

from .judging.counting import NONE, UNSEEN, Counting, metrics_url
from .judging.follow import Executed, Follower, Promise
from .judging.gates import EXIT_BROKEN, Figures, Gate, Slo, check, empty_ledger, rounded_up
from .judging.junit import write_junit
from .options import Options
from .record import Record
from .refusals import refusal
from .seconds import Seconds

EFFECT = "enqueue -> effect"
"""The request type under which Locust shows the time from the enqueue to the execution of an accepted task."""
NEVER_EXECUTED = "accepted, and never executed"
REQUEST = "POST"
REFUSED_SUFFIX = " 429"
REPORT_EVERY_S = 0.5
POLL_EVERY_S = 0.1
LAST_REPORT_S = 15.0
EXIT_USAGE = 2


# Locust's own function rounds 104 ms to 100 and 1,049 to 1,000, which would keep a threshold. Locust allows to replace
# it. That is needed in every process: workers send their counts to the master.
stats.bucket_response_time = rounded_up


class Session:
    """The base of a load in each process that runs users."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.options = Options(environment.parsed_options)
        self.name = os.urandom(4).hex()
        """The name of this process, for the ids of its tasks."""
        self.record: Record | None = None
        self._seconds: Seconds | None = None
        environment.events.test_start.add_listener(self._open_record)

    def promised(self, task: str, kind: str, sent_s: float) -> None:
        """Report an accepted task, once. `sent_s`: when its user began to wait, in s since the epoch."""
        raise NotImplementedError

    def note(self, phase: str, task: str, **members: Any) -> None:
        """Record the begin of a submission, or its outcome, if a history is written."""
        if self.record:
            self.record.write("submit", phase, task=task, **members)

    def _open_record(self, **_: Any) -> None:
        directory = self.options.record
        if directory and self.record is None:
            self.record = Record(Path(directory))
            self._seconds = Seconds(self.record, self.environment, REQUEST)


class Reporting(Session):
    """The load in a Locust worker: it reports accepted tasks to the master."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        super().__init__(environment)
        self._runner = runner
        self._unreported: list[tuple[str, str, float]] = []
        self._sending = BoundedSemaphore()
        environment.events.test_stop.add_listener(lambda **_: self._report())
        # Concurrent: stopping users takes until their requests are answered, and heartbeats must continue.
        runner.register_message("load-end", self._end, concurrent=True)
        gevent.spawn(self._report_often)

    def promised(self, task: str, kind: str, sent_s: float) -> None:
        self._unreported.append((task, kind, sent_s))

    def _report_often(self) -> None:
        while True:
            gevent.sleep(REPORT_EVERY_S)
            with suppress(RPCError):  # the master is away, which Locust handles; the next report includes these
                self._report()

    def _report(self) -> None:
        with self._sending:  # sending may switch greenlets, and nothing may be reported twice
            report = list(self._unreported)
            if report:
                self._runner.send_message("load-promised", {"promises": report})
                del self._unreported[: len(report)]

    def _end(self, **_: Any) -> None:
        # A headless master ends its test before it stops its workers. Without this, tasks that they submit meanwhile
        # would not be followed.
        self._runner.stop()
        self._report()
        self._runner.send_message("load-ended", {})


class Judging(Session):
    """The load in the judge: the only process, or the master."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._follower: Follower | None = None
        self._counting: Counting | None = None
        self._ended_s: float | None = None
        self._workers: set[str] = set()
        self._over: set[str] = set()
        self._lost: int | None = None
        self._settled = False
        self._gates: list[Gate] = []
        if isinstance(environment.runner, MasterRunner):
            environment.runner.register_message("load-promised", self._hear)
            environment.runner.register_message("load-ended", self._hear_last)
            environment.events.worker_connect.add_listener(lambda client_id, **_: self._workers.add(client_id))
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stopping.add_listener(self._note_end)
        environment.events.test_stop.add_listener(self._settle)
        environment.events.quitting.add_listener(self._judge)
        environment.events.quit.add_listener(self._say)

    def promised(self, task: str, kind: str, sent_s: float) -> None:
        if self._follower:
            self._show(self._follower.follow(Promise(task, kind, sent_s)))
        if self._counting:
            self._counting.promised += 1

    def _begin(self, **_: Any) -> None:
        ledger = self.options.ledger
        self._follower = Follower(Path(ledger)) if ledger not in ("", NONE) else None
        self._counting = Counting(metrics_url(self.options.metrics, self.environment.host)) if ledger == NONE else None
        self._ended_s, self._lost, self._settled = None, None, False
        self._over = set()
        gevent.spawn(self._follow)

    def _follow(self) -> None:
        follower = self._follower
        while follower and follower is self._follower and not self._settled:
            self._show(follower.poll())
            gevent.sleep(POLL_EVERY_S)

    def _show(self, executed: Iterable[Executed]) -> None:
        # Not by the request event, which would add to Locust's totals.
        for one in executed:
            self.environment.stats.get(one.promise.kind, EFFECT).log(one.ms, 0)

    def _show_lost(self, promise: Promise) -> None:
        self._show([Executed(promise, (time.time() - promise.sent_s) * 1000)])
        self.environment.stats.get(promise.kind, EFFECT).log_error(NEVER_EXECUTED)
        self._show_error(promise.kind, NEVER_EXECUTED)

    def _show_error(self, name: str, error: str) -> None:
        key = StatsError.create_key(EFFECT, name, error)
        self.environment.stats.errors.setdefault(key, StatsError(EFFECT, name, error)).occurred()

    def _hear(self, msg: Any, **_: Any) -> None:
        for task, kind, sent_s in msg.data["promises"]:
            self.promised(task, kind, sent_s)

    def _hear_last(self, msg: Any, **_: Any) -> None:
        self._over.add(msg.node_id)

    def _note_end(self, **_: Any) -> None:
        self._ended_s = self._ended_s or time.time()

    def _settle(self, **_: Any) -> None:
        """Collect the last accepted tasks after the load, and wait until all are executed."""
        if isinstance(self.environment.runner, MasterRunner):
            self._hear_out(self.environment.runner)
        follower, patience_s = self._follower, self.options.patience_s
        if self._counting:
            self._counting.settle(patience_s)
            self._lost = self._counting.counts.unfinished if self._counting.counts else None
        if follower:
            give_up_s = time.monotonic() + patience_s
            left = len(follower.waiting())
            while left and time.monotonic() < give_up_s:
                self._show(follower.poll())
                before, left = left, len(follower.waiting())
                give_up_s = time.monotonic() + patience_s if left < before else give_up_s
                gevent.sleep(POLL_EVERY_S / 2)
            if left and follower.silent:
                self._show_error("ledger", empty_ledger(follower.promised))
            else:
                self._lost = left
                for promise in follower.waiting():
                    self._show_lost(promise)
        self._settled = True

    def _hear_out(self, runner: MasterRunner) -> None:
        runner.send_message("load-end")
        give_up_s = time.monotonic() + self.environment.stop_timeout + LAST_REPORT_S
        present = {client.id for client in runner.clients.all if client.state != STATE_MISSING}
        while present - self._over and time.monotonic() < give_up_s:
            gevent.sleep(POLL_EVERY_S)

    def _judge(self, environment: Environment, **_: Any) -> None:
        """Check the thresholds when Locust ends, for any reason: they decide its exit status."""
        environment.runner.quit()  # after a signal the load still runs; otherwise this has no effect
        if self.options.csv_prefix:
            gevent.sleep(CSV_STATS_INTERVAL_SEC + POLL_EVERY_S)  # Locust writes its tables each second, not at the end
        if locust_log.unhandled_greenlet_exception:
            return  # Locust reports the error, and ends with status 2
        figures = self._figures()
        self._gates = gates = check(figures, Slo.read(self.options))
        self._write(figures, gates)
        if not all(gate.passed for gate in gates):
            environment.process_exit_code = EXIT_BROKEN
        elif self.options.slo_failure_ratio is not None and not environment.runner.exceptions:
            environment.process_exit_code = 0  # failures within the allowed share must not fail Locust

    def _say(self, **_: Any) -> None:
        # After Locust's own tables, so that the decisive lines come last.
        for gate in sorted(self._gates, key=lambda gate: not gate.passed):
            print(f"SLO {'kept' if gate.passed else 'broken'}: {gate.sentence}", file=sys.stderr)

        if self._counting:
            print(UNSEEN, file=sys.stderr)

    def _write(self, figures: Figures, gates: list[Gate]) -> None:
        if junit := self.options.junit:
            write_junit(Path(junit), gates)
        if self.record:
            kept, broken = ([gate.sentence for gate in gates if gate.passed is passed] for passed in (True, False))
            self.record.write("load", "end", seconds=round(figures.seconds, 3), kept=kept, broken=broken)

    def _figures(self) -> Figures:
        requests, effects = self._all(REQUEST), self._all(EFFECT)
        high = self.environment.stats.entries.get(("high", EFFECT))
        follower, counting, ended_s = self._follower, self._counting, self._ended_s or time.time()
        drained_s = counting.drained_s if counting else None
        if follower and self._lost == 0:
            drained_s = follower.last_executed_s or ended_s
        sources: list[Follower | Counting] = [each for each in (follower, counting) if each]
        return Figures(
            requests=requests.num_requests,
            failures=requests.num_failures,
            seconds=ended_s - self.environment.stats.start_time,
            p95_ms=_percentile(requests, 0.95),
            p99_ms=_percentile(requests, 0.99),
            refused=sum(entry.num_requests for entry in self._entries(REQUEST) if entry.name.endswith(REFUSED_SUFFIX)),
            promised=sources[0].promised if sources else None,
            effect_p95_ms=_percentile(effects, 0.95),
            lost=self._lost,
            ledger_empty=follower is not None and follower.silent,
            drain_s=None if drained_s is None else max(0.0, drained_s - ended_s),
            early=follower.early if follower else 0,
            high_effect_p95_ms=_percentile(high, 0.95) if high else None,
            counted=counting.counts if counting else None,
            uncounted=counting.error if counting else "",
            silent=len(self._workers - self._over),
        )

    def _entries(self, method: str) -> list[StatsEntry]:
        return [entry for entry in self.environment.stats.entries.values() if entry.method == method]

    def _all(self, method: str) -> StatsEntry:
        total = StatsEntry(self.environment.stats, method, method)
        for entry in self._entries(method):
            total.extend(entry)
        return total


def _percentile(entry: StatsEntry, share: float) -> float | None:
    return entry.get_response_time_percentile(share) if entry.num_requests else None


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Make the session; Locust calls this in each process, once its runner is known."""
    # Timers count from the loop's last reading of the clock. Imports take seconds on a busy machine, which would be
    # missing from `--run-time`: a short load would end before it began.
    gevent.get_hub().loop.update_now()
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        environment.session = Reporting(environment, runner)
        return
    if sentence := refusal(environment, Options(environment.parsed_options)):
        print(sentence, file=sys.stderr)
        sys.exit(EXIT_USAGE)
    environment.session = Judging(environment)
