"""GitLab's Code Quality: a list of issues, each at a line of a file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.core.merging import merge
from pytest_flopbudget.core.report import Report
from pytest_flopbudget.render.code_quality import render_code_quality

from ..builders import budgeted, limit, measured, reported
from .settled import FILE, gated, loosened_alone, side


def issues(comparison: Comparison) -> list[dict[str, Any]]:
    listed = json.loads(render_code_quality(comparison))
    assert isinstance(listed, list)
    return listed


def over(*macs: int, name: str = "t.py::t", line: int = 3) -> Report:
    return reported(
        *(
            budgeted(name, measured(macs={"": one}), limits=(limit("macs", 1),), line=line)
            for one in macs
        )
    )


def test_each_finding_is_an_issue_with_its_severity_and_its_place() -> None:
    found = [
        (
            one["check_name"],
            one["severity"],
            one["location"]["path"],
            one["location"]["lines"]["begin"],
        )
        for one in issues(gated())
    ]
    # The tests stand at lines 1 to 6: wide, loose, soft, large, old, fine.
    assert found == [
        ("flopbudget/over-budget", "major", FILE, 1),
        ("flopbudget/loosened-budget", "major", FILE, 2),
        ("flopbudget/warned", "minor", FILE, 3),
        ("flopbudget/accepted", "info", FILE, 4),
        ("flopbudget/pre-existing", "info", FILE, 5),
    ]


def test_an_issue_has_what_gitlab_asks_for_and_no_more() -> None:
    (one,) = issues(compare(None, over(2)))
    parts = ["t.py::t", "", "macs", "over-budget", ""]
    assert one == {
        "description": "t used 2 MAC, budget 1 MAC (+100 %); most spent in (top level) "
        "(aten.mm, 2 MAC)",
        "check_name": "flopbudget/over-budget",
        "fingerprint": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        "severity": "major",
        "location": {"path": "t.py", "lines": {"begin": 3}},
    }


def test_without_the_gate_a_loosened_budget_that_holds_is_minor() -> None:
    spent = {"test_loose": 1}
    (one,) = issues(compare(side(spent, loose=10), side(spent, loose=20)))
    assert one["severity"] == "minor"
    assert issues(loosened_alone())[0]["severity"] == "major"


def test_a_fingerprint_outlives_the_numbers_and_the_line() -> None:
    first, second = (
        issues(compare(None, over(macs, line=line)))[0] for macs, line in ((2, 3), (5, 30))
    )
    assert first["fingerprint"] == second["fingerprint"]
    assert first["description"] != second["description"]


def test_another_test_region_metric_or_kind_has_another_fingerprint() -> None:
    def report(test: str = "t.py::t", region: str = "", metric: str = "flops") -> Report:
        return reported(
            budgeted(
                test, measured(region, **{metric: 2}), limits=(limit(metric, 1),), region=region
            )
        )

    reports = [report(), report("t.py::u"), report(region="decode"), report(metric="ops")]
    # A rise of what the first allows is of the same test, region and metric.
    rise = [
        reported(budgeted("t.py::t", measured(flops=1), limits=(limit("flops", n),)))
        for n in (1, 2)
    ]
    loosened = issues(compare(*rise))
    found = [one["fingerprint"] for r in reports for one in issues(compare(None, r))]
    found += [one["fingerprint"] for one in loosened]
    assert len(set(found)) == len(found) == 5


def test_two_changes_of_one_budget_are_two_issues() -> None:
    def report(maximum: int) -> Report:
        one = limit("macs", maximum, minimum=21 - maximum)
        return reported(budgeted("t.py::t", measured(macs={"": 12}), limits=(one,)))

    # From 10..11 to 1..20: both the maximum and the minimum are looser.
    base, head = report(11), report(20)
    found = [one for one in issues(compare(base, head)) if "loosened" in one["check_name"]]
    assert len({one["fingerprint"] for one in found}) == 2


def test_a_missing_leg_is_major_and_has_a_file_as_every_issue_must() -> None:
    fine = compare(None, side({"test_fine": 1}, loose=10))
    found = issues(merge({"cpu": fine}, missing=["gpu", "tpu"]))
    assert [(one["description"], one["severity"]) for one in found] == [
        ("Leg gpu is missing: its job failed, or left no report", "major"),
        ("Leg tpu is missing: its job failed, or left no report", "major"),
    ]
    assert {one["location"]["path"] for one in found} == {"pyproject.toml"}


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("./tests/t.py", "tests/t.py"),
        ("tests\\t.py", "tests/t.py"),
        ("tests//a/../t.py", "tests/t.py"),
        ("/tests/t.py", "tests/t.py"),
    ],
)
def test_a_path_is_relative_and_has_forward_slashes(file: str, path: str) -> None:
    (one,) = issues(compare(None, over(2, name=f"{file}::t")))
    assert one["location"]["path"] == path


def test_a_line_that_is_not_known_is_the_first() -> None:
    (one,) = issues(compare(None, over(2, line=0)))
    assert one["location"]["lines"] == {"begin": 1}


def test_files_are_named_from_the_root_of_the_repository() -> None:
    text = render_code_quality(compare(None, over(2)), locate=lambda file: f"models/{file}")
    assert json.loads(text)[0]["location"]["path"] == "models/t.py"


def test_all_well_is_an_empty_list() -> None:
    assert issues(compare(None, over(1))) == []


@given(st.text(max_size=60))
def test_no_name_makes_the_list_unreadable(name: str) -> None:
    text = render_code_quality(compare(None, over(2, name=f"t.py::x[{name}]")))
    (one,) = json.loads(text)
    # A lone surrogate is no character: other languages refuse the whole document for it.
    one["description"].encode()
    assert "\n" not in one["description"]
