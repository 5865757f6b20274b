"""One report as one HTML page that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pytest_flopbudget.core.attribution import TOP_LEVEL, spenders
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import Standing
from pytest_flopbudget.core.measurement import Measurement, ModuleCounts, OperatorSpending
from pytest_flopbudget.core.metrics import UNCOUNTED, Dimension, metric_named
from pytest_flopbudget.core.pairing import limit_of
from pytest_flopbudget.core.presence import what_is_missing
from pytest_flopbudget.core.quantity import format_quantity
from pytest_flopbudget.core.report import Report, TestOutcome, TestReport
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict
from pytest_flopbudget.render.elements import (
    BLANK,
    Column,
    Content,
    Markup,
    bar,
    element,
    join,
    page,
    table,
)
from pytest_flopbudget.render.html_ratios import timed_section
from pytest_flopbudget.render.stylesheet import STYLE
from pytest_flopbudget.render.words import (
    NOT_JUDGED,
    TOO_LOW,
    amount,
    clean,
    cut,
    digits_or_interval,
    headline,
    leading_metric,
    percent,
    plural,
    samples_words,
    short_names,
    value_and_bound,
    verdict_word,
    with_region,
)

_MOST_MODULES: Final = 200
"""Rows of one tree; those that spent the least are left out, and said to be."""
_MOST_OPERATORS: Final = 15
_MOST_UNCOUNTED: Final = 50
_DEEPEST: Final = 16
"""Levels of a tree that are indented."""
_LONGEST: Final = 40
"""Characters of a name in a tree, whose rows are one line each."""

_STANDINGS: Final = {
    Standing.OVER: "bad",
    Standing.WITHIN: "good",
    Standing.NOTHING_MEASURED: "warn",
    Standing.ACCEPTED: "good",
    Standing.NEEDS_APPROVAL: "bad",
    Standing.INCOMPLETE: "bad",
}
_FINE: Final = frozenset({Outcome.WITHIN, Outcome.IMPROVED})
_FAILED: Final = frozenset({TestOutcome.FAILED, TestOutcome.OVER_BUDGET, TestOutcome.ERROR})
_RANKS: Final = {"bad": 0, "warn": 1, "": 2, "good": 3}


def render_html(report: Report) -> str:
    """The whole report as one page: the verdict, the limits, and what each test spent on what."""
    comparison = compare(None, report)
    verdict = headline(comparison)
    names = short_names(test.id for test in report.tests)
    notes = (*what_is_missing(report), *report.notes)
    body: list[Content] = [
        element("h1", "Compute budgets"),
        element("p", verdict, class_=f"headline {_STANDINGS[comparison.standing]}"),
        *(element("p", note, class_="note") for note in notes),
        _facts(report),
        element("h2", "Limits") if report.tests else "",
        _limits(report, names),
        *timed_section(comparison, names),
        element("h2", "Tests") if any(_has_details(test) for test in report.tests) else "",
    ]
    for number, test in enumerate(report.tests):
        if not _has_details(test):
            continue
        is_open = comparison.measured_tests == 1 and bool(test.measurements)
        is_open = is_open or any(v.is_failure for v in test.verdicts)
        body.append(_test(test, names[test.id], anchor=_anchor(number), is_open=is_open))
    return page(title=f"Compute budgets: {verdict}", style=STYLE, body=body)


def _has_details(test: TestReport) -> bool:
    """Whether there is more to say of the test than how it ended."""
    return bool(test.measurements or test.verdicts)


def _facts(report: Report) -> Markup:
    """Where and with what the run was made."""
    rows: list[tuple[str, str]] = []
    if report.git is not None:
        branch = f" on {report.git.branch}" if report.git.branch else ""
        dirty = ", with uncommitted changes" if report.git.is_dirty else ""
        rows.append(("commit", f"{report.git.commit}{branch}{dirty}"))
    machine = ", ".join(_fact(name, fact) for name, fact in report.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    rows += [("machine", machine), ("versions", versions), ("mode", report.settings.mode)]
    told = [(name, text) for name, text in rows if text]
    return element("dl", *(join((element("dt", n), element("dd", text))) for n, text in told))


def _fact(name: str, fact: Any) -> str:
    if name.endswith("_bytes") and isinstance(fact, int):
        name, fact = name.removesuffix("_bytes"), format_quantity(fact, Dimension.BYTE)
    return f"{name.replace('_', ' ')} {fact}"


def _limits(report: Report, names: dict[str, str]) -> Markup:
    """A row for each limit, the broken ones first; and one for each test that has none."""
    rows: list[tuple[int, Sequence[Content]]] = []
    for number, test in enumerate(report.tests):
        link = f"#{_anchor(number)}" if _has_details(test) else ""
        for verdict in test.verdicts:
            kind = _kind(verdict)
            value, bound = value_and_bound(verdict, limit_of(test, verdict.region, verdict.metric))
            name = element("a", with_region(names[test.id], verdict.region), href=link)
            pill = _pill(verdict_word(verdict), kind)
            used, track = _used(verdict.used, kind)
            row = (name, element("code", verdict.metric), value, bound, used, track, pill)
            rows.append((_RANKS[kind], row))
        if not test.verdicts:
            name = element("a", names[test.id], href=link)
            word = "no budget" if test.measurements else test.outcome.value
            rows.append((len(_RANKS), (name, "", "", "", "", "", _pill(word, ""))))
    columns = (
        Column(title="Test"),
        Column(title="Metric", kind="name"),
        Column(title="Value", kind="number"),
        Column(title="Limit", kind="number"),
        Column(title="Used", kind="number"),
        Column(title="of the limit", kind="bar"),
        Column(title="Verdict"),
    )
    return table(columns, (row for _, row in sorted(rows, key=lambda ranked: ranked[0])))


def _used(used: float | None, kind: str) -> tuple[Content, Content]:
    """The share in words and as a bar, across which a line marks the limit where it is passed."""
    if used is None:
        return "", ""
    mark = 1 / used if used > 1 else None
    return percent(used), bar(used, kind=kind, mark=mark)


def _kind(verdict: Verdict) -> str:
    """The colour's meaning: `good`, `bad`, `warn`, or nothing where the limit says nothing."""
    if verdict.is_failure:
        return "bad"
    if verdict.outcome in BROKEN or verdict.outcome is Outcome.INCONCLUSIVE:
        return "warn"
    return "good" if verdict.outcome in _FINE else ""


def _test(test: TestReport, name: str, *, anchor: str, is_open: bool) -> Markup:
    """Everything known of one test, behind a line that opens it."""
    kind = "bad" if test.outcome in _FAILED else ""
    kind = "good" if test.outcome is TestOutcome.PASSED else kind
    place = element("span", f"{test.file}:{test.line}", class_="soft")
    summary = (name, BLANK, _pill(test.outcome.value, kind), BLANK, place)
    parts: list[Content] = [element("p", element("code", test.id))]
    parts += [
        element("p", verdict.reason, class_=f"why {_kind(verdict)}".rstrip())
        for verdict in sorted(test.verdicts, key=lambda verdict: _RANKS[_kind(verdict)])
        if verdict.outcome not in _FINE
    ]
    for measurement in test.measurements:
        parts += _measurement(measurement, is_named=len(test.measurements) > 1)
    # A link to what is inside opens the part; a link to the part itself does not.
    inside = element("div", *parts, id=anchor)
    return element("details", element("summary", *summary), inside, open=is_open)


def _measurement(measurement: Measurement, *, is_named: bool) -> Iterator[Markup]:
    """What one region cost, and what it was spent on."""
    if is_named or measurement.name:
        yield element("h3", measurement.name or "the test's call")
    if measurement.is_partial:
        yield element("p", NOT_JUDGED, class_="note")
    rows = [
        (metric_named(name).title, amount(value.value, name), digits_or_interval(value, name))
        for name, value in measurement.values.items()
    ]
    columns = (
        Column(title="Metric"),
        Column(title="Value", kind="number"),
        Column(title="Exactly, or its interval", kind="number"),
    )
    yield element("div", table(columns, rows), class_="narrow")
    for name, why in measurement.absent.items():
        yield element("p", f"{metric_named(name).title} was not measured: {why}", class_="note")
    yield from _uncounted(measurement)
    yield from _latency(measurement)
    metric = leading_metric(measurement)
    if metric is not None:
        yield from _modules(measurement, metric)
        yield from _operators(measurement, metric)
        yield from _lines(measurement, metric)
    yield from _memory(measurement)


def _latency(measurement: Measurement) -> Iterator[Markup]:
    """How it was timed, and the spread of the rounds, each as a bar of the longest."""
    samples = measurement.samples
    if samples is None:
        return
    yield element("h4", "Latency")
    warm_up = plural(samples.warmup_rounds, "warm-up round")
    calls = plural(samples.calls_per_round, "call")
    yield element("p", f"{samples_words(samples)}; {warm_up}, {calls} a round", class_="soft")
    spread = (
        ("shortest", samples.minimum, None, None),
        ("median", samples.median, samples.low, samples.high),
        ("p95", samples.p95, samples.p95_low, samples.p95_high),
        ("p99", samples.p99, samples.p99_low, samples.p99_high),
        ("longest", samples.maximum, None, None),
    )
    rows = []
    for name, seconds, low, high in spread:
        has_interval = low is not None and high is not None
        interval = f"{amount(low, 'latency')} to {amount(high, 'latency')}" if has_interval else ""
        share = seconds / samples.maximum if samples.maximum else 0.0
        rows.append((name, amount(seconds, "latency"), interval, bar(share)))
    columns = (
        Column(title="Rounds"),
        Column(title="Time", kind="number"),
        Column(title="Interval", kind="number"),
        Column(title="of the longest", kind="bar"),
    )
    yield table(columns, rows)


def _modules(measurement: Measurement, metric: str) -> Iterator[Markup]:
    """The tree of modules; a bar shows the share of each with everything below it."""
    every = measurement.by_module
    total = getattr(every[""], metric)
    title = metric_named(metric).title
    yield element("h4", f"{title} by module")
    yield element(
        "p",
        element("span", class_="key"),
        "with everything below it",
        BLANK,
        element("span", class_="key own"),
        "what ran directly in it",
        class_="soft",
    )
    # What is above a module never spent less, and stands before it: no row loses its parents.
    largest = set(sorted(every, key=lambda path: -getattr(every[path], metric))[:_MOST_MODULES])
    types = {module.path: module.type for module in measurement.modules}
    rows = []
    for path, depth in _tree(path for path in every if path in largest):
        counts = every[path]
        own, spent = getattr(counts.own, metric), getattr(counts, metric)
        rows.append(
            (
                _branch(path, types.get(path, ""), depth),
                amount(spent, metric),
                percent(spent / total),
                bar(spent / total, own / total),
                amount(own, metric) if own else "",
                *_also(counts),
            )
        )
    columns = (
        Column(title="Module"),
        Column(title=title, kind="number"),
        Column(title="Share", kind="number"),
        Column(title="of all", kind="bar"),
        Column(title="Own", kind="number"),
        Column(title="Parameters", kind="number"),
        Column(title="At the peak", kind="number"),
    )
    yield table(columns, rows)
    yield from _left_out(len(every) - len(rows), "module")


def _also(counts: ModuleCounts) -> tuple[str, str]:
    """The parameters of a module with everything below it, and its bytes at the peak."""
    return (
        amount(counts.params, "params") if counts.params else "",
        amount(counts.peak_memory, "peak_memory") if counts.peak_memory else "",
    )


def _tree(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """The dotted paths with their depth, each below its parent, siblings in the order given."""
    below: dict[str, list[str]] = {}
    for path in paths:
        if path:
            below.setdefault(path.rpartition(".")[0], []).append(path)
    waiting = [("", 0)]
    while waiting:
        path, depth = waiting.pop()
        yield path, depth
        waiting += [(child, depth + 1) for child in reversed(below.get(path, ()))]


def _branch(path: str, kind: str, depth: int) -> Markup:
    """A module's own name, indented as deep as it lies, and its class."""
    name = clean(path.rpartition(".")[2]) if path else TOP_LEVEL
    indent = f"padding-left:{0.9 * min(depth, _DEEPEST):.1f}rem" if depth else ""
    of_class = element("span", cut(clean(kind), _LONGEST), class_="soft")
    label = (element("code", cut(name, _LONGEST)), BLANK, of_class)
    return element("span", *label, class_="tree", style=indent, title=path)


def _operators(measurement: Measurement, metric: str) -> Iterator[Markup]:
    """The operators that spent the most."""

    def spent(row: OperatorSpending) -> int:
        return int(getattr(row.counts, metric))

    title = metric_named(metric).title
    total = sum(spent(row) for row in measurement.operators)
    ranked = [
        row for row in sorted(measurement.operators, key=lambda row: -spent(row)) if spent(row)
    ]
    rows = [
        (
            element("code", row.operator),
            str(row.calls),
            amount(spent(row), metric),
            percent(spent(row) / total),
            bar(spent(row) / total, spent(row) / total),
            amount(row.counts.macs, "macs") if row.counts.macs else "",
            amount(row.counts.bytes_moved, "bytes_moved") if row.counts.bytes_moved else "",
        )
        for row in ranked[:_MOST_OPERATORS]
    ]
    columns = (
        Column(title="Operator"),
        Column(title="Calls", kind="number"),
        Column(title=title, kind="number"),
        Column(title="Share", kind="number"),
        Column(title="of all", kind="bar"),
        Column(title="MACs", kind="number"),
        Column(title="Bytes moved", kind="number"),
    )
    yield element("h4", f"{title} by operator")
    yield table(columns, rows)
    yield from _left_out(len(ranked) - len(rows), "operator")


def _lines(measurement: Measurement, metric: str) -> Iterator[Markup]:
    """The source lines that spent the most, where the run kept them."""
    spent = {line: getattr(counts, metric) for line, counts in measurement.by_line.items()}
    ranked = sorted([item for item in spent.items() if item[1]], key=lambda item: -item[1])
    if not ranked:
        return
    total = sum(spent.values())
    rows = [
        (
            element("code", line or "(no line of yours)"),
            amount(count, metric),
            percent(count / total),
            bar(count / total, count / total),
        )
        for line, count in ranked[:_MOST_OPERATORS]
    ]
    title = metric_named(metric).title
    columns = (
        Column(title="Line"),
        Column(title=title, kind="number"),
        Column(title="Share", kind="number"),
        Column(title="of all", kind="bar"),
    )
    yield element("h4", f"{title} by source line")
    yield table(columns, rows)
    yield from _left_out(len(ranked) - len(rows), "line")


def _memory(measurement: Measurement) -> Iterator[Markup]:
    """What was alive at the moment of the peak, and who had allocated it."""
    places = sum(len(module.operators) for module in measurement.modules)
    every = spenders(measurement, "peak_memory", most=places)
    if not every:
        return
    total = sum(share.amount for share in every)
    rows = [
        (
            element("code", share.place),
            element("code", share.operator),
            amount(share.amount, "peak_memory"),
            percent(share.amount / total),
            bar(share.amount / total, share.amount / total),
        )
        for share in every[:_MOST_OPERATORS]
    ]
    columns = (
        Column(title="Module"),
        Column(title="Allocated by"),
        Column(title="Alive", kind="number"),
        Column(title="Share", kind="number"),
        Column(title="of the peak", kind="bar"),
    )
    yield element("h4", "Memory at the peak")
    yield table(columns, rows)
    yield from _left_out(len(every) - len(rows), "row")


def _uncounted(measurement: Measurement) -> Iterator[Markup]:
    """The operators that have no formula."""
    if not measurement.uncounted:
        return
    yield element("p", f"{UNCOUNTED.title}: {TOO_LOW}", class_="note")
    rows = [
        (element("code", row.operator), str(row.calls), element("code", ", ".join(row.shapes)))
        for row in measurement.uncounted[:_MOST_UNCOUNTED]
    ]
    columns = (
        Column(title="Operator"),
        Column(title="Calls", kind="number"),
        Column(title="Shapes"),
    )
    yield table(columns, rows)
    yield from _left_out(len(measurement.uncounted) - len(rows), "operator")


def _left_out(count: int, word: str) -> Iterator[Markup]:
    if count:
        yield element("p", f"and {plural(count, word)} more", class_="soft")


def _pill(word: str, kind: str) -> Markup:
    return element("span", word, class_=f"pill {kind}".rstrip())


def _anchor(number: int) -> str:
    """The place of a test in the page: a number, for an id could be anything."""
    return f"test-{number}"
