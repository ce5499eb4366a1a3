"""The thresholds as a JUnit report, one test case for each."""

from pathlib import Path

from junitparser import Failure, JUnitXml, TestCase, TestSuite

from .gates import Gate


def write_junit(path: Path, gates: list[Gate]) -> None:
    """Write the report, replacing the file and making its folder if needed."""
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
