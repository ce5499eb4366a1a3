"""The thresholds as a JUnit report: a test case each."""

from pathlib import Path

from junitparser import Failure, JUnitXml, TestCase, TestSuite

from .gates import Gate


def write_junit(path: Path, gates: list[Gate]) -> None:
    """Replace the file; its folder is made where there is none."""
    suite = TestSuite("load")
    for gate in gates:
        case = TestCase(gate.name, "loadtests")
        if gate.passed:
            case.system_out = gate.sentence
        else:
            case.result = [Failure(gate.sentence)]
        suite.add_testcase(case)
    report = JUnitXml("load")
    report.add_testsuite(suite)
    path.parent.mkdir(parents=True, exist_ok=True)
    report.write(str(path), pretty=True)
