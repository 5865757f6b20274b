"""Reports survive the way to JSON and back, and malformed ones are named, not guessed at."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Budget, Limit, Severity, Tolerance
from pytest_flopbudget.core.codec import (
    decode_test,
    encode_test,
    report_from_json,
    report_to_json,
)
from pytest_flopbudget.core.errors import ReportError
from pytest_flopbudget.core.measurement import (
    COUNTED,
    Counts,
    LineSpending,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Samples,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.metrics import METRICS, Better, Kind
from pytest_flopbudget.core.ratios import Ratio
from pytest_flopbudget.core.report import Git, Report, Settings, TestOutcome, TestReport
from pytest_flopbudget.core.side_by_side import SideBySide, Timed, TimedOutcome
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.core.witness import Witness

counts = st.integers(0, 10**18)
reals = st.floats(-1e300, 1e300)
maybe_reals = st.none() | reals
numbers = counts | reals
words = st.text(max_size=8)
# Limits are written in decimal: what is exact is every decimal of 15 digits.
fractions = st.builds(
    lambda digits, places: Fraction(digits, 10**places),
    st.integers(-(10**15) + 1, 10**15 - 1),
    st.integers(0, 12),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | reals | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
tables = st.dictionaries(words, plain, max_size=2)
plain_names = [m.name for m in METRICS.values() if m.kind in (Kind.EXACT, Kind.MACHINE)]
sampled_names = [m.name for m in METRICS.values() if m.kind is Kind.SAMPLED]


def short(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2).map(tuple)


operators = st.builds(
    OperatorSpending,
    operator=words,
    calls=counts,
    counts=st.builds(Counts, **dict.fromkeys(COUNTED, counts)),
)
values = (
    st.dictionaries(st.sampled_from(plain_names), st.builds(Value, value=numbers), max_size=2)
    | st.dictionaries(
        st.sampled_from(sampled_names),
        st.builds(Value, value=reals, low=maybe_reals, high=maybe_reals),
        max_size=2,
    )
    | st.dictionaries(
        st.sampled_from(["accuracy", "ünïcode"]),
        st.builds(Value, value=numbers, better=st.none() | st.sampled_from(Better)),
        max_size=2,
    )
)
samples = st.builds(
    Samples,
    rounds=counts,
    warmup_rounds=counts,
    threads=counts,
    calls_per_round=counts,
    is_steady=st.booleans(),
    device=st.none() | st.sampled_from(["cuda:0", "cuda:0,cuda:1"]),
    **dict.fromkeys(
        ["median", "low", "high", "confidence", "p95", "p99", "minimum", "maximum"], reals
    ),
    **dict.fromkeys(["p95_low", "p95_high", "p99_low", "p99_high"], maybe_reals),
)
measurements = st.builds(
    Measurement,
    # Few names, so that one test often measures the same name twice.
    name=st.sampled_from(["", "decode"]),
    values=values,
    modules=short(
        st.builds(ModuleSpending, path=words, type=words, calls=counts, operators=short(operators))
    ),
    lines=short(
        st.builds(
            LineSpending,
            line=words,
            operator=words,
            calls=counts,
            counts=st.builds(Counts, **dict.fromkeys(COUNTED, counts)),
        )
    ),
    uncounted=short(st.builds(Uncounted, operator=words, calls=counts, shapes=short(words))),
    samples=st.none() | samples,
    absent=st.dictionaries(words, words, max_size=2),
    is_partial=st.booleans(),
)
limits = st.builds(
    Limit,
    metric=words,
    **dict.fromkeys(["maximum", "minimum", "equals", "vs_baseline"], st.none() | fractions),
    tolerance=st.none() | st.builds(Tolerance, amount=fractions, is_relative=st.booleans()),
    ratio_to=st.none() | words,
    on=st.none() | words,
    severity=st.sampled_from(Severity),
    source=words,
)
verdicts = st.builds(
    Verdict,
    region=words,
    metric=words,
    outcome=st.sampled_from(Outcome),
    reason=words,
    value=st.none() | numbers,
    bound=st.none() | numbers,
    used=maybe_reals,
    severity=st.sampled_from(Severity),
)
budgets = st.builds(
    Budget,
    region=words,
    name=st.none() | words,
    limits=short(limits),
    is_strict=st.booleans(),
)
tests = st.builds(
    TestReport,
    id=words,
    file=words,
    line=counts,
    outcome=st.sampled_from(TestOutcome),
    measurements=short(measurements),
    budgets=short(budgets),
    verdicts=short(verdicts),
)
shares = st.floats(0, 1e300)
above_zero = st.floats(0, 1e300, exclude_min=True)
ratios = st.builds(
    lambda ends, **fields: Ratio(low=min(ends), high=max(ends), **fields),
    st.tuples(above_zero, above_zero),
    **dict.fromkeys(["estimate", "wall", "base_s", "head_s"], above_zero),
    noise=shares,
    pairs=st.integers(2, 10**6),
    witness=st.sampled_from(Witness),
    confidence=st.floats(0, 1, exclude_max=True),
)
RATIOS = {
    TimedOutcome.REGRESSED: ratios,
    TimedOutcome.WITHIN: ratios,
    TimedOutcome.UNSTABLE: st.none() | ratios,
    TimedOutcome.NOT_TIMED: st.none(),
}


@st.composite
def side_by_sides(draw: st.DrawFn, ids: list[str]) -> SideBySide:
    """Timings of tests of these ids, each region once."""
    keys = st.tuples(st.sampled_from(ids or [""]), words)
    timed = []
    for test, region in draw(st.lists(keys, max_size=2 if ids else 0, unique=True)):
        outcome = draw(st.sampled_from(TimedOutcome))
        timed.append(
            Timed(
                test=test,
                region=region,
                outcome=outcome,
                reason=draw(words),
                allowed=draw(shares),
                severity=draw(st.sampled_from(Severity)),
                ratio=draw(RATIOS[outcome]),
            )
        )
    return draw(
        st.builds(
            SideBySide,
            base=words,
            head=words,
            is_dirty=st.booleans(),
            environment=st.dictionaries(words, words, max_size=2),
            pairs=counts,
            seconds=shares,
            tests=st.just(tuple(timed)),
            notes=short(words),
        )
    )


reports = st.builds(
    Report,
    machine=tables,
    versions=st.dictionaries(words, words, max_size=2),
    git=st.none() | st.builds(Git, commit=words, branch=st.none() | words, is_dirty=st.booleans()),
    settings=st.builds(
        Settings,
        mode=words,
        strict=st.booleans(),
        file=st.none() | words,
        budgets=tables,
        defaults=tables,
        match=short(tables),
    ),
    selection=short(words),
    is_interrupted=st.booleans(),
    tests=short(tests),
    notes=short(words),
).flatmap(
    lambda report: (st.none() | side_by_sides([test.id for test in report.tests])).map(
        lambda timings: replace(report, side_by_side=timings)
    )
)

thorough = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SCHEMA = json.loads(files("pytest_flopbudget").joinpath("core/report.schema.json").read_text())


@thorough
@given(reports)
def test_a_report_survives_the_way_through_json_text(report: Report) -> None:
    text = json.dumps(report_to_json(report), allow_nan=False)
    assert report_from_json(json.loads(text), where="r.json") == report


@thorough
@given(tests)
def test_one_test_survives_the_way_from_a_worker(test: TestReport) -> None:
    assert decode_test(encode_test(test)) == test


@thorough
@given(reports)
def test_every_report_keeps_to_the_schema(report: Report) -> None:
    data = json.loads(json.dumps(report_to_json(report)))
    jsonschema.validate(data, SCHEMA, cls=jsonschema.Draft202012Validator)


def full_report() -> Report:
    """A report in which every key of the shape occurs."""
    spent = OperatorSpending(operator="aten.mm", calls=2, counts=Counts(flops=8, macs=4))
    limit = Limit(
        metric="flops",
        maximum=Fraction(10),
        minimum=Fraction(1),
        equals=Fraction(8),
        tolerance=Tolerance(amount=Fraction(1, 1000), is_relative=True),
        vs_baseline=Fraction(5, 100),
        ratio_to="teacher",
        on="runner",
        source="pyproject.toml",
    )
    measurement = Measurement(
        values={"flops": Value(value=8), "latency": Value(value=0.5, low=0.4, high=0.6)},
        modules=(ModuleSpending(path="fc", type="Linear", calls=1, operators=(spent,)),),
        lines=(
            LineSpending(
                line="model.py:3", operator="aten.mm", calls=2, counts=Counts(flops=8, macs=4)
            ),
        ),
        uncounted=(Uncounted(operator="aten.sort.default", calls=1, shapes=("f32[4]",)),),
        samples=Samples(
            rounds=9,
            warmup_rounds=2,
            threads=1,
            median=0.5,
            low=0.4,
            high=0.6,
            confidence=0.95,
            p95=0.7,
            p99=0.8,
            minimum=0.3,
            maximum=0.9,
            is_steady=True,
            p95_low=0.6,
            p95_high=0.8,
            p99_low=0.7,
            p99_high=0.9,
        ),
    )
    verdict = Verdict(
        region="",
        metric="flops",
        outcome=Outcome.WITHIN,
        reason="8 FLOP, at most 10 FLOP",
        used=0.8,
    )
    test = TestReport(
        id="test_a.py::test_a",
        file="test_a.py",
        line=3,
        outcome=TestOutcome.PASSED,
        measurements=(measurement, measurement),
        budgets=(Budget(limits=(limit,)),),
        verdicts=(verdict,),
    )
    timed = Timed(
        test="test_a.py::test_a",
        region="",
        outcome=TimedOutcome.WITHIN,
        reason="1.02 times the base",
        allowed=0.05,
        severity=Severity.ERROR,
        ratio=Ratio(
            estimate=1.02,
            low=1.01,
            high=1.03,
            confidence=0.98,
            noise=0.01,
            pairs=5,
            witness=Witness.CPU,
            wall=1.04,
            base_s=0.5,
            head_s=0.51,
        ),
    )
    return Report(
        git=Git(commit="abc", branch="main", is_dirty=False),
        versions={"torch": "2.13.0"},
        tests=(test,),
        side_by_side=SideBySide(
            base="def",
            head="abc",
            environment={"PYTHONHASHSEED": "0"},
            pairs=5,
            seconds=60.5,
            tests=(timed,),
            notes=("both import torch 2.13.0",),
        ),
    )


def keys_of(data: object, described: object) -> Iterator[tuple[str, bool]]:
    """Every key of the document, and whether the schema has a word for it."""
    schema = resolved(described)
    if isinstance(data, dict):
        names = schema.get("properties", {})
        for key, value in data.items():
            is_known = key in names or "additionalProperties" in schema or not names
            yield key, is_known
            yield from keys_of(value, names.get(key, schema.get("additionalProperties", {})))
    elif isinstance(data, list):
        for value in data:
            yield from keys_of(value, schema.get("items", {}))


def resolved(described: Any) -> dict[str, Any]:
    if "$ref" in described:
        return resolved(SCHEMA["$defs"][described["$ref"].rpartition("/")[2]])
    merged = dict(described)
    for part in described.get("allOf", []) + described.get("anyOf", [])[:1]:
        properties = resolved(part).get("properties", {})
        merged["properties"] = merged.get("properties", {}) | properties
    return merged


def test_the_schema_describes_every_key_that_is_written() -> None:
    keys = dict(keys_of(report_to_json(full_report()), SCHEMA))
    assert {"ratio_to", "p99_high", "nth", "macs", "interval", "witness"} <= keys.keys()
    assert [key for key, is_known in keys.items() if not is_known] == []


def test_a_key_without_a_description_would_be_found() -> None:
    data = report_to_json(full_report())
    data["tests"][0]["budgets"][0]["limits"][0]["maximum"] = 1
    assert dict(keys_of(data, SCHEMA))["maximum"] is False


def break_at(data: Any, *path: str | int, value: object = None, is_gone: bool = False) -> Any:
    broken = copy.deepcopy(data)
    place = broken
    for key in path[:-1]:
        place = place[key]
    if is_gone:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return broken


TEST = ("tests", 0)
TIMED = ("side_by_side", "tests", 0)
METRIC = (*TEST, "measurements", 0, "metrics", "flops")
BREAKS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no list of tests": (
        lambda d: break_at(d, "tests", value={}),
        "r.json: tests: expected a list, found {}",
    ),
    "a missing key": (
        lambda d: break_at(d, *TEST, "file", is_gone=True),
        "r.json: tests[0]: file is missing",
    ),
    "a number as an id": (
        lambda d: break_at(d, *TEST, "id", value=3),
        "r.json: tests[0].id: expected a text, found 3",
    ),
    "a line before the first": (
        lambda d: break_at(d, *TEST, "line", value=-1),
        "r.json: tests[0].line: expected a whole number, zero or more, found -1",
    ),
    "a bool as a number": (
        lambda d: break_at(d, *METRIC, "value", value=True),
        "r.json: tests[0].measurements[0].metrics.flops.value: expected a number, found true",
    ),
    "an unknown outcome": (
        lambda d: break_at(d, *TEST, "outcome", value="fine"),
        (
            "r.json: tests[0].outcome: expected one of passed, failed, over budget, error, "
            'skipped, xfailed, deselected, not run, found "fine"'
        ),
    ),
    "a severity of another kind": (
        lambda d: break_at(d, *TEST, "verdicts", 0, "severity", value=["error"]),
        'r.json: tests[0].verdicts[0].severity: expected one of error, warn, found ["error"]',
    ),
    "an interval of one end": (
        lambda d: break_at(d, *METRIC, "interval", value=[1]),
        (
            "r.json: tests[0].measurements[0].metrics.flops.interval: "
            "expected a list of two numbers, found [1]"
        ),
    ),
    "a number that is no size": (
        lambda d: break_at(d, *METRIC, "value", value=10**301),
        (
            "r.json: tests[0].measurements[0].metrics.flops.value: "
            f"expected a number below 1e300, found 1{'0' * 39}..."
        ),
    ),
    "a text for a flag": (
        lambda d: break_at(d, "interrupted", value="no"),
        'r.json: interrupted: expected true or false, found "no"',
    ),
    "a list for a table": (
        lambda d: break_at(d, "settings", value=[]),
        "r.json: settings: expected a table, found []",
    ),
    "a ratio of nothing": (
        lambda d: break_at(d, *TIMED, "ratio", "estimate", value=0),
        "r.json: side_by_side.tests[0].ratio.estimate: expected a number above zero, found 0",
    ),
    "an interval over one pair": (
        lambda d: break_at(d, *TIMED, "ratio", "pairs", value=1),
        "r.json: side_by_side.tests[0].ratio.pairs: expected two pairs or more, found 1",
    ),
    "an interval that cannot be surer": (
        lambda d: break_at(d, *TIMED, "ratio", "confidence", value=1),
        "r.json: side_by_side.tests[0].ratio.confidence: expected a share below 1, found 1",
    ),
    "a growth below none": (
        lambda d: break_at(d, *TIMED, "allowed", value=-0.05),
        "r.json: side_by_side.tests[0].allowed: expected a number, zero or more, found -0.05",
    ),
    "within, and nothing was timed": (
        lambda d: break_at(d, *TIMED, "ratio", is_gone=True),
        "r.json: side_by_side.tests[0].outcome: 'within', and there is no ratio",
    ),
    "not timed, and there is a time": (
        lambda d: break_at(d, *TIMED, "outcome", value="not timed"),
        "r.json: side_by_side.tests[0].outcome: 'not timed', and there is a ratio",
    ),
    "a wrong value of any length": (
        lambda d: break_at(d, "settings", value="x" * 1000),
        'r.json: settings: expected a table, found "' + "x" * 39 + "...",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BREAKS.values(), ids=BREAKS.keys())
def test_a_malformed_report_is_one_line_with_file_and_key(
    damage: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(ReportError) as caught:
        report_from_json(damage(report_to_json(full_report())), where="r.json")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "damage",
    [damage for damage, _ in BREAKS.values()],
    ids=BREAKS.keys(),
)
def test_the_schema_refuses_what_the_reader_refuses(damage: Callable[[Any], Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(damage(report_to_json(full_report())), SCHEMA)


def test_a_row_of_an_unknown_region_is_refused() -> None:
    data = break_at(report_to_json(full_report()), *TEST, "modules", 0, "region", value="gone")
    with pytest.raises(ReportError, match=r"modules\[0\].region: .* no measurement named 'gone'"):
        report_from_json(data, where="r.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    {
        "an interval upside down": (
            lambda d: break_at(d, *TIMED, "ratio", "interval", value=[1.2, 1.1]),
            (
                "side_by_side.tests[0].ratio.interval: "
                "expected two numbers, the lower first, found [1.2, 1.1]"
            ),
        ),
        "a test that is not in the report": (
            lambda d: break_at(d, *TIMED, "test", value="test_b.py::test_b"),
            "side_by_side.tests[0].test: the report has no test 'test_b.py::test_b'",
        ),
        "the same region twice": (
            lambda d: break_at(d, *TIMED[:2], value=2 * d["side_by_side"]["tests"]),
            "side_by_side.tests[1].region: this region of the test stands there twice",
        ),
    }.values(),
    ids=["interval", "test", "region"],
)
def test_timings_that_contradict_themselves_are_refused(
    damage: Callable[[Any], Any], message: str
) -> None:
    # No schema can say these.
    with pytest.raises(ReportError) as caught:
        report_from_json(damage(report_to_json(full_report())), where="r.json")
    assert str(caught.value) == f"r.json: {message}"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_ratio_that_is_no_number_is_never_written(value: float) -> None:
    report = full_report()
    assert report.side_by_side is not None
    (timed,) = report.side_by_side.tests
    assert timed.ratio is not None
    broken = replace(timed, ratio=replace(timed.ratio, high=value))
    timings = replace(report.side_by_side, tests=(broken,))
    with pytest.raises(ReportError, match=r"^test_a.py::test_a: ratio: .* not a finite number"):
        report_to_json(replace(report, side_by_side=timings))


def test_a_newer_schema_asks_for_an_update() -> None:
    with pytest.raises(ReportError, match=r"^r.json: .*schema 2,.* up to 1; update pytest-flop"):
        report_from_json({"schema_version": 2}, where="r.json")


@pytest.mark.parametrize("data", [[], None, "text", {}, {"tests": []}])
def test_json_of_something_else_is_not_taken_for_a_report(data: object) -> None:
    with pytest.raises(ReportError, match=r"^r.json: not a report of pytest-flopbudget"):
        report_from_json(data, where="r.json")


def test_keys_from_a_later_release_are_passed_over() -> None:
    data = report_to_json(full_report()) | {"energy_contract": {"supplier": "green"}}
    assert report_from_json(data, where="r.json") == full_report()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused_on_both_ways(number: float) -> None:
    test = TestReport(
        id="test_a",
        file="a.py",
        line=1,
        outcome=TestOutcome.PASSED,
        measurements=(Measurement(values={"accuracy": Value(value=number)}),),
    )
    with pytest.raises(ReportError, match=r"^test_a: accuracy: .* not a finite number"):
        report_to_json(Report(tests=(test,)))
    data = break_at(report_to_json(full_report()), *METRIC, "value", value=number)
    with pytest.raises(ReportError, match=r"flops.value: expected a finite number"):
        report_from_json(data, where="r.json")
    data = break_at(report_to_json(full_report()), "machine", value={"ghz": number})
    with pytest.raises(ReportError, match=r"machine.ghz: expected a finite number"):
        report_from_json(data, where="r.json")


def test_a_decimal_limit_is_read_back_to_the_digit() -> None:
    # 0.1 as a float is not a tenth; the limit that was written is.
    limit = Limit(metric="macs", maximum=Fraction(1, 10), vs_baseline=Fraction(5, 100))
    report = Report(
        tests=(
            TestReport(
                id="t",
                file="t.py",
                line=1,
                outcome=TestOutcome.PASSED,
                budgets=(Budget(limits=(limit,)),),
            ),
        )
    )
    data = json.loads(json.dumps(report_to_json(report)))
    assert data["tests"][0]["budgets"][0]["limits"][0]["max"] == 0.1
    assert report_from_json(data, where="r").tests[0].budgets[0].limits[0].maximum == Fraction(
        1, 10
    )


def test_what_the_callable_returned_is_never_written() -> None:
    measurement = Measurement(values={}, output=object())
    test = TestReport(
        id="t", file="t.py", line=1, outcome=TestOutcome.PASSED, measurements=(measurement,)
    )
    assert "output" not in json.loads(encode_test(test))["measurements"][0]


def test_a_worker_that_sends_no_json_is_named() -> None:
    with pytest.raises(ReportError, match=r"^a worker's test: not JSON"):
        decode_test("{")


def test_the_rows_of_the_operators_add_up_the_modules() -> None:
    spent = OperatorSpending(operator="aten.mm", calls=1, counts=Counts(flops=6))
    rows = [
        ModuleSpending(path=path, type="Linear", calls=1, operators=(spent,)) for path in ("a", "b")
    ]
    test = TestReport(
        id="t",
        file="t.py",
        line=1,
        outcome=TestOutcome.PASSED,
        measurements=(Measurement(values={}, modules=tuple(rows)),),
    )
    assert json.loads(encode_test(test))["operators"] == [
        {"region": "", "operator": "aten.mm", "calls": 2, "flops": 12}
    ]


def test_the_report_that_the_documents_show_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    jsonschema.validate(shown, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert report_to_json(report_from_json(shown, where="docs/report.md")) == shown
