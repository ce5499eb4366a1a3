"""Variants: other settings or other servers of the same queue. A target names them, and `prove` runs them in turn."""

import sys
from pathlib import Path

import pytest
from zeroloss.campaigns.prove import EFFORTS, aimed, run_step, variants_at
from zeroloss.mutants.target import AS_SHIPPED, spec_of
from zeroloss.plan.plan import make_plan
from zeroloss.plan.requests import FaultRequest
from zeroloss.reference.queue.config import Config
from zeroloss.run.preamble import other_retries
from zeroloss.target import TargetError, load_target, located
from zeroloss.targets.reference import ASYNCHRONOUS, ASYNCHRONOUS_BACKOFF_S, TYPED, TYPED_BACKOFF_S, Reference

MINE = """
from zeroloss.target import Target, Variant

class Mine(Target):
    worker = ("mine", "worker")
    env = {"A": "1", "B": "1"}
    variants = {"slow": Variant(env={"B": "2"}, worker=("--slow",), members={"recover_within": 60.0})}

class Served(Mine):
    producer = ("mine", "producer")
    variants = {"fast": Variant(producer=("--fast",))}
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A target file in a folder whose name contains an @."""
    folder = tmp_path / "me@work"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    return folder / "mine.py"


def test_tasks_that_have_limits_of_their_own_are_on_record_with_them() -> None:
    plan = make_plan(
        seed=1, target="reference", server="embedded", appendfsync="always", workers=3, tasks=2_000, stated=Reference,
        faults=[FaultRequest("script-flush", 1, {})],
    )  # fmt: skip
    first_wait = {
        name: (group["backoff"] or [None])[0] for group in other_retries(plan, Reference) for name in group["tasks"]
    }
    later = Reference.asks_again_after
    assert {first_wait[name] for name in plan.behaving["raise-later"]} == {(later, later)}
    assert {first_wait[name] for name in plan.behaving["reject"]} == {None}
    for task_type, backoff_s in ((TYPED, TYPED_BACKOFF_S), (ASYNCHRONOUS, ASYNCHRONOUS_BACKOFF_S)):
        typed = {task.id for task in plan.tasks if task.type == task_type and not task.behaviour}
        assert {first_wait[name] for name in typed} == {(backoff_s / 2, backoff_s)}
    assert len(first_wait) < len(plan.tasks) * 2 / 3


def test_a_variant_differs_from_its_target_in_what_it_states_only(mine: Path) -> None:
    plain, slow = load_target(f"{mine}:Mine"), load_target(f"{mine}:Mine@slow")
    assert (plain.worker, plain.env, plain.recover_within) == (("mine", "worker"), {"A": "1", "B": "1"}, 30.0)
    assert (slow.worker, slow.env, slow.recover_within) == (("mine", "worker", "--slow"), {"A": "1", "B": "2"}, 60.0)
    assert (slow.name, slow.producer, slow.workers) == ("Mine@slow", None, plain.workers)
    assert load_target(f"{mine}:Served@fast").producer == ("mine", "producer", "--fast")


@pytest.mark.parametrize(
    ("name", "says"),
    [("Mine@fast", "has no variant 'fast', but slow"), ("Mine@", "has no variant '', but slow")],
)
def test_a_variant_that_is_not_there_is_refused_with_those_that_are(mine: Path, name: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        load_target(f"{mine}:{name}")


def test_a_target_without_variants_says_so() -> None:
    with pytest.raises(TargetError, match=r"Target brpop has no variant 'fast'\.$"):
        load_target("brpop@fast")


def test_other_interpreters_know_a_variant_of_a_shipped_target() -> None:
    assert located("reference@as-shipped") == "zeroloss.targets.reference:Reference@as-shipped"
    assert located("path/to@my/queue.py:Mine") == "path/to@my/queue.py:Mine"


def test_the_reference_as_it_is_shipped_has_its_own_times_back() -> None:
    target = load_target("reference@as-shipped")
    assert target.env["ZEROLOSS_LEASE_MS"] == str(Config.lease_ms)
    assert target.recover_within == (Config.lease_ms + Config.sweep_ms) / 1000


def test_a_mutant_has_the_variants_of_the_reference() -> None:
    target = load_target(f"{spec_of(f'{AS_SHIPPED}pushed-again')}@recycled")
    assert target.worker[:5] == (sys.executable, "-m", "zeroloss.mutants.process", "answers", "pushed-again")
    assert target.worker[-2:] == ("--max-tasks", "100")


def test_a_proof_runs_the_target_and_its_variants_in_turn(mine: Path) -> None:
    steps = [run_step(EFFORTS["quick"], number, 1 + number, ["slow", "fast"]) for number in range(4)]
    assert [step.rpartition(" ")[2] for step in steps] == ["50", "@slow", "@fast", "10"]
    size = ["--tasks", "2000", "--kills", "50"]
    typed = ["run", "--seed", "1", *size, "--target", f"{mine}:Mine", "--redis", "embedded"]
    assert aimed(steps[0], f"{mine}:Mine", "embedded") == typed
    assert aimed(steps[1], f"{mine}:Mine", "embedded")[-4:-2] == ["--target", f"{mine}:Mine@slow"]


def test_a_variant_for_another_kind_of_server_gets_it_in_a_proof() -> None:
    assert aimed("run @replicated", "reference", "embedded")[-2:] == ["--redis", "sentinel"]
    assert aimed("run @recycled", "reference", "container")[-2:] == ["--redis", "container"]
    assert set(variants_at("reference", "embedded")) - set(variants_at("reference", "redis://a:1")) == {"replicated"}
