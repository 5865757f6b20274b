"""Several legs as one comparison: what they agree on once, and the worst of them first."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

import pytest

from pytest_flopbudget.core.acceptance import Acceptance
from pytest_flopbudget.core.comparing import compare
from pytest_flopbudget.core.comparison import (
    Accepted,
    BudgetChange,
    Comparison,
    Direction,
    Standing,
)
from pytest_flopbudget.core.legs import Series
from pytest_flopbudget.core.measurement import Uncounted
from pytest_flopbudget.core.merging import merge, with_history
from pytest_flopbudget.core.report import Git, Report
from pytest_flopbudget.core.side_by_side import TimedOutcome

from ..builders import BASE, HEAD, beside, budgeted, limit, measured, ratio, reported, timed

TEST = "tests/test_net.py::test_forward"
OTHER = "tests/test_net.py::test_step"


def run(macs: int, *, maximum: int = 100, test: str = TEST, **other: object) -> Report:
    """A run of one test that may spend at most `maximum` MACs."""
    measurement = measured(macs={"fc": macs})
    return reported(budgeted(test, measurement, limits=(limit("macs", maximum),)), **other)


def leg(before: int, after: int, *, maximum: int = 100, test: str = TEST) -> Comparison:
    return compare(run(before, maximum=maximum, test=test), run(after, maximum=maximum, test=test))


def standing(value: Standing) -> Comparison:
    return Comparison(standing=value, has_base=True)


class TestRows:
    def test_one_leg_alone_is_that_leg(self) -> None:
        alone = leg(90, 120)
        assert merge({"cpu": alone}) == alone

    def test_what_every_leg_says_stands_once_and_names_none(self) -> None:
        merged = merge({"py310": leg(90, 120), "py311": leg(90, 120)})
        (over,) = merged.over
        assert (over.head and over.head.value, over.place.legs) == (120, ())
        assert len(merged.changed) == 1
        assert (merged.measured_tests, merged.limits_within) == (1, 0)

    def test_legs_that_differ_keep_their_names_and_those_that_agree_share_a_row(self) -> None:
        merged = merge({"c": leg(90, 110), "a": leg(90, 110), "b": leg(90, 150)})
        # 150 of 100 is broken further than 110 of 100, so it comes first.
        assert [(d.head and d.head.value, d.place.legs) for d in merged.over] == [
            (150, ("b",)),
            (110, ("a", "c")),
        ]

    def test_a_row_of_some_legs_names_them_though_no_other_differs(self) -> None:
        merged = merge({"linux": leg(90, 120), "mac": leg(90, 90)})
        assert [d.place.legs for d in merged.over] == [("linux",)]
        # What is broken on one leg neither is within, nor unchanged, for holding on another.
        assert (merged.limits_within, merged.unchanged) == (0, ())

    @pytest.mark.parametrize(
        ("base", "head", "maximum"), [(80, 120, 100), (90, 121, 100), (90, 120, 101)]
    )
    def test_another_base_head_or_limit_is_another_row(
        self, base: int, head: int, maximum: int
    ) -> None:
        merged = merge({"a": leg(90, 120), "b": leg(base, head, maximum=maximum)})
        assert sorted(d.place.legs for d in merged.over) == [("a",), ("b",)]

    def test_another_cause_of_the_same_number_is_another_row(self) -> None:
        base, one, two = run(90), run(120), run(120)
        moved = measured(macs={"fc": 90, "head": 30})
        two = reported(budgeted(TEST, moved, limits=(limit("macs", 100),)))
        merged = merge({"a": compare(base, one), "b": compare(base, two)})
        assert sorted(d.place.legs for d in merged.over) == [("a",), ("b",)]

    def test_projects_with_different_tests_add_up(self) -> None:
        merged = merge({"api": leg(90, 90), "web": leg(10, 10, test=OTHER)})
        assert (merged.measured_tests, merged.limits_within) == (2, 2)
        assert merged.unchanged == (TEST, OTHER)

    def test_every_kind_of_row_is_merged(self, comparison: Comparison) -> None:
        merged = merge({"a": comparison, "b": comparison})
        # How each leg took its times is told of each.
        (how,) = comparison.timings
        told = tuple(replace(how, legs=(name,)) for name in "ab")
        assert merged == replace(comparison, timings=told)

    def test_every_kind_of_row_names_the_only_leg_that_has_it(self, comparison: Comparison) -> None:
        merged = merge({"a": comparison, "b": standing(Standing.WITHIN)})
        for part in ("loosened", "tightened", "renamed", "machine_changes", "version_changes"):
            assert {row.legs for row in getattr(merged, part)} == {("a",)}, part
        for part in ("over", "failed", "warned", "undecided", "changed", "new", "removed"):
            assert {row.place.legs for row in getattr(merged, part)} == {("a",)}, part
        assert [one.legs for one in merged.timings] == [("a",)]
        for part in ("not_measured", "incomparable", "uncounted", "pre_existing", "timed"):
            assert {row.place.legs for row in getattr(merged, part)} == {("a",)}, part
        assert all(text.startswith("a: ") for text in (*merged.notes, *merged.versions))
        assert [a.delta.place.legs for a in merged.accepted if a.delta] == [("a",)]
        assert [a.change.legs for a in merged.accepted if a.change] == [("a",)]


@pytest.fixture
def comparison() -> Comparison:
    """One with rows in every part, within and accepted included."""
    sort = Uncounted(operator="aten.sort.default", calls=2, shapes=("f32[4]",))
    growth = limit("latency", vs_baseline=0.05)
    beside_base = budgeted("t.py::beside", measured(macs={"fc": 5}, latency=0.1), limits=(growth,))
    base = reported(
        budgeted("t.py::over", measured(macs={"fc": 10}), limits=(limit("macs", 10),)),
        budgeted("t.py::wide", measured(macs={"fc": 5}), limits=(limit("macs", 5),)),
        budgeted("t.py::slim", measured(macs={"fc": 5}), limits=(limit("macs", 9),)),
        budgeted("t.py::timed", measured(macs={"fc": 5}, latency=0.1)),
        beside_base,
        budgeted("t.py::old", measured(macs={"fc": 55})),
        budgeted("t.py::gone", measured(macs={"fc": 7}), limits=(limit("macs", 7),)),
        budgeted("t.py::lost", measured(macs={"fc": 8})),
        git=Git(commit="b" * 40, branch="main", is_dirty=False),
        versions={"torch": "2.12"},
        machine={"cores": 4},
    )
    head = reported(
        budgeted("t.py::over", measured(macs={"fc": 11}), limits=(limit("macs", 10),)),
        beside_base,
        budgeted("t.py::wide", measured(macs={"fc": 5}), limits=(limit("macs", 6),)),
        budgeted("t.py::slim", measured(macs={"fc": 5}), limits=(limit("macs", 8),)),
        budgeted("t.py::timed", measured(macs={"fc": 5}, latency=0.2, uncounted=(sort,))),
        budgeted("t.py::named", measured(macs={"fc": 55})),
        budgeted(
            "t.py::fresh",
            measured(macs={"fc": 2}),
            limits=(limit("macs", 1), limit("ops", vs_baseline=0)),
        ),
        budgeted("t.py::lost"),
        git=Git(commit="a" * 40, branch="topic", is_dirty=False),
        versions={"torch": "2.13"},
        machine={"cores": 8},
        notes=("slow machine",),
        side_by_side=beside(timed(beside_base, TimedOutcome.WITHIN, ratio(1.0))),
    )
    plain = compare(base, head)
    (grown,) = [d for d in plain.over if d.place.test == "t.py::over"]
    others = tuple(d for d in plain.over if d is not grown)
    line = Acceptance(tests="*", metric="macs", cap=Fraction(12), reason="why", line="*")
    change = BudgetChange(direction=Direction.LOOSENED, what="mode", before="a", after="b")
    complete = replace(
        plain,
        over=others[:1],
        pre_existing=others[1:] or others,
        failed=others,
        warned=others,
        undecided=others,
        accepted=(Accepted(acceptance=line, delta=grown), Accepted(acceptance=line, change=change)),
    )
    lists = [f.name for f in fields(Comparison) if isinstance(getattr(complete, f.name), tuple)]
    empty = [name for name in lists if not getattr(complete, name)]
    assert empty == ["added", "missing_legs"], "the fixture no longer has rows of every kind"
    return complete


class TestTimings:
    TEST = budgeted(TEST, measured(latency=0.1), limits=(limit("latency", vs_baseline=0.05),))

    def leg(self, outcome: TimedOutcome, estimate: float) -> Comparison:
        found = timed(self.TEST, outcome, ratio(estimate))
        return compare(
            reported(self.TEST, git=BASE),
            reported(self.TEST, git=HEAD, side_by_side=beside(found)),
        )

    def test_two_legs_never_share_a_time(self) -> None:
        legs = {
            "cpu": self.leg(TimedOutcome.WITHIN, 1.01),
            "gpu": self.leg(TimedOutcome.REGRESSED, 1.2),
        }
        merged = merge(legs)
        assert merged.standing is Standing.OVER
        assert [(d.growth, d.place.legs) for d in merged.timed] == [
            (pytest.approx(0.01), ("cpu",)),
            (pytest.approx(0.2), ("gpu",)),
        ]
        assert [d.place.legs for d in merged.over] == [("gpu",)]
        assert merged.limits_within == 0

    def test_what_was_timed_on_one_leg_and_not_on_another_are_two_rows(self) -> None:
        head = reported(self.TEST, git=HEAD)
        untimed = [
            replace(head, side_by_side=beside(timed(self.TEST, TimedOutcome.NOT_TIMED, reason=why)))
            for why in ("it failed there", "no time was left")
        ]
        base = reported(self.TEST, git=BASE)
        merged = merge({name: compare(base, run) for name, run in zip("ab", untimed, strict=True)})
        assert [d.place.legs for d in merged.undecided] == [("a",), ("b",)]


class TestStanding:
    @pytest.mark.parametrize(
        ("worse", "better"),
        [
            (Standing.OVER, Standing.INCOMPLETE),
            (Standing.INCOMPLETE, Standing.NEEDS_APPROVAL),
            (Standing.NEEDS_APPROVAL, Standing.NOTHING_MEASURED),
            (Standing.NOTHING_MEASURED, Standing.ACCEPTED),
            (Standing.ACCEPTED, Standing.WITHIN),
        ],
    )
    def test_the_worst_leg_stands_for_all(self, worse: Standing, better: Standing) -> None:
        for pair in ((worse, better), (better, worse)):
            legs = {"a": standing(pair[0]), "b": standing(pair[1])}
            assert merge(legs).standing is worse

    def test_no_standing_is_without_its_rank(self) -> None:
        for one in Standing:
            assert merge({"a": standing(one), "b": standing(one)}).standing is one

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_a_missing_leg_is_named_and_makes_the_whole_incomplete(self, count: int) -> None:
        legs = {name: leg(90, 90) for name in ("a", "b")[:count]}
        merged = merge(legs, missing=("gpu",))
        assert merged.standing is Standing.INCOMPLETE
        assert merged.missing_legs == ("gpu",)
        assert merged.notes[0].startswith("leg gpu is missing")

    def test_a_broken_budget_is_certain_though_a_leg_is_missing(self) -> None:
        merged = merge({"a": leg(90, 120)}, missing=("gpu",))
        assert merged.standing is Standing.OVER
        assert merged.missing_legs == ("gpu",)

    def test_no_leg_at_all_measured_nothing(self) -> None:
        assert merge({}).standing is Standing.NOTHING_MEASURED


class TestCommits:
    BASE, OLDER, HEAD = (Git(commit=c * 40, branch=None, is_dirty=False) for c in "abc")

    def legs(self) -> dict[str, Comparison]:
        near = replace(standing(Standing.WITHIN), base_git=self.BASE, head_git=self.HEAD)
        return {"far": replace(near, base_git=self.OLDER, base_age=2), "near": near}

    def test_the_nearest_base_is_that_of_all_and_another_is_noted(self) -> None:
        merged = merge(self.legs())
        assert (merged.base_git, merged.base_age) == (self.BASE, 0)
        assert merged.notes == ("far: compared with bbbbbbbbb, 2 commits older",)

    def test_legs_of_one_commit_need_no_note(self) -> None:
        near = self.legs()["near"]
        assert merge({"a": near, "b": near}).notes == ()

    def test_a_leg_that_measured_another_commit_is_noted(self) -> None:
        near = self.legs()["near"]
        other = replace(near, head_git=self.OLDER)
        assert merge({"a": near, "b": other}).notes == (
            "b: measured bbbbbbbbb, which is another commit",
        )

    def test_a_leg_without_a_base_never_gives_the_commit(self) -> None:
        none = replace(standing(Standing.WITHIN), has_base=False, notes=("no baseline yet",))
        merged = merge({"a": none, **self.legs()})
        assert (merged.has_base, merged.base_git) == (True, self.BASE)
        assert "a: no baseline yet" in merged.notes


class TestTexts:
    def test_libraries_of_some_legs_name_them(self) -> None:
        legs = {
            name: compare(None, run(9, versions={"torch": "2.13", "numpy": version}))
            for name, version in (("x", "1"), ("y", "2"))
        }
        assert merge(legs).versions == ("torch 2.13", "x: numpy 1", "y: numpy 2")


class TestHistory:
    def test_each_number_gets_what_earlier_commits_measured_of_it(self) -> None:
        remembered = with_history(
            leg(90, 120),
            (
                Series(test=TEST, region="", metric="macs", values=(70, 90)),
                Series(test=TEST, region="", metric="flops", values=(1,)),
                Series(test=OTHER, region="", metric="macs", values=(2,)),
                Series(test=TEST, region="step", metric="macs", values=(3,)),
            ),
        )
        assert [d.history for d in (*remembered.over, *remembered.changed)] == [(70, 90)] * 2

    def test_without_any_nothing_changes(self) -> None:
        plain = leg(90, 120)
        assert with_history(plain, ()) is plain

    def test_every_list_of_numbers_remembers(self, comparison: Comparison) -> None:
        numbers = ("over", "warned", "undecided", "changed", "incomparable", "pre_existing")
        places = {
            d.place
            for d in (
                *(d for part in numbers for d in getattr(comparison, part)),
                *(one.delta for one in comparison.accepted if one.delta),
            )
        }
        series = tuple(
            Series(test=p.test, region=p.region, metric=p.metric, values=(5,)) for p in places
        )
        remembered = with_history(comparison, series)
        for part in numbers:
            assert {d.history for d in getattr(remembered, part)} == {(5,)}, part
        assert [one.delta.history for one in remembered.accepted if one.delta] == [(5,)]
