"""Real pairs of workers, on two copies of a small project that differ as its names say."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from dataclasses import replace

import pytest

from pytest_flopbudget.ab import conductor
from pytest_flopbudget.ab.conductor import Question, conduct
from pytest_flopbudget.ab.environment import pinned
from pytest_flopbudget.ab.side import Side, Sides
from pytest_flopbudget.core.ratios import log_ratio
from pytest_flopbudget.core.turns import TurnPlan
from pytest_flopbudget.core.witness import Witness

PLAN = TurnPlan(slice_s=0.002, warmup_s=0.01, warmup_limit_s=0.05, side_s=0.02)

COMMON = """
    import os, time
    import pytest

    calls = 0

    def spin(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def test_unasked():
        assert False, "nobody asked for this one"

    def test_slower():
        spin(SECONDS)

    def test_regions(flopbudget):
        for name in REGIONS:
            flopbudget(spin, 0.001, name=name)

    def test_called_again(flopbudget):
        def once():
            global calls
            calls += 1
            if calls > 1:
                raise ValueError("only once\\nreally")
        flopbudget(once)

    @pytest.mark.parametrize("whole", WHOLE)
    def test_kind(request, whole):
        if whole:
            spin(0.001)
        else:
            request.getfixturevalue("flopbudget")(spin, 0.001)

    def test_that_fails(flopbudget):
        flopbudget(spin, 0.001)
        assert FINE, "broken on purpose"

    def test_block(flopbudget):
        with flopbudget.region("block"):
            spin(0.001)

    def test_long():
        spin(0.006)

    def test_alone():
        held = os.open(os.environ["HELD"], os.O_CREAT | os.O_EXCL)
        try:
            spin(0.006)
        finally:
            os.close(held)
            os.unlink(os.environ["HELD"])

    def test_environment():
        if hasattr(os, "sched_getaffinity"):
            assert len(os.sched_getaffinity(0)) == 1
        assert os.environ["PYTHONHASHSEED"] == "0"
        assert "FLOPBUDGET_TURNS" not in os.environ
        spin(0.001)
"""
BASE = """
    SECONDS, REGIONS, WHOLE, FINE = 0.001, ["a", "b", "c"], [True], True
"""
HEAD = """
    SECONDS, REGIONS, WHOLE, FINE = 0.002, ["a", "c", "b"], [True], False
"""


def side(name, directory, source, *, arguments=("-q",)):
    directory.mkdir()
    text = textwrap.dedent(source) + textwrap.dedent(COMMON)
    if name == "head":
        text = text.replace("if whole:", "if not whole:")
    (directory / "test_it.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    held = {"HELD": str(directory.parent / "held")}
    environ = {**os.environ, **pinned(os.environ, allocator="warm"), **held}
    return Side(name=name, directory=directory, environ=environ, arguments=arguments)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pair")
    return Sides(
        base=side("base", directory / "base", BASE),
        head=side("head", directory / "head", HEAD),
    )


def question(test, region=""):
    return Question(base=f"test_it.py::{test}", head=f"test_it.py::{test}", region=region)


ASKED = [
    question("test_slower"),
    question("test_regions", "a"),
    question("test_regions", "b"),
    question("test_regions", "c"),
    question("test_regions", "d"),
    question("test_gone"),
    question("test_called_again"),
    question("test_kind[True]"),
    question("test_that_fails"),
    question("test_block", "block"),
    question("test_long"),
    question("test_alone"),
    question("test_environment"),
]


@pytest.fixture(scope="module")
def result(sides):
    return conduct(sides, ASKED, PLAN, head_leads=False)


def test_what_takes_twice_as_long_is_seen_to(result):
    series = result.series[question("test_slower")]
    # The spin ends by the clock of the CPU: what is called takes twice as much of it.
    assert 1.9 < 2.718281828 ** log_ratio(series, Witness.CPU) < 2.1


def test_a_region_that_both_come_to_is_timed(result):
    assert question("test_regions", "a") in result.series


@pytest.mark.parametrize("region", ["b", "c"])
def test_regions_in_another_order_are_not_held_against_each_other(result, region):
    assert "different orders" in result.untimed[question("test_regions", region)]


def test_a_region_that_no_side_comes_to_is_said_to_be_one(result):
    assert result.untimed[question("test_regions", "d")] == "the test never came to it"


def test_a_test_that_is_not_there_is_passed_over_by_both(result):
    assert result.untimed[question("test_gone")] == "on the base, pytest did not come to it"


def test_code_that_cannot_be_called_again_says_what_it_raised(result):
    why = "called again, it raised ValueError: only once"
    assert result.untimed[question("test_called_again")] == why


def test_a_whole_test_is_not_held_against_a_part_of_one(result):
    assert "whole test" in result.untimed[question("test_kind[True]")]


def test_nothing_is_taken_from_a_test_that_fails(result):
    failed = question("test_that_fails")
    assert failed not in result.series
    assert result.untimed[failed].startswith(
        "on the head, its call failed: AssertionError: broken on purpose"
    )


def test_a_block_says_why_it_is_not_timed(result):
    assert "a block is not run again" in result.untimed[question("test_block", "block")]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no cores to choose"
)
def test_long_calls_of_both_run_at_once_unless_they_are_in_each_other_s_way(result):
    together = result.series[question("test_long")].shared_turns
    assert together
    # Each has to wait for the core while the other has it.
    assert all(turn.base.wall_s > 1.2 * turn.base.cpu_s for turn in together)
    alone = result.series[question("test_alone")]
    assert alone.turns
    assert not alone.shared_turns


def test_the_tests_of_both_sides_see_one_core_and_this_process_keeps_its_own(result):
    if hasattr(os, "sched_getaffinity"):
        before = os.sched_getaffinity(0)
        # What the test asserts of its own process.
        assert question("test_environment") in result.series
        assert os.sched_getaffinity(0) == before


def test_sides_that_have_several_cores_only_go_by_turns(sides, monkeypatch):
    monkeypatch.setattr(conductor, "core_of_pair", lambda _: None)
    asked = [question("test_long")]
    series = conduct(sides, asked, PLAN, head_leads=False).series[asked[0]]
    assert series.turns
    assert not series.shared_turns


def test_workers_have_the_pinned_environment_and_their_children_no_channel(result):
    assert question("test_environment") in result.series


def test_each_side_tells_the_files_of_its_own_modules(result, sides):
    for one in (sides.base, sides.head):
        assert str(one.directory / "test_it.py") in result.modules[one.name].values()


def test_no_tracer_is_seen_where_there_is_none(result):
    assert not result.is_traced
    assert not result.is_cut_short


def test_a_deadline_that_is_over_ends_both_workers_at_once(sides):
    start_s = time.monotonic()
    result = conduct(sides, ASKED, PLAN, head_leads=True, deadline_s=start_s)
    assert result.is_cut_short
    assert (result.series, result.untimed) == ({}, {})


def test_a_worker_that_dies_says_what_it_printed_last(tmp_path):
    dying = f"""
        import os, signal
        def test_dies():
            print("so long", flush=True)
            os.kill(os.getpid(), signal.{signal.SIGKILL.name})
        SECONDS, REGIONS, WHOLE, FINE = 0.001, [], [], True
    """
    sides = Sides(
        base=side("base", tmp_path / "base", dying, arguments=("-q", "-s")),
        head=side("head", tmp_path / "head", dying, arguments=("-q", "-s")),
    )
    result = conduct(sides, [question("test_dies")], PLAN, head_leads=False)
    assert result.untimed == {}
    assert result.lost[question("test_dies")] == (
        "pytest of the base was killed by SIGKILL (out of memory?): so long"
    )


def test_a_side_whose_pytest_does_not_start_says_why(sides):
    base = replace(sides.base, arguments=("--no-such-option",))
    broken = Sides(base=base, head=sides.head)
    result = conduct(broken, [question("test_slower")], PLAN, head_leads=False)
    why = result.lost[question("test_slower")]
    assert why.startswith("pytest of the base ended with 4: ")
    assert "--no-such-option" in why


def test_a_tracer_is_noticed(tmp_path):
    traced = """
        import sys
        import pytest
        @pytest.fixture(autouse=True)
        def tracer():
            sys.settrace(lambda *_: None)
            yield
            sys.settrace(None)
        SECONDS, REGIONS, WHOLE, FINE = 0.001, [], [], True
    """
    sides = Sides(
        base=side("base", tmp_path / "base", traced),
        head=side("head", tmp_path / "head", traced),
    )
    assert conduct(sides, [question("test_slower")], PLAN, head_leads=False).is_traced
