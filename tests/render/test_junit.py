"""JUnit's XML: what other programs show beside the tests."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.render.junit import render_junit

from ..builders import budgeted, limit, measured, reported
from .settled import gated, loosened_alone, side


def suite(comparison: Comparison) -> ET.Element:
    root = ET.fromstring(render_junit(comparison))  # noqa: S314 - our own text
    assert root.tag == "testsuites"
    (only,) = root
    return only


def cases(comparison: Comparison) -> dict[str, ET.Element]:
    return {case.attrib["name"]: case for case in suite(comparison).iter("testcase")}


def test_every_budgeted_test_is_a_case_and_the_counts_say_how_they_went() -> None:
    # Seven tests with budgets: wide is over and loose is loosened, off failed before its end.
    found = suite(gated())
    counts = {key: found.attrib[key] for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "7", "failures": "2", "errors": "0", "skipped": "1"}
    assert [(case.attrib["name"], [part.tag for part in case]) for case in found] == [
        ("test_fine", ["properties"]),
        ("test_large", ["properties", "system-out"]),
        ("test_loose", ["properties", "failure"]),
        ("test_off", ["skipped"]),
        ("test_old", ["properties", "system-out"]),
        ("test_soft", ["properties", "system-out"]),
        ("test_wide", ["properties", "failure"]),
    ]


def test_a_case_has_the_names_and_the_place_that_pytest_gives_it() -> None:
    wide = cases(gated())["test_wide"]
    assert wide.attrib == {
        "classname": "tests.test_net",
        "name": "test_wide",
        "file": "tests/test_net.py",
        "line": "1",
    }


@pytest.mark.parametrize(
    ("test", "classname", "name"),
    [
        ("a/b.py::T::U::test_x", "a.b.T.U", "test_x"),
        ("b.py::T::test_x[k::v-[1]]", "b.T", "test_x[k::v-[1]]"),
        ("a[1]/b.py::test_x", "a[1].b", "test_x"),
    ],
)
def test_classes_and_parameters_are_cut_as_pytest_cuts_them(
    test: str, classname: str, name: str
) -> None:
    report = reported(budgeted(test, measured(macs={"": 1}), limits=(limit("macs", 1),)))
    (case,) = suite(compare(None, report)).iter("testcase")
    assert (case.attrib["classname"], case.attrib["name"]) == (classname, name)


def test_what_is_over_says_by_how_much_and_what_moved_it() -> None:
    failure = cases(gated())["test_wide"].find("failure")
    assert failure is not None
    assert failure.attrib == {
        "type": "flopbudget.over-budget",
        "message": "test_wide used 12 MAC, budget 10 MAC (+20 %); most spent in fc (aten.mm, "
        "12 MAC); on the base 10 MAC (+20 %), moved by fc (aten.mm): +2 MAC",
    }
    assert failure.text == failure.attrib["message"]


def test_what_is_loosened_and_not_accepted_fails_and_says_the_way_out() -> None:
    failure = cases(loosened_alone())["test_loose"].find("failure")
    assert failure is not None
    assert failure.attrib["type"] == "flopbudget.loosened-budget"
    assert failure.text == (
        "This change loosens a budget: test_loose: macs maximum: 10 MAC -> 20 MAC "
        "(measured 1 MAC); take it back, or have it accepted: a line in the text given "
        "with --accept: "
        "Flop-Budget-Accept: tests/test_net.py::test_loose macs <= 20 MAC - reason"
    )


def test_without_the_gate_a_loosened_budget_that_holds_is_told_and_passes() -> None:
    spent = {"test_loose": 1}
    found = suite(compare(side(spent, loose=10), side(spent, loose=20)))
    assert found.attrib["failures"] == "0"
    out = cases(compare(side(spent, loose=10), side(spent, loose=20)))["test_loose"]
    assert out.findtext("system-out") == (
        "loosened-budget: This change loosens a budget: test_loose: macs maximum: "
        "10 MAC -> 20 MAC (measured 1 MAC)"
    )


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("test_soft", "warned: test_soft used 13 MAC, budget 10 MAC (+30 %)", "+3 MAC"),
        (
            "test_large",
            "accepted: test_large used 30 MAC, budget 10 MAC (+200 %)",
            "; accepted up to 40 MAC: needed for accuracy (label set by octocat)",
        ),
        (
            "test_old",
            "pre-existing: test_old used 15 MAC, budget 10 MAC (+50 %)",
            "(the base breaks it too)",
        ),
    ],
)
def test_what_does_not_fail_is_output_of_a_test_that_passes(
    name: str, start: str, end: str
) -> None:
    told = cases(gated())[name].findtext("system-out") or ""
    assert told.startswith(start)
    assert told.endswith(end)


def test_what_was_measured_is_a_property_in_the_base_unit() -> None:
    report = reported(
        budgeted(
            "t.py::t",
            measured("decode", macs={"": 10**12}),
            limits=(limit("macs", 1),),
            region="decode",
        )
    )
    (case,) = suite(compare(None, report)).iter("testcase")
    assert [one.attrib for one in case.iter("property")] == [
        {"name": "decode: macs", "value": "1000000000000"}
    ]


def test_a_test_of_which_nothing_was_judged_is_skipped_with_the_reason() -> None:
    skipped = cases(gated())["test_off"].find("skipped")
    assert skipped is not None
    assert skipped.attrib == {
        "type": "flopbudget.not-judged",
        "message": "measured nothing",
    }


def test_a_limit_that_cannot_be_judged_skips_no_test_of_which_another_was() -> None:
    verdict = Verdict(
        region="", metric="latency", outcome=Outcome.INCONCLUSIVE, reason="t: too noisy to tell"
    )
    test = budgeted("t.py::t", measured(macs={"": 1}), limits=(limit("macs", 1),))
    report = reported(replace(test, verdicts=(*test.verdicts, verdict)))
    (case,) = suite(compare(None, report)).iter("testcase")
    assert [part.tag for part in case] == ["system-out"]
    assert case.findtext("system-out") == "not judged: t: too noisy to tell"


def test_two_faults_of_one_test_are_one_failure_with_a_line_each() -> None:
    limits = (limit("macs", 1), limit("ops", 1))
    report = reported(budgeted("t.py::t", measured(macs={"": 2}, ops=3), limits=limits))
    found = suite(compare(None, report))
    assert found.attrib["failures"] == "1"
    (failure,) = found.iter("failure")
    # Three of one operator is farther from its bound than two of one MAC.
    assert [line.partition(",")[0] for line in (failure.text or "").splitlines()] == [
        "t dispatched 3 operators",
        "t used 2 MAC",
    ]


def test_a_missing_leg_is_an_error_of_its_own() -> None:
    fine = compare(None, side({"test_fine": 1}, loose=10))
    found = suite(merge({"cpu": fine}, missing=["gpu"]))
    assert (found.attrib["tests"], found.attrib["errors"]) == ("3", "1")
    (error,) = found.iter("error")
    assert error.text == "Leg gpu is missing: its job failed, or left no report"


def test_a_run_that_did_not_reach_its_end_is_an_error() -> None:
    whole = compare(None, side({"test_fine": 1}, loose=10))
    (error,) = suite(replace(whole, standing=Standing.INCOMPLETE)).iter("error")
    assert "did not reach its end" in (error.text or "")


def test_legs_that_alone_are_over_are_named() -> None:
    fine, over = (compare(None, side({"test_wide": macs}, loose=10)) for macs in (9, 12))
    (failure,) = suite(merge({"cpu": fine, "gpu": over})).iter("failure")
    assert (failure.text or "").endswith(" (on gpu)")


def test_nothing_measured_is_a_suite_without_cases() -> None:
    found = suite(compare(None, reported()))
    assert found.attrib["tests"] == "0"
    assert list(found.iter("testcase")) == []


@given(st.text(max_size=60))
def test_no_name_makes_the_document_unreadable(name: str) -> None:
    test = f"t.py::test_x[{name}]"
    report = reported(budgeted(test, measured(macs={name: 2}), limits=(limit("macs", 1),)))
    text = render_junit(compare(None, report))
    text.encode()  # no lone surrogate is left
    found = suite(compare(None, report))
    assert (found.attrib["tests"], found.attrib["failures"]) == ("1", "1")


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("\x00", "\ufffd"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\udcff", "\ufffd"),
        ("\ufffe", "\ufffd"),
        ('"></testcase>&amp;]]>', '"></testcase>&amp;]]>'),
        ("a\nb\tc", "a\nb\tc"),
        ("\U0001f525", "\U0001f525"),
    ],
)
def test_what_xml_cannot_hold_is_replaced_and_nothing_else(given_name: str, shown: str) -> None:
    report = reported(
        budgeted(f"t.py::x[{given_name}]", measured(macs={"": 1}), limits=(limit("macs", 1),))
    )
    (case,) = suite(compare(None, report)).iter("testcase")
    assert case.attrib["name"] == f"x[{shown}]"


def test_the_order_of_the_tests_in_the_run_does_not_show() -> None:
    def document(*names: str) -> str:
        tests = [
            budgeted(f"t.py::{name}", measured(macs={"": 2}), limits=(limit("macs", 1),))
            for name in names
        ]
        return render_junit(compare(None, reported(*tests)))

    assert document("a", "b", "c") == document("c", "a", "b")
