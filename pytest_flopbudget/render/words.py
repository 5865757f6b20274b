"""What every renderer says in the same words, and text of others made fit to print."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Final

from pytest_flopbudget.core.attribution import describe_share
from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.comparison import (
    BudgetChange,
    Comparison,
    Delta,
    Entry,
    UncountedRow,
)
from pytest_flopbudget.core.measurement import Counts, Measurement, Samples, Value
from pytest_flopbudget.core.metrics import Better, Dimension, Kind, metric_named
from pytest_flopbudget.core.quantity import format_change, format_pair, format_quantity
from pytest_flopbudget.core.report import Git
from pytest_flopbudget.core.timings import change_beside_base
from pytest_flopbudget.core.verdicts import BROKEN, Outcome, Verdict

ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
NOT_JUDGED: Final = "raised before its end, not judged"
UNSTEADY: Final = "its latency was still drifting when the warm-up had to end"
TOO_LOW: Final = "the counts above are too low"

_LEADING: Final = ("flops", "int_ops", "bytes_moved")
_WHOLE: Final = 100
_HALF_A_PERCENT: Final = 0.5


def clean(text: str) -> str:
    """The text without what is not seen, or moves what is seen: control, bidi, zero width.

    Line ends and tabs become blanks, so that the text stays on its line.
    """
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join(c for c in spaced if unicodedata.category(c)[0] not in "CZ" or c == " ")


def cut(text: str, width: int) -> str:
    """The text in at most so many characters, with its middle left out."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + ELLIPSIS + text[len(text) - (width - 1 - head) :]


def short_names(ids: Iterable[str]) -> dict[str, str]:
    """Each test id without its file, where that still tells the tests apart."""
    every = list(dict.fromkeys(ids))
    names = {test: test.partition("::")[2] or test for test in every}
    often = Counter(names.values())
    return {test: clean(test if often[name] > 1 else name) for test, name in names.items()}


def with_region(name: str, region: str) -> str:
    """The test's name, and the region where that is not its own call."""
    return f"{name}: {clean(region)}" if region else name


def percent(share: float) -> str:
    """The share in whole percent; with more digits where it would else print as 100."""
    value = share * _WHOLE
    if 0 < value <= _HALF_A_PERCENT:
        return "< 1 %"
    for digits in range(5):
        text = f"{value:.{digits}f}"
        if value == _WHOLE or float(text) != _WHOLE:
            return f"{text} %"
    return "> 100 %" if value > _WHOLE else "< 100 %"


def dimension_of(metric: str) -> Dimension:
    """The dimension of the metric of this name."""
    return metric_named(metric).dimension


def amount(value: float | None, metric: str) -> str:
    """The value with its unit; a dash where there is none."""
    return "-" if value is None else format_quantity(value, dimension_of(metric))


def digits_or_interval(value: Value, metric: str) -> str:
    """What the rounded amount leaves out: a sample's interval, else a count's every digit."""
    if value.low is not None and value.high is not None:
        low, high = format_pair(value.low, value.high, dimension_of(metric))
        return f"{low} to {high}"
    digits = f"{value.value:,}" if isinstance(value.value, int) else ""
    return "" if digits == amount(value.value, metric) else digits


def samples_words(samples: Samples) -> str:
    """How the latencies of one measurement were taken."""
    place = f"on {clean(samples.device)}, " if samples.device else ""
    return (
        f"latency: {plural(samples.rounds, 'round')}, {plural(samples.threads, 'thread')}, "
        f"{place}intervals at {percent(samples.confidence)}"
        + ("" if samples.is_steady else ", never steady")
    )


def leading_metric(measurement: Measurement) -> str | None:
    """The metric by which its modules and operators are ranked; None where none was counted."""
    total = Counts.total(module.own for module in measurement.modules)
    return next((name for name in _LEADING if getattr(total, name)), None)


def value_and_bound(verdict: Verdict, limit: Limit | None) -> tuple[str, str]:
    """The value and the bound that decided, such as `1.9 GMAC` and `<= 1.8 GMAC`."""
    if verdict.value is None or verdict.bound is None:
        return amount(verdict.value, verdict.metric), amount(verdict.bound, verdict.metric)
    value, bound = format_pair(verdict.value, verdict.bound, dimension_of(verdict.metric))
    return value, f"{_sign(limit, verdict)} {bound}"


def values_of(delta: Delta) -> tuple[str, str]:
    """Base and head with their units, so that different ones never print alike."""
    base = None if delta.base is None else delta.base.value
    head = head_value(delta)
    if base is None or head is None:
        return amount(base, delta.place.metric), amount(head, delta.place.metric)
    return format_pair(base, head, delta.metric.dimension)


def head_value(delta: Delta) -> int | float | None:
    """What the head measured, or else what was judged; None where neither is known."""
    if delta.head is not None:
        return delta.head.value
    return None if delta.verdict is None else delta.verdict.value


def change_of(delta: Delta) -> str:
    """The change in percent; a dash where there is nothing to count it from."""
    head = head_value(delta)
    if delta.base is None or head is None:
        return "-"
    if (beside := change_beside_base(delta)) is not None:
        # The paired turns know it better than the two medians do.
        return format_change(1, 1 + beside)
    return format_change(delta.base.value, head)


def causes_of(delta: Delta) -> tuple[str, ...]:
    """What moved the metric, or where it did not move, what spends it; largest first."""
    dimension, is_change = delta.metric.dimension, bool(delta.movers)
    shares = delta.movers or delta.spenders
    return tuple(clean(describe_share(share, dimension, signed=is_change)) for share in shares)


def verdict_word(verdict: Verdict) -> str:
    """The verdict in a word or two."""
    if verdict.outcome in BROKEN and not verdict.is_failure:
        return f"{verdict.outcome.value} (warn)"
    return verdict.outcome.value


def explanation(delta: Delta) -> str:
    """Why the limit is broken, what the base was, and what moved the metric from it."""
    if delta.verdict is None:
        return ""
    text = delta.verdict.reason
    # What was timed beside the base says itself what that took.
    is_told = delta.verdict.outcome is Outcome.REGRESSED or delta.timed is not None
    if delta.base is not None and not is_told:
        text += f"; on the base {values_of(delta)[0]} ({change_of(delta)})"
        if delta.movers:
            text += f", moved by {', '.join(causes_of(delta))}"
    return clean(text)


def change_words(change: BudgetChange) -> str:
    """What moved in a budget, such as `flops maximum: 1 GFLOP -> 2 GFLOP (measured 1.8 GFLOP)`."""
    if change.what == "test":
        return clean(f"the test is {change.after}; its budget was {change.before}")
    subject = " ".join(filter(None, (change.metric, change.what)))
    measured = ""
    if change.measured is not None:
        measured = f" (measured {amount(change.measured, change.metric)})"
    return clean(f"{subject}: {change.before} -> {change.after}{measured}")


def names_of(comparison: Comparison) -> dict[str, str]:
    """A short name for the id of each test that the comparison speaks of."""
    c = comparison
    placed: list[Delta | Entry | UncountedRow] = [*c.over, *c.warned, *c.changed, *c.pre_existing]
    placed += [
        *c.timed,
        *c.undecided,
        *c.incomparable,
        *c.new,
        *c.removed,
        *c.not_measured,
        *c.uncounted,
    ]
    placed += [one.delta for one in c.accepted if one.delta]
    accepted = [one.change for one in c.accepted if one.change]
    changes = (*c.loosened, *c.tightened, *c.added, *accepted)
    ids = [one.place.test for one in placed] + [test for one in changes for test in one.tests]
    return short_names([*ids, *c.unchanged])


def timings_of(comparison: Comparison) -> list[Delta]:
    """What two runs cannot compare and is worth a row: what a budget bounds, and the median.

    On two machines that is what an allocator makes of a program as well.
    """
    return [
        delta
        for delta in comparison.incomparable
        if (delta.metric.kind is Kind.SAMPLED and delta.place.metric == "latency")
        or (delta.is_budgeted and not delta.metric.unfit)
    ]


def entries_beside(comparison: Comparison, entries: Iterable[Entry]) -> list[Entry]:
    """Those that are not told of already, as a test that is no longer held to its budget is."""
    accepted = [one.change for one in comparison.accepted if one.change]
    told: dict[str, list[tuple[str, ...]]] = {}
    for change in (*comparison.loosened, *accepted):
        for test in change.tests if change.what == "test" else ():
            told.setdefault(test, []).append(change.legs)
    return [
        entry
        for entry in entries
        if not any(
            not legs or (entry.place.legs and {*entry.place.legs} <= {*legs})
            for legs in told.get(entry.place.test, ())
        )
    ]


def headline(comparison: Comparison) -> str:
    """The whole comparison in a few counts, the worst first."""
    regressed, loosened = len(comparison.regressed), len(comparison.loosened)
    missing = len(comparison.missing_legs)
    counts = (
        (len(comparison.over) - regressed, "over budget"),
        (regressed, "regressed"),
        (missing, "leg missing" if missing == 1 else "legs missing"),
        (loosened, "budget loosened" if loosened == 1 else "budgets loosened"),
        (len(comparison.warned), "warned of"),
        (len(comparison.accepted), "accepted"),
        (_improved(comparison), "improved"),
        (len(entries_beside(comparison, comparison.not_measured)), "not measured"),
        (len(comparison.pre_existing), "over on the base too"),
    )
    parts = [f"{count} {word}" for count, word in counts if count]
    if not comparison.measured_tests:
        parts.append("nothing measured")
    elif comparison.limits_within or not parts:
        parts.append(f"{comparison.limits_within} within budget")
    return " \N{MIDDLE DOT} ".join(parts)


def _improved(comparison: Comparison) -> int:
    """How many budgeted numbers got better, of the times those that did so beyond doubt."""
    faster = sum(d.timed.is_faster for d in comparison.timed if d.timed)
    return faster + sum(d.growth < 0 for d in comparison.changed if d.is_budgeted)


def sides(comparison: Comparison) -> str:
    """Which commits were compared, and whether they had changes; empty where none is known."""
    return " vs ".join(
        commit_of(git) + (" (modified)" if git.is_dirty else "")
        for git in (comparison.head_git, comparison.base_git)
        if git is not None
    )


def commit_of(git: Git) -> str:
    """The commit, as short as people write it."""
    return clean(git.commit)[:9]


def plural(count: int, word: str) -> str:
    """Such as `1 test` and `2 tests`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _sign(limit: Limit | None, verdict: Verdict) -> str:
    """How the bound that decided is meant."""
    if limit is None or verdict.value is None or verdict.bound is None:
        return "="
    if limit.equals is not None and verdict.bound == limit.equals:
        return "=" if limit.tolerance is None else "~"
    is_higher_better = metric_named(limit.metric).better is Better.HIGHER
    has_floor = limit.minimum is not None
    has_ceiling = limit.maximum is not None
    if limit.vs_baseline is not None:
        has_floor, has_ceiling = has_floor or is_higher_better, has_ceiling or not is_higher_better
    if has_floor and has_ceiling:
        is_above = verdict.value > verdict.bound
        return "<=" if is_above == (verdict.outcome in BROKEN) else ">="
    return ">=" if has_floor else "<="
