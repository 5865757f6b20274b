"""One test: what it measures, and what its budgets say of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pytest_flopbudget.core.budgets import Budget, Limit
from pytest_flopbudget.core.errors import LockError, MeasureError, nearest
from pytest_flopbudget.core.fields import LARGEST_NUMBER
from pytest_flopbudget.core.judging import Context, judge_test
from pytest_flopbudget.core.machine import machine_difference
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.metrics import (
    METRICS,
    NOT_MEASURED_YET,
    Better,
    Kind,
    Metric,
    metric_named,
)
from pytest_flopbudget.core.reasons import who
from pytest_flopbudget.core.report import TestOutcome, TestReport
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.session.lock import machine_lock
from pytest_flopbudget.session.references import named_measurements

if TYPE_CHECKING:
    from pytest_flopbudget.meters.dispatch import DispatchPass
    from pytest_flopbudget.meters.latency import LatencyTimer
    from pytest_flopbudget.session.turns import Turns

LATENCY_CHOICES: Final = ("auto", "always", "never")
_NOTHING_TO_TIME: Final = "fake tensors compute nothing, so that there is nothing to time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every test of a run shares."""

    latency: str = "auto"
    """When to take latency: one of `LATENCY_CHOICES`."""
    lines: bool = False
    """Whether counts are kept by source line too."""
    process_memory: bool = False
    """Whether to take the allocator's and the process's peak also where no budget asks."""
    machines: frozenset[str] = frozenset()
    """Names of the machines in the settings that this one counts as."""
    baseline: Mapping[str, TestReport] | None = None
    """The tests of the baseline report by id, when there is one."""
    baseline_machine: Mapping[str, object] = field(default_factory=dict)
    """Facts of the machine that the baseline was measured on."""
    turns: Turns | None = None
    """What this process times by turns with another; nothing is timed alone then."""


class TestRun:
    """Collects what one test measures, and holds it to the test's budgets.

    This is what the `flopbudget` fixture hands to the test.
    """

    __test__ = False  # pytest would otherwise take the name for a test class

    def __init__(self, test: TestReport, subject: str, surroundings: Surroundings) -> None:
        self._test = test
        self._subject = subject
        self._surroundings = surroundings
        self._measurements: dict[str, Measurement] = {}
        self._recorded: dict[str, Value] = {}
        self._open: set[str] = set()
        """Regions that have begun and not ended."""
        self._unrepeatable: dict[str, str] = {}
        """By region, why it has no latency."""
        self._is_finished = False
        self.is_handed_out = False
        """Whether the test has the fixture, and so says itself what is measured."""

    def hand_out(self) -> None:
        """Leave it to the test what is measured."""
        self.is_handed_out = True

    def __call__(
        self, fn: Callable[..., Any], /, *args: Any, name: str | None = None, **kwargs: Any
    ) -> Any:
        """What the callable returns; the call is counted, and timed if a budget asks.

        name: the region's name, for `flop_budget(region=...)` and `ratio_to`.
        `fn` is called once under the counter, and again only for latency.
        """
        from pytest_flopbudget.meters.fake import is_faking
        from pytest_flopbudget.meters.measure import count_call

        region = name or ""
        if is_faking(fn, args, kwargs):
            self.cannot_repeat(region, _NOTHING_TO_TIME)
        with self._claimed(region), self._keeping_partial():
            counted = count_call(
                fn,
                args,
                kwargs,
                region,
                lines=self._surroundings.lines,
                process_memory=self._wants_process_memory(region),
            )
        # The result is the test's alone: kept here it would live until the test ends.
        measurement = self._measurements[region] = replace(counted, output=None)
        if self.wants_latency(region) and region not in self._unrepeatable:
            self._time(measurement, fn, args, kwargs)
        return counted.output

    def fake(self) -> AbstractContextManager[None]:
        """A `with` block in which tensors and modules that are made take no memory.

        What is measured inside has every exact metric, and no latency.
        """
        from pytest_flopbudget.meters.fake import fake

        return fake()

    @contextmanager
    def region(self, name: str = "") -> Iterator[None]:
        """A `with` block whose exact metrics are measured under this name.

        A block cannot be repeated, so it has no latency: measure a callable for that.
        """
        self.cannot_repeat(
            name, f"a block is not run again; measure a callable: flopbudget(fn, name={name!r})"
        )
        from pytest_flopbudget.meters.fake import active_mode, stand_ins_for

        region = self._measuring(name)
        is_partial = True
        with self._claimed(name):
            try:
                with region, stand_ins_for(active_mode()):
                    yield
                is_partial = False
            finally:
                self._measurements[name] = region.measurement(name, is_partial=is_partial)

    @contextmanager
    def own_call(self) -> Iterator[None]:
        """A block that is the test's own call, and counts if the test never takes the fixture.

        Whoever can repeat it then calls `repeat` for its latency.
        """
        from pytest_flopbudget.meters.fake import times_entered

        region = self._measuring("")
        is_partial = True
        entered = times_entered()
        try:
            with region:
                yield
            is_partial = False
        finally:
            if times_entered() > entered:
                self.cannot_repeat("", _NOTHING_TO_TIME)
            if not self.is_handed_out:
                self._measurements[""] = region.measurement("", is_partial=is_partial)

    def cannot_repeat(self, region: str, why: str) -> None:
        """Note why a region will have no latency, for the budgets that ask for one."""
        self._unrepeatable[region] = why

    def record(self, metric: str, value: float, *, better: str = "lower") -> None:
        """Add a metric of the test's own, such as an accuracy, for budgets and the report.

        metric: any name that is not one of the plugin's metrics.
        value: a finite number, or a tensor of one element.
        better: which direction is better, "lower" or "higher".
        """
        self._check_running(metric)
        self._recorded[metric] = _checked_value(metric, value, better, self._recorded)

    @property
    def untimed(self) -> Mapping[str, str]:
        """By region, why it cannot be called again to be timed."""
        return self._unrepeatable

    @property
    def measurements(self) -> Mapping[str, Measurement]:
        """Everything measured so far, by region name."""
        return self._measurements

    def __getattr__(self, name: str) -> Any:
        """A metric of the latest measurement, such as `flops`; or `by_module` and so on."""
        if name.startswith("_"):
            raise AttributeError(name)
        recorded = self._recorded.get(name)
        if recorded is not None:
            return recorded.value
        if not self._measurements:
            raise AttributeError(
                f"flopbudget.{name}: nothing is measured yet; call flopbudget(model, x) first"
            )
        return getattr(next(reversed(self._measurements.values())), name)

    def repeat(self, fn: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Time further calls of the test's own function, whose first call was a region."""
        if "" not in self._unrepeatable:
            self._time(self._measurements[""], fn, (), kwargs)

    def _time(
        self,
        counted: Measurement,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Add latency to a measurement. Code that cannot be called again has none.

        The test did nothing wrong then: its own call went well.
        """
        from pytest_flopbudget.meters.measure import time_call

        turns = self._surroundings.turns
        if turns is not None:
            from pytest_flopbudget.session.turns import Place

            is_call = not self.is_handed_out
            place = Place(test=self._test.id, region=counted.name, is_call=is_call)
            turns.take(place, fn, args, kwargs)
            return
        try:
            with machine_lock():
                timed = time_call(
                    counted,
                    _timer(),
                    fn,
                    args,
                    kwargs,
                    has_utilization=self._wants_utilization(counted.name),
                )
        except LockError as error:
            self.cannot_repeat(counted.name, str(error))
        except Exception as error:
            told = str(error).partition("\n")[0]
            why = f"called again, it raised {type(error).__name__}: {told}"
            self.cannot_repeat(counted.name, why)
        else:
            self._measurements[counted.name] = timed

    def wants_latency(self, region: str) -> bool:
        """Whether this region is to be timed: a budget asks for it here, or all are timed."""
        if self._surroundings.turns is not None:
            return self._surroundings.turns.wants(self._test.id, region)
        when = self._surroundings.latency
        if when != "auto":
            return when == "always"
        return self._is_bounded(region, lambda metric: metric.kind is Kind.SAMPLED)

    def _wants_utilization(self, region: str) -> bool:
        """Whether a timed region is to be held to this machine's roof, which costs more calls."""
        return self._surroundings.latency == "always" or self._is_bounded(
            region, lambda metric: metric.name == "utilization"
        )

    def _measuring(self, name: str) -> DispatchPass:
        """What measures a block as this region."""
        from pytest_flopbudget.meters.region import new_region

        return new_region(
            lines=self._surroundings.lines, process_memory=self._wants_process_memory(name)
        )

    def _wants_process_memory(self, region: str) -> bool:
        return self._surroundings.process_memory or self._is_bounded(
            region, lambda metric: metric.kind is Kind.MACHINE
        )

    def _is_bounded(self, region: str, is_meant: Callable[[Metric], bool]) -> bool:
        """Whether a budget of this region asks for such a metric, on this machine."""
        return any(
            is_meant(metric_named(limit.metric))
            and (limit.on is None or limit.on in self._surroundings.machines)
            for budget in self._test.budgets
            if budget.region == region
            for limit in budget.limits
        )

    def finish(self, *, is_complete: bool) -> TestReport:
        """The test's report: its measurements, and a verdict for each of its limits.

        is_complete: whether the test ran to its end; of one that did not, only what it
        came to measure is judged, and no other test's measurement is waited for.
        """
        self._is_finished = True
        measurements = self._all_measurements()
        verdicts = self._judge(measurements)
        if not is_complete:
            verdicts = tuple(
                v for v in verdicts if v.value is not None and v.outcome is not Outcome.PENDING
            )
        return replace(
            self._test,
            outcome=TestOutcome.PASSED if is_complete else TestOutcome.FAILED,
            measurements=measurements,
            verdicts=verdicts,
        )

    def _judge(self, measurements: tuple[Measurement, ...]) -> tuple[Verdict, ...]:
        baseline = self._surroundings.baseline
        before = None if baseline is None else baseline.get(self._test.id)
        context = Context(
            baseline={m.name: m for m in before.measurements if not m.is_partial}
            if before is not None
            else None,
            difference=self._machine_difference(),
            machines=self._surroundings.machines,
            references=named_measurements(self._test.budgets, measurements),
        )
        budgets = self._test.budgets
        switched_off: tuple[Verdict, ...] = ()
        if self._surroundings.latency == "never":
            switched_off = tuple(_never_timed(budgets))
            budgets = tuple(_without_sampled(budget) for budget in budgets)
        judged = judge_test(budgets, measurements, context, subject=self._subject)
        return (*(self._say_why_untimed(verdict) for verdict in judged), *switched_off)

    def _machine_difference(self) -> str:
        """How the baseline's machine is not this one, where a limit depends on that."""
        limits = [limit for budget in self._test.budgets for limit in budget.limits]
        if not any(
            limit.vs_baseline is not None and metric_named(limit.metric).kind is Kind.MACHINE
            for limit in limits
        ):
            return ""
        from pytest_flopbudget.meters.machine import machine_facts

        return machine_difference(self._surroundings.baseline_machine, machine_facts())

    def _say_why_untimed(self, verdict: Verdict) -> Verdict:
        """The verdict, with the true reason where a latency could not be taken."""
        why = self._unrepeatable.get(verdict.region)
        is_sampled = metric_named(verdict.metric).kind is Kind.SAMPLED
        if why is None or not is_sampled or verdict.outcome is not Outcome.NOT_MEASURED:
            return verdict
        reason = f"{who(self._subject, verdict.region)} has no {verdict.metric}: {why}"
        return replace(verdict, reason=reason)

    def _all_measurements(self) -> tuple[Measurement, ...]:
        """What was measured and, with the test's own call, what was recorded."""
        if not self._recorded:
            return tuple(self._measurements.values())
        call = self._measurements.get("") or Measurement(values={})
        with_records = replace(call, values={**call.values, **self._recorded})
        others = (m for name, m in self._measurements.items() if name)
        return (with_records, *others)

    @contextmanager
    def _claimed(self, region: str) -> Iterator[None]:
        """A block that alone measures this region: of two, a budget could not tell which."""
        self._check_running(_called(region))
        if region in self._measurements or region in self._open:
            first = self._measurements.get(region)
            if first is not None:
                # The first alone is not what the test meant to measure.
                self._measurements[region] = replace(first, is_partial=True)
            raise MeasureError(
                f"{self._subject}: {_called(region)} is measured already; give the second "
                'measurement a name of its own: flopbudget(fn, name="...") or region("...")'
            )
        self._open.add(region)
        try:
            yield
        finally:
            self._open.discard(region)

    def _check_running(self, what: str) -> None:
        if self._is_finished:
            raise MeasureError(
                f"{self._subject}: {what} comes after the test's end, when its budgets are judged "
                "already; measure it in the test, or in the set-up of a fixture"
            )

    @contextmanager
    def _keeping_partial(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            partial = getattr(error, "flopbudget_partial", None)
            if partial is not None:
                self._measurements[partial.name] = partial
            raise


def _timer() -> LatencyTimer:
    from pytest_flopbudget.meters.latency import LatencyTimer

    return LatencyTimer()


def _called(region: str) -> str:
    return f"region {region!r}" if region else "the region without a name"


def _is_sampled(limit: Limit) -> bool:
    return metric_named(limit.metric).kind is Kind.SAMPLED


def _without_sampled(budget: Budget) -> Budget:
    return replace(budget, limits=tuple(lim for lim in budget.limits if not _is_sampled(lim)))


def _never_timed(budgets: tuple[Budget, ...]) -> Iterator[Verdict]:
    for budget in budgets:
        for limit in budget.limits:
            if _is_sampled(limit):
                yield Verdict(
                    region=budget.region,
                    metric=limit.metric,
                    outcome=Outcome.NOT_GATED,
                    reason=f"{limit.metric} was not taken: --flopbudget-latency=never",
                    severity=limit.severity,
                )


def _checked_value(metric: str, value: Any, better: str, recorded: Mapping[str, Value]) -> Value:
    if metric in METRICS or metric in NOT_MEASURED_YET:
        raise MeasureError(
            f"flopbudget.record: {metric!r} is a metric of the plugin's own; choose another name"
        )
    if metric in recorded:
        raise MeasureError(f"flopbudget.record: {metric!r} is recorded already")
    directions = [direction.value for direction in Better]
    if better not in directions:
        guess = nearest(better, directions) or "higher"
        raise MeasureError(
            f"flopbudget.record: better={better!r} is no direction; write better={guess!r}"
        )
    # torch warns of reading a number off a tensor that has a gradient to compute.
    plain = value.detach() if hasattr(value, "detach") else value
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise MeasureError(f"flopbudget.record: {metric} is {value!r}; give one number") from None
    if not math.isfinite(number):
        raise MeasureError(f"flopbudget.record: {metric} is {number}; give a finite number")
    if abs(number) > LARGEST_NUMBER:
        raise MeasureError(f"flopbudget.record: {metric} is {number}; give a number below 1e300")
    exact = value if isinstance(value, int) and not isinstance(value, bool) else number
    return Value(value=exact, better=Better(better))
