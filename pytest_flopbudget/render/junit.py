"""Comparisons as JUnit's XML, which GitLab, Jenkins and others show beside the tests.

There is no standard: the elements and attributes are those that pytest writes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final
from xml.etree import ElementTree as ET

from pytest_flopbudget.core.comparison import Comparison, Delta
from pytest_flopbudget.render.findings import Finding, Weight, findings
from pytest_flopbudget.render.sentences import older_words, on_legs
from pytest_flopbudget.render.words import clean, explanation

_SUITE: Final = "flopbudget"
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 knows no way to write, lone surrogates among them."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


def render_junit(comparison: Comparison) -> str:
    """A test case for each test with a budget, in the order of their ids.

    What fails the gate is a failure, with the explanation; a test of which no limit could
    be judged is skipped; what is warned of, accepted, or broken on the base too is output
    of a test that passes. The numbers that the comparison holds are properties, in the
    base units. What is missing of the run is an error of a test case of its own.
    """
    cases = _cases(comparison)
    suite = ET.Element(
        "testsuite",
        name=_SUITE,
        tests=str(len(cases)),
        failures=str(sum(case.result == "failure" for case in cases)),
        errors=str(sum(case.result == "error" for case in cases)),
        skipped=str(sum(case.result == "skipped" for case in cases)),
    )
    for case in cases:
        suite.append(case.element())
    told = [clean(note) for note in comparison.notes]
    if told := [*filter(None, [older_words(comparison)]), *told]:
        ET.SubElement(suite, "system-out").text = _legible("\n".join(told))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


@dataclass(slots=True, kw_only=True)
class _Case:
    """One test case, while it is put together."""

    test: str
    file: str = ""
    line: int = 0
    is_judged: bool = False
    failing: list[Finding] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The name of the element that says how it went; empty where it passed."""
        if self.failing:
            return "error" if self.failing[0].kind == "incomplete" else "failure"
        return "skipped" if self.unjudged and not self.is_judged else ""

    def stand_at(self, file: str, line: int) -> None:
        """Take the place, unless a better one is known."""
        self.file, self.line = self.file or file, self.line or line

    def element(self) -> ET.Element:
        classname, name = _named(self.test, self.file)
        case = ET.Element("testcase", classname=_legible(classname), name=_legible(name))
        if self.file:
            case.set("file", _legible(self.file))
        if self.line:
            case.set("line", str(self.line))
        if self.values:
            properties = ET.SubElement(case, "properties")
            for key, value in self.values.items():
                ET.SubElement(properties, "property", name=_legible(key), value=value)
        told = self.told
        if self.result == "skipped":
            message = _legible("; ".join(self.unjudged))
            ET.SubElement(case, "skipped", type="flopbudget.not-judged", message=message)
        else:
            told = [*told, *(f"not judged: {why}" for why in self.unjudged)]
        if self.failing:
            # One element, as readers of this format expect, with a line for each fault.
            messages = [_legible(one.message) for one in self.failing]
            kind = f"flopbudget.{self.failing[0].kind}"
            failure = ET.SubElement(case, self.result, type=kind, message=messages[0])
            failure.text = "\n".join(messages)
        if told:
            ET.SubElement(case, "system-out").text = _legible("\n".join(told))
        return case


def _cases(comparison: Comparison) -> list[_Case]:
    cases: dict[str, _Case] = {}

    def case_of(test: str, file: str = "", line: int = 0) -> _Case:
        case = cases.setdefault(test, _Case(test=test))
        case.stand_at(file, line)
        return case

    for finding in findings(comparison):
        place = finding.place
        case = case_of(place.test or finding.what, place.file, place.line)
        if finding.weight is Weight.FAILING:
            case.failing.append(finding)
        else:
            case.is_judged = True
            case.told.append(f"{finding.kind}: {finding.message}")
    for place in comparison.within:
        case_of(place.test, place.file, place.line).is_judged = True
    for delta in comparison.undecided:
        why = on_legs(explanation(delta), delta.place.legs)
        case_of(delta.place.test, delta.place.file, delta.place.line).unjudged.append(why)
    for entry in comparison.not_measured:
        if entry.budget:
            region = f"{clean(entry.place.region)}: " if entry.place.region else ""
            why = on_legs(f"{region}{clean(entry.reason)}", entry.place.legs)
            case_of(entry.place.test, entry.place.file, entry.place.line).unjudged.append(why)
    for key, test, value in _values(comparison):
        if test in cases:
            cases[test].values.setdefault(key, value)
    return [cases[test] for test in sorted(cases)]


def _values(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    """The name, the test and the amount of each number that the head measured."""
    accepted = (one.delta for one in comparison.accepted if one.delta)
    deltas: Iterable[Delta] = chain(
        comparison.over,
        comparison.warned,
        accepted,
        comparison.pre_existing,
        comparison.timed,
        comparison.undecided,
        comparison.changed,
        comparison.incomparable,
    )
    for delta in deltas:
        if delta.head is not None:
            region = f"{delta.place.region}: " if delta.place.region else ""
            key = on_legs(f"{region}{delta.place.metric}", delta.place.legs)
            yield key, delta.place.test, str(delta.head.value)
    for delta in comparison.timed:
        if delta.timed is not None and delta.timed.ratio is not None:
            region = f"{delta.place.region}: " if delta.place.region else ""
            key = on_legs(f"{region}time beside the base", delta.place.legs)
            yield key, delta.place.test, str(delta.timed.ratio.estimate)


def _named(test: str, file: str) -> tuple[str, str]:
    """The class and the name, cut from the id as pytest does it."""
    inside = test.removeprefix(f"{file}::") if file else ""
    if not inside or inside == test:
        return _SUITE, test
    # The parameters of a test may hold what divides names.
    path, bracket, parameters = inside.partition("[")
    *classes, name = path.split("::")
    module = file.removesuffix(".py").replace("/", ".")
    return ".".join((module, *classes)), f"{name}{bracket}{parameters}"


def _legible(text: str) -> str:
    return _NOT_IN_XML.sub(_REPLACEMENT, text)
