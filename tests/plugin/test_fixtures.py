"""What a test can measure with the fixtures, and what they refuse."""

from __future__ import annotations

import pytest

from .conftest import FLOPS, MACS, Suite


def test_the_fixture_measures_calls_blocks_and_records(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608, accuracy={"min": 0.7})
        @pytest.mark.flop_budget(region="second", flops=393216)
        def test_all(flopbudget):
            out = flopbudget(product)
            assert out.shape == (32, 64) and float(out[0, 0]) == 48
            assert flopbudget.flops == 196608 and flopbudget.macs == 98304
            with flopbudget.region("second"):
                product(); product()
            assert flopbudget.flops == 393216
            assert flopbudget.by_operator["aten.mm"].macs == 196608
            weight = torch.ones((), requires_grad=True)
            flopbudget.record("loss", weight * 2)
            flopbudget.record("accuracy", 0.75, better="higher")
            assert flopbudget.accuracy == 0.75 and flopbudget.loss == 2
            assert set(flopbudget.measurements) == {"", "second"}
            flopbudget(torch.mm, torch.ones(2, 3), mat2=torch.ones(3, 4), name="third")
            assert flopbudget.macs == 24
        """
    )
    ran = suite.run("-W", "error")
    assert ran.code == 0, ran.text
    values = {m.name: m.values for m in ran.test("test_all").measurements}
    assert values[""]["flops"].value == FLOPS
    assert values["second"]["macs"].value == 2 * MACS
    assert values["third"]["macs"].value == 2 * 3 * 4
    assert values[""]["accuracy"].value == 0.75
    assert values[""]["accuracy"].better is not None


def test_the_single_fixtures_measure_one_thing_each(suite: Suite) -> None:
    suite.write(
        """
        def test_counter(flop_counter):
            with flop_counter:
                product()
            assert flop_counter.flops == 196608
        def test_timer(latency_timer):
            samples = latency_timer(product)
            assert samples.low <= samples.median <= samples.high
        def test_memory(memory_tracker):
            with memory_tracker:
                product()
            # 32 * 48 + 48 * 64 + 32 * 64 floats of 4 bytes
            assert memory_tracker.peak_memory == memory_tracker.activation_memory == 26624
        """
    )
    ran = suite.run()
    assert (ran.code, ran.outcomes, ran.report.tests) == (0, {"passed": 3}, ())


def test_misuse_is_refused_in_one_sentence(suite: Suite) -> None:
    suite.write(
        """
        def test_twice(flopbudget):
            flopbudget(product); flopbudget(product)
        def test_nested(flopbudget):
            with flopbudget.region("a"):
                with flopbudget.region("a"):
                    product()
        def test_reserved(flopbudget):
            flopbudget.record("flops", 1)
        def test_planned(flopbudget):
            flopbudget.record("energy", 1)
        def test_recorded_twice(flopbudget):
            flopbudget.record("loss", 1); flopbudget.record("loss", 1)
        def test_direction(flopbudget):
            flopbudget.record("loss", 1, better="highr")
        def test_not_finite(flopbudget):
            flopbudget.record("loss", float("nan"))
        def test_not_counted(flopbudget):
            flopbudget.record("steps", 10 ** 400)
        def test_not_reported(flopbudget):
            flopbudget.record("norm", 1e301)
        def test_not_measured_yet(flopbudget):
            flopbudget.flops
        async def work(): product()
        def test_coroutine(flopbudget):
            flopbudget(work)
        @pytest.fixture
        def late(flopbudget):
            yield
            flopbudget(product)
        def test_late(late): pass
        """
    )
    ran = suite.run()
    assert ran.code == 1
    for sentence in (
        "test_twice: the region without a name is measured already; give the second",
        "test_nested: region 'a' is measured already",
        "'flops' is a metric of the plugin's own",
        "'energy' is a metric of the plugin's own",
        "'loss' is recorded already",
        "write better='higher'",
        "loss is nan; give a finite number",
        "steps is inf; give a finite number",
        "norm is 1e+301; give a number below 1e300",
        "flopbudget.flops: nothing is measured yet",
        "returned a coroutine, whose work is not done yet",
        "test_late: the region without a name comes after the test's end",
    ):
        assert sentence in ran.words
    assert ran.endings["test_late"] == "error"
    # The first of two measurements under one name is not what the test meant to measure.
    (twice,) = (test for test in ran.report.tests if test.id.endswith("::test_twice"))
    assert all(measurement.is_partial for measurement in twice.measurements)
    assert twice.verdicts == ()
    assert set(ran.endings.values()) == {"failed", "error"}


def test_what_a_budget_bounds_and_the_test_never_measures_fails_it(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=1)
        def test_nothing(flopbudget): pass
        @pytest.mark.flop_budget(accuracy={"min": 0.5})
        def test_no_record(flopbudget): flopbudget(product)
        @pytest.mark.flop_budget(region="block", latency="1 s", flops="1 MFLOP")
        def test_block(flopbudget):
            with flopbudget.region("block"):
                product()
        """
    )
    ran = suite.run()
    assert set(ran.endings.values()) == {"over budget"}
    assert "test_nothing never measured its own call" in ran.words
    assert "test_no_record never recorded 'accuracy'" in ran.words
    assert "a block is not run again; measure a callable: flopbudget(fn, name='block')" in ran.words
    # the rest of the block's budget is judged all the same
    assert ("block", "flops", "within") in ran.verdicts("test_block")
    shown = suite.run("--flopbudget=report")
    assert (shown.code, set(shown.endings.values())) == (0, {"passed"})


def test_a_test_that_asks_for_the_fixture_by_name_says_what_is_measured(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        def test_late(request):
            product()
            request.getfixturevalue("flopbudget")(product)
        @pytest.fixture
        def measured(flopbudget):
            return flopbudget(product)
        @pytest.mark.flop_budget(flops=196608)
        def test_through_a_fixture(measured):
            product()
        def test_unknown_to_the_run(request):
            request.getfixturevalue("flopbudget")
        """
    )
    ran = suite.run()
    assert ran.endings == {"test_late": "passed", "test_through_a_fixture": "passed"}
    assert ran.test("test_late").measurements[0].values["flops"].value == FLOPS
    assert ran.outcomes == {"passed": 2, "failed": 1}
    assert "name the fixture as an argument, or in pytest.mark.usefixtures" in ran.words


def test_latency_is_taken_when_a_budget_asks_always_or_never(suite: Suite) -> None:
    suite.write(
        """
        CALLS = []
        @pytest.fixture
        def two(): return torch.ones(2)

        @pytest.mark.latency_budget("100 s")
        def test_own_call(two):
            CALLS.append(1)
            two + 1

        def test_was_called_again(flopbudget):
            flopbudget.record("calls", len(CALLS))

        @pytest.mark.flop_budget(region="r", latency_p95="100 s")
        def test_region(flopbudget):
            torch.manual_seed(7)
            flopbudget(lambda: torch.rand(3), name="r")
            after = torch.rand(3)
            torch.manual_seed(7)
            torch.rand(3)
            assert torch.equal(after, torch.rand(3))

        def test_unasked(flopbudget):
            flopbudget(product)
        """
    )
    auto = suite.run()
    assert auto.code == 0, auto.text
    assert auto.verdicts("test_own_call") == [("", "latency", "within")]
    timed = {
        t.id.rpartition("::")[2]: [m.samples for m in t.measurements] for t in auto.report.tests
    }
    assert timed["test_unasked"] == [None]
    assert timed["test_was_called_again"] == [None]
    samples = timed["test_own_call"][0]
    assert samples is not None
    # counted once, then at least once to warm up and once a round
    calls = auto.test("test_was_called_again").measurements[0].values["calls"].value
    assert calls >= 1 + 1 + samples.rounds
    assert timed["test_region"][0] is not None

    always = suite.run("--flopbudget-latency=always", "-k", "unasked")
    assert always.test("test_unasked").measurements[0].samples is not None

    never = suite.run("--flopbudget-latency=never")
    assert never.code == 0
    assert never.verdicts("test_own_call") == [("", "latency", "not gated here")]
    assert never.test("test_was_called_again").measurements[0].values["calls"].value == 1
    assert "--flopbudget-latency=never" in never.test("test_own_call").verdicts[0].reason


def test_over_its_latency_budget_a_test_fails(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.latency_budget("1 ns")
        def test_slow(): product()
        """
    )
    ran = suite.run()
    assert ran.verdicts("test_slow") == [("", "latency", "over")]
    assert ran.code == 1


HASTY = """
    import pytest_flopbudget.session.testrun
    from pytest_flopbudget import LatencyTimer

    @pytest.fixture
    def hasty(monkeypatch):
        # Six rounds, from which no interval of p99 can be told.
        timer = lambda: LatencyTimer(time_limit_s=0.0)
        monkeypatch.setattr(pytest_flopbudget.session.testrun, "_timer", timer)

    @pytest.mark.flop_budget(latency_p99="100 s")
    def test_short(hasty): product()

    @pytest.mark.flop_budget(latency_p99={"max": "100 s", "severity": "warn"})
    def test_warned(hasty): product()
    """


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--flopbudget-strict-latency",), 1),
        (("--flopbudget-strict-latency", "--flopbudget=report"), 0),
        (("--flopbudget-strict-latency", "-k", "warned"), 0),
    ],
)
def test_what_is_inconclusive_fails_the_run_only_where_that_is_asked_for(
    suite: Suite, options: tuple[str, ...], code: int
) -> None:
    suite.write(HASTY)
    ran = suite.run(*options)
    assert ran.code == code
    # A verdict of its own: no test fails for it.
    assert set(ran.endings.values()) <= {"passed", "deselected"}
    assert ran.verdicts("test_warned") == [("", "latency_p99", "inconclusive")]
    said = "(inconclusive fails the run: --flopbudget-strict-latency)"
    assert ran.words.count(said) == code


def test_a_timed_test_is_held_to_the_roof_where_that_is_asked_for(suite: Suite) -> None:
    suite.write(
        """
        import pytest_flopbudget.session.testrun as testrun
        from pytest_flopbudget import LatencyTimer
        from pytest_flopbudget.meters import rates

        @pytest.fixture(autouse=True)
        def scripted(monkeypatch):
            # From each look at the clock to the next it is 2^-10 s.
            now = [0.0]
            def clock():
                now[0] += 2.0**-10
                return now[0]
            timer = lambda: LatencyTimer(clock=clock, time_limit_s=0.0)
            monkeypatch.setattr(testrun, "_timer", timer)
            monkeypatch.setattr(rates, "rate_of", lambda dtype, threads: 2.0**30)

        @pytest.mark.flop_budget(utilization={"min": "10%"}, flops_per_second="1 GFLOP/s")
        def test_floats(): product()

        @pytest.mark.flop_budget(utilization={"min": "50%"})
        def test_far_below(): product()

        @pytest.mark.flop_budget(flops_per_second={"min": 1})
        def test_integers():
            torch.ones(2, 2, dtype=torch.int32) @ torch.ones(2, 2, dtype=torch.int32)

        @pytest.mark.latency_budget("1 s")
        def test_unasked(): product()
        """
    )
    ran = suite.run()
    # 196608 FLOP in 2^-10 s are 201326592 FLOP/s: 0.1875 of 2^30.
    assert ran.test("test_floats").measurements[0].values["utilization"].value == 0.1875
    assert set(ran.verdicts("test_floats")) == {
        ("", "utilization", "within"),
        ("", "flops_per_second", "within"),
    }
    assert "test_far_below reached 0.1875 of the roof" in ran.words
    assert ran.verdicts("test_integers") == [("", "flops_per_second", "not measured")]
    assert "flops_per_second: the region does no floating-point arithmetic: it" in ran.words
    values = ran.test("test_unasked").measurements[0].values
    assert values["flops_per_second"].value == 201326592
    assert "utilization" not in values
    asked = suite.run("--flopbudget-latency=always", "-k", "unasked")
    assert asked.test("test_unasked").measurements[0].values["utilization"].value == 0.1875


def test_a_warm_up_that_never_ends_steady_is_said(suite: Suite) -> None:
    suite.write(
        """
        import itertools
        import pytest_flopbudget.session.testrun
        from pytest_flopbudget import LatencyTimer

        NOW = [0.0]
        TIMES = (0.01 * 1.02**n for n in itertools.count())

        def slows_down(): NOW[0] += next(TIMES)

        @pytest.mark.latency_budget("1000 s")
        def test_slows_down(flopbudget, monkeypatch):
            timer = lambda: LatencyTimer(clock=lambda: NOW[0], time_limit_s=1.0)
            monkeypatch.setattr(pytest_flopbudget.session.testrun, "_timer", timer)
            flopbudget(slows_down)
        """
    )
    ran = suite.run()
    assert ran.code == 0, ran.text
    said = "test_slows_down: its latency was still drifting when the warm-up had to end"
    assert said in ran.words
    (note,) = ran.report.notes
    assert note.endswith("still speeding up or slowing down after its warm-up")


def test_code_that_cannot_be_called_again_has_no_latency_and_says_why(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(latency="1 s", flops=196608)
        def test_once(tmp_path):
            (tmp_path / "made").mkdir()
            product()
        def test_unbudgeted(flopbudget, tmp_path):
            flopbudget((tmp_path / "made").mkdir)
        """
    )
    ran = suite.run("--flopbudget-latency=always")
    assert ran.endings == {"test_once": "over budget", "test_unbudgeted": "passed"}
    assert "test_once has no latency: called again, it raised FileExistsError" in ran.words
    assert set(ran.verdicts("test_once")) == {
        ("", "latency", "not measured"),
        ("", "flops", "within"),
    }
    assert suite.run("--flopbudget=report").code == 0


def test_what_a_test_measured_is_let_go_after_it(suite: Suite) -> None:
    suite.write(
        """
        import gc, weakref
        KEPT = {}
        @pytest.mark.flop_budget(flops="1 MFLOP")
        def test_first(flopbudget):
            KEPT["out"] = weakref.ref(flopbudget(product))
            KEPT["run"] = weakref.ref(flopbudget)
        class TestCase(unittest.TestCase):
            @pytest.mark.flop_budget(flops="1 MFLOP")
            def test_method(self):
                self.out = product()
                KEPT["method"] = weakref.ref(self.out)
                KEPT["case"] = weakref.ref(self)
        def test_second():
            gc.collect()
            assert {name: ref() for name, ref in KEPT.items()} == dict.fromkeys(KEPT)
            assert len(KEPT) == 4
        """
    )
    assert suite.run(report=False).outcomes == {"passed": 3}


def test_a_budgeted_region_that_raised_fails_a_test_that_goes_on(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(region="block", flops="1 MFLOP")
        def test_raises(flopbudget):
            with pytest.raises(ValueError), flopbudget.region("block"):
                product()
                raise ValueError
        """
    )
    ran = suite.run()
    assert ran.endings == {"test_raises": "over budget"}
    assert "test_raises, region 'block', raised before its end, so that its flops say" in ran.words


def test_an_error_of_ours_is_one_line_without_our_frames(suite: Suite) -> None:
    suite.write(
        """
        def test_twice(flopbudget):
            flopbudget(product)
            flopbudget(product)
        """
    )
    ran = suite.run()
    assert ran.endings == {"test_twice": "failed"}
    assert "test_it.py::test_twice: test_twice: the region without a name is measured" in ran.words
    assert "session/testrun.py" not in ran.words
