"""`junit.xml`: one case for the verdict, one per law that a history can show broken, one per fault."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from ..checker.verdicts import FaultResult, Property, Result, Verdict

NAME = "junit.xml"
SENTENCES_MAX = 20
SENTENCE_CHARACTERS_MAX = 500

# XML 1.0 can't express these characters, not even escaped; task ids and error texts may hold anything.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(run_directory: Path, result: Result) -> Path:
    """Write the file. A case fails exactly when the exit status isn't 0. EXCUSED is not a pass: its case is skipped."""
    properties = {"seed": str(result.seed), "server": result.server, "durability": result.durability}
    cases = [_verdict_case(result), *map(_law_case, result.properties), *map(_fault_case, result.faults)]
    return write_suite(run_directory, f"zeroloss {result.target}", properties, cases)


def write_suite(directory: Path, title: str, properties: Mapping[str, str], cases: Iterable[TestCase]) -> Path:
    """Write junit.xml with one suite."""
    suite = TestSuite(_text(title))
    for name, member in properties.items():
        suite.add_property(name, _text(member))
    suite.add_testcases(list(cases))  # together, as each call counts all of them
    document = JUnitXml("zeroloss")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    path = directory / NAME
    document.write(str(path), pretty=True)
    return path


def make_case(
    name: str, classname: str, *, failed: str = "", skipped: str = "", sentences: Sequence[str] = (), seconds: float = 0
) -> TestCase:
    """Make a case. `failed` or `skipped` names the kind of failure or skip; the first sentence is its message."""
    case = TestCase(_text(name), classname=classname, time=seconds)
    if failed:
        _fail(case, sentences[0], failed, list(sentences))
    elif skipped:
        case.result = [Skipped(_text(sentences[0]), skipped)]
    return case


def _verdict_case(result: Result) -> TestCase:
    case = TestCase("verdict", classname="zeroloss.run", time=result.duration_ms / 1000)
    repeat = f"Repeat with: {result.replay}"
    told = [f"{story.task} {story.fate}: {' '.join(story.sentences)}" for story in result.stories]
    sentences = [result.because, *result.cause, *told, repeat, *result.doubts, *result.notes, *result.exits_in_short]
    if result.verdict is Verdict.EXCUSED:
        skipped = Skipped(_text(result.because), result.verdict.value)
        skipped.text = _lines([repeat, *(f"{one.task}: {one.fault}. {one.reason}" for one in result.excuses)])
        case.result = [skipped]
    elif result.verdict is not Verdict.PASS:
        _fail(case, result.because, result.verdict.value, sentences)
    return case


def _law_case(law: Property) -> TestCase:
    case = TestCase(f"{law.number} {law.title}", classname="zeroloss.laws", time=0)
    if not law.tested:
        case.result = [Skipped("This run does not test it.", "not tested")]
    if law.violations:
        count = len(law.violations)
        _fail(
            case,
            f"{law.number} was violated {count:,} times" if count > 1 else law.violations[0],
            law.number,
            law.violations,
        )
    return case


def _fault_case(fault: FaultResult) -> TestCase:
    case = TestCase(_text(f"fault {fault.number} {fault.name}"), classname="zeroloss.faults", time=0)
    if fault.state != "effective":
        _fail(case, f"The fault was asked for and took no effect: {fault.state}.", fault.state, [fault.evidence])
    return case


def _fail(case: TestCase, message: str, kind: str, sentences: list[str]) -> None:
    failure = Failure(_text(message), kind)
    failure.text = _lines(sentences)
    case.result = [failure]


def _lines(sentences: list[str]) -> str:
    lines = [_text(sentence) for sentence in sentences[:SENTENCES_MAX]]
    if len(sentences) > SENTENCES_MAX:
        lines.append(f"and {len(sentences) - SENTENCES_MAX:,} more")
    return "\n".join(lines)


def _text(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)[:SENTENCE_CHARACTERS_MAX]
