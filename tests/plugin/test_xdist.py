"""What runs over several processes is reported as if it ran in one."""

from __future__ import annotations

from .conftest import FLOPS, Suite
from .test_markers import RATIOS
from .test_report import ENDINGS, EXPECTED


def test_two_workers_report_what_one_process_reports(suite: Suite) -> None:
    suite.settings(
        "[tool.flopbudget.budgets.one]\nflops = 196608\n"
        '[[tool.flopbudget.match]]\ntests = "*::test_grouped"\nbudget = "one"\n'
    )
    # xdist writes the group into the ids of its workers' tests.
    suite.write(ENDINGS + "\n@pytest.mark.xdist_group('g')\ndef test_grouped(): product()\n")
    suite.write(RATIOS, name="test_ratios")
    alone = suite.run_apart("-k", "not test_case").json
    ran = suite.run_apart("-n2", "--dist=loadgroup", "-k", "not test_case")
    spread = ran.json
    assert alone["versions"].pop("pytest-xdist", None) == spread["versions"].pop("pytest-xdist")
    assert spread == alone
    assert ran.code == 1
    assert (
        EXPECTED.items()
        >= {
            name: ending
            for name, ending in ran.endings.items()
            if name in ran.endings and name in EXPECTED and not name.startswith("test_case")
        }.items()
    )
    assert ran.endings["test_case[2]"] == "deselected"
    assert ran.endings["test_quarter"] == "over budget"
    assert "test_quarter" in " ".join(ran.summary)


def test_a_worker_that_dies_loses_its_own_test_alone(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        @pytest.mark.parametrize("n", range(4))
        def test_it(n):
            product()
            if n == 0: os._exit(3)
        """
    )
    ran = suite.run_apart("-n1")
    assert ran.code == 1
    assert ran.endings == {
        "test_it[0]": "failed",
        **{f"test_it[{n}]": "passed" for n in (1, 2, 3)},
    }
    assert not ran.report.is_interrupted
    for n in (1, 2, 3):
        (measured,) = ran.test(f"test_it[{n}]").measurements
        assert measured.values["flops"].value == FLOPS


def test_ctrl_c_in_a_worker_keeps_what_was_measured_and_the_plan(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        def test_first(): product()
        @pytest.mark.flop_budget(flops=196608)
        def test_second(flopbudget):
            flopbudget(product)
            raise KeyboardInterrupt
        @pytest.mark.flop_budget(flops=196608)
        def test_third(): product()
        """
    )
    ran = suite.run_apart("-n1")
    assert ran.code == 2
    assert ran.endings == {
        "test_first": "passed",
        "test_second": "failed",  # as xdist says: to it the worker crashed
        "test_third": "not run",
    }
    assert ran.report.is_interrupted
    assert ran.test("test_second").measurements[0].values["flops"].value == FLOPS


def test_what_two_workers_leave_out_is_listed_though_they_run_nothing(suite: Suite) -> None:
    suite.write(
        """
        import pytest
        @pytest.mark.flop_budget(flops=1)
        @pytest.mark.parametrize("n", [1, 2])
        def test_it(n): pass
        """,
        header="",
    )
    ran = suite.run_apart("-n2", "-k", "none")
    assert (ran.code, ran.endings) == (5, {"test_it[1]": "deselected", "test_it[2]": "deselected"})


def test_timed_tests_never_overlap_also_when_a_worker_is_killed_while_it_times(
    suite: Suite,
) -> None:
    suite.write(
        """
        import fcntl, signal
        from pytest_flopbudget import LatencyTimer
        import pytest_flopbudget.session.testrun as testrun

        def inside_of(tmp_path_factory):
            return (tmp_path_factory.getbasetemp().parent / "inside").open("a")

        @pytest.mark.flop_budget(ops=3)
        @pytest.mark.parametrize("n", range(4))  # two for each worker to begin with
        def test_timer(n, tmp_path_factory, latency_timer, flopbudget):
            inside = inside_of(tmp_path_factory)
            latency_timer.time_limit_s = 0.1

            def alone():
                fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
                product()
                fcntl.flock(inside, fcntl.LOCK_UN)

            latency_timer(alone)
            flopbudget(product)

        @pytest.mark.latency_budget("100 s")
        @pytest.mark.parametrize("n", range(6))
        def test_it(n, tmp_path_factory, monkeypatch, flopbudget):
            monkeypatch.setattr(testrun, "_timer", lambda: LatencyTimer(time_limit_s=0.1))
            inside = inside_of(tmp_path_factory)
            calls = []

            def alone():
                calls.append(1)
                if len(calls) == 1: return  # the counted one
                # Raises where another test is being timed: then this one has no latency.
                fcntl.flock(inside, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if n == 1: os.kill(os.getpid(), signal.SIGKILL)
                product()
                fcntl.flock(inside, fcntl.LOCK_UN)

            flopbudget(alone)
        """
    )
    ran = suite.run_apart("-n2")
    others = [f"test_it[{n}]" for n in (0, 2, 3, 4, 5)]
    endings = dict.fromkeys([*(f"test_timer[{n}]" for n in range(4)), *others], "passed")
    assert ran.endings == {"test_it[1]": "failed", **endings}
    for name in others:
        assert ran.verdicts(name) == [("", "latency", "within")]
