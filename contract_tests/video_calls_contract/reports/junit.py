"""The JUnit report for CI: a test suite for each section of the document, a test case for each rule."""

from xml.etree import ElementTree as ET

from video_calls_contract.reports import evidence, kind, visible
from video_calls_contract.results import NOT_JUDGED, Results, RuleResult

_CASES = "video-calls-contract"


def as_junit(results: Results) -> str:
    """Return the JUnit report."""
    root = ET.Element("testsuites", name=_CASES, time=f"{results.seconds:.3f}")
    for section, rules in results.sections().items():
        suite = ET.SubElement(root, "testsuite", name=section, timestamp=_timestamp(results))
        for result in rules:
            _add_rule(suite, result, results)
        _count(suite)
    if results.exit_status == NOT_JUDGED or results.broken:
        suite = ET.SubElement(root, "testsuite", name="The suite itself", timestamp=_timestamp(results))
        if results.exit_status == NOT_JUDGED:
            case = ET.SubElement(suite, "testcase", classname=_CASES, name="could do its work", time="0")
            ET.SubElement(case, "error", message=visible(results.problem), type="NoWork")
        for test in results.broken:
            case = ET.SubElement(
                suite, "testcase", classname=_CASES, name=visible(test.name), time=f"{test.seconds:.3f}"
            )
            ET.SubElement(case, "error", message=visible(test.reason), type="Broken")
        _count(suite)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_rule(suite: ET.Element, result: RuleResult, results: Results) -> None:
    rule = result.rule
    seconds = sum(test.seconds for test in result.tests)
    case = ET.SubElement(
        suite, "testcase", classname=visible(rule.section), name=rule.id, time=f"{seconds:.3f}"
    )
    reason = visible(result.reason)
    match kind(result, results):
        case "violation":
            failure = ET.SubElement(case, "failure", message=reason, type=rule.level)
            failure.text = visible(_details(result))
        case "warning":
            ET.SubElement(case, "system-out").text = f"warning: {reason}\n\n{visible(_details(result))}"
        case "noted":
            ET.SubElement(case, "system-out").text = f"note: {reason}"
        case "known":
            ET.SubElement(case, "skipped", message=f"known: {reason}")
        case "not_checked":
            ET.SubElement(case, "skipped", message=f"not checked: {reason}")
        case "passed" if reason:
            ET.SubElement(case, "system-out").text = reason
        case _:
            pass


def _details(result: RuleResult) -> str:
    lines = [f"{result.rule.section}: {result.rule.statement}", result.rule.summary]
    for test in result.failures:
        lines += ["", f"{test.name}: expected {test.reason}"]
        for exchange in evidence(test):
            lines += ["", exchange.request_text, "", exchange.response_text, "", exchange.curl]
    return "\n".join(lines)


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite)))
    for name, element in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{element}"))))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in suite):.3f}")


def _timestamp(results: Results) -> str:
    return results.started_at.replace(tzinfo=None).isoformat(timespec="seconds")
