"""Effects of the commands in a task's trail, and a sentence on the last one that changed where the task lies."""

from enum import Enum

from ..checker.evidence import Evidence, Task
from ..history.trace import Step, Trail


class Deed(Enum):
    """Effect of a command on a task that it carries."""

    PUT = "put"
    REMOVED = "removed"
    MOVED = "moved"
    CLAIMED = "claimed"
    SCRIPT = "script"
    READ = "read"


_BY_REPLY = {
    **dict.fromkeys(("LPOP", "RPOP", "BLPOP", "BRPOP", "LMPOP", "BLMPOP", "SPOP", "GETDEL"), Deed.REMOVED),
    **dict.fromkeys(("ZPOPMIN", "ZPOPMAX", "BZPOPMIN", "BZPOPMAX", "ZMPOP", "BZMPOP"), Deed.REMOVED),
    **dict.fromkeys(("RPOPLPUSH", "BRPOPLPUSH", "LMOVE", "BLMOVE"), Deed.MOVED),
    **dict.fromkeys(("XREADGROUP", "XCLAIM", "XAUTOCLAIM"), Deed.CLAIMED),
}
_BY_REQUEST = {
    **dict.fromkeys(("LPUSH", "RPUSH", "LINSERT", "ZADD", "SADD", "XADD"), Deed.PUT),
    **dict.fromkeys(("HSET", "HMSET", "HSETNX", "SET", "SETEX", "PSETEX", "SETNX"), Deed.PUT),
    **dict.fromkeys(("LREM", "ZREM", "SREM", "HDEL", "DEL", "UNLINK", "XACK", "XDEL"), Deed.REMOVED),
    **dict.fromkeys(("SMOVE", "RENAME", "RENAMENX"), Deed.MOVED),
    **dict.fromkeys(("XCLAIM",), Deed.CLAIMED),
}
_RECORDS = ("HSET", "HMSET", "HSETNX", "SET", "SETEX", "PSETEX", "SETNX")
"""Commands that write the record of a task; most queues look for their tasks elsewhere."""
_SOURCE_AND_DESTINATION = ("RPOPLPUSH", "BRPOPLPUSH", "LMOVE", "BLMOVE", "SMOVE", "RENAME", "RENAMENX")


def deed_of(step: Step) -> Deed:
    """Return what the command does with the task, if the server executes it."""
    if step.command.startswith(("script", "FCALL")):
        return Deed.SCRIPT
    return (_BY_REPLY if step.carried_by == "reply" else _BY_REQUEST).get(step.command, Deed.READ)


def last_change(trail: Trail | None) -> Step | None:
    """Return the last step that may have changed where the task lies; None: no such step."""
    changes = [step for step in trail.steps if not step.refused and deed_of(step) is not Deed.READ] if trail else []
    queues = [step for step in changes if not _writes_a_record(step, trail.task if trail else "")]
    found = queues or changes
    return found[-1] if found else None


def _writes_a_record(step: Step, task: str) -> bool:
    """Return whether the step writes the task's record, or a key of its own, where no queue looks for its tasks."""
    own_key = deed_of(step) in (Deed.PUT, Deed.REMOVED) and step.words[:1] and task in step.words[0]
    return step.command in _RECORDS or bool(own_key)


def sentence_of(evidence: Evidence, task: Task, trail: Trail) -> str:
    """Return what the last command that changed where the task lies did, and what happened to the sending process."""
    step = last_change(trail)
    if step is None:
        return "No command carried it: the client that received the promise sent no command with this task."
    process = f"{step.who} (process {step.pid})" if step.pid else step.who
    if not step.who.startswith("worker"):
        return f"{step.command} by the {process} {_did(step)}; no later command claimed or moved it."
    after = "no later command carried it" if deed_of(step) is Deed.SCRIPT else _AFTER[deed_of(step)]
    unanswered = "" if step.answered else " (no reply was received)"
    ended = _ended(evidence, task, step)
    return f"{step.command}{unanswered} by {process} {_did(step)}; {after}{f'; {ended}' if ended else ''}."


_AFTER = {
    Deed.REMOVED: "no later command put it back",
    Deed.MOVED: "no later command removed it from there",
    Deed.CLAIMED: "no later command acknowledged it or claimed it again",
    Deed.PUT: "no later command claimed or moved it",
}


def _did(step: Step) -> str:
    deed, keys = deed_of(step), step.words
    if deed is Deed.MOVED and step.command in _SOURCE_AND_DESTINATION and len(keys) > 1:
        return f"moved it from {keys[0]} to {keys[1]}"
    where = keys[0] if keys else "its key"
    if deed is Deed.REMOVED:
        return "acknowledged it in " + where if step.command == "XACK" else f"removed it from {where}"
    if deed is Deed.PUT:
        return f"put it into {where}"
    if deed is Deed.CLAIMED:
        return f"claimed it from {where}"
    return "returned it" if step.carried_by == "reply" else "was sent with it"


def _ended(evidence: Evidence, task: Task, step: Step) -> str:
    """Return what happened to the process after the step; empty: it went on."""
    if not step.pid:
        return ""
    hits = [
        (fault.effective_t, fault)
        for fault in evidence.faults.values()
        if fault.effective_t is not None and step.pid in fault.pids and fault.over_t >= step.t
    ]
    raised = [one.end for one in task.executions if one.pid == step.pid and one.raised and one.end and one.end > step.t]
    # At the end of a run all of its processes are ended.
    over_t = evidence.phases.get("drained", evidence.phases.get("deadline", evidence.last_t))
    gone = [one for one in evidence.exits if step.pid in (one.sid, one.pid) and step.t <= one.t < over_t]
    if hits:
        t, fault = min(hits, key=lambda hit: hit[0])
        ms = max(0, t - step.t) // 1_000_000
        killed = any(one.sid == step.pid and (one.status or 0) < 0 for one in evidence.exits) or "-9" in fault.evidence
        how = "killed" if killed else "hit"
        return f"the process was {how} {ms:,} ms later by fault {fault.number} ({fault.name})"
    if raised:
        return f"the body raised {(min(raised) - step.t) // 1_000_000:,} ms later"
    if gone:
        first = min(gone, key=lambda one: one.t)
        how = "was killed" if (first.status or 0) < 0 else f"exited with status {first.status}"
        return f"the process {how} {(first.t - step.t) // 1_000_000:,} ms later"
    return ""


def life_of(trail: Trail, first_t: int) -> list[str]:
    """Return the whole trail, a line for each command."""
    lines = []
    for step in trail.steps:
        after_s = (step.t - first_t) / 1e9
        state = f" -> {step.refused}" if step.refused else ("" if step.answered else " (no reply)")
        way = "<-" if step.carried_by == "reply" else "->"
        words = " ".join(step.words[:4]) + (f" ({step.times:,} times in a row)" if step.times > 1 else "")
        lines.append(f"{after_s:9.3f} s  {step.who} {step.pid} #{step.connection} {way} {step.command} {words}{state}")
    if trail.left_out:
        lines.insert(min(4, len(lines)), f"    ... {trail.left_out:,} commands left out ...")
    return lines
