"""Budgets on the allocator's peak, which is of this machine, and none on what is resident."""

from __future__ import annotations

import sys

import pytest

from .conftest import Suite

PRODUCT = (32 * 48 + 48 * 64 + 32 * 64) * 4
"""Bytes of both factors and of the product, in float32, alive at once."""
LINUX = sys.platform.startswith("linux")


def test_a_budget_on_it_takes_it_in_each_form_of_a_region(suite: Suite) -> None:
    suite.write(f"""
    @pytest.mark.flop_budget(allocator_peak={PRODUCT})
    def test_own_call(): product()

    @pytest.mark.flop_budget(allocator_peak={PRODUCT - 1})
    def test_over(): product()

    @pytest.mark.flop_budget(region="call", allocator_peak={PRODUCT})
    @pytest.mark.flop_budget(region="block", allocator_peak={PRODUCT - 1})
    def test_regions(flopbudget):
        flopbudget(product, name="call")
        assert flopbudget.allocator_peak == {PRODUCT}
        with flopbudget.region("block"):
            product()
        with flopbudget.region("free"):
            product()
    """)
    ran = suite.run()
    assert ran.verdicts("test_own_call") == [("", "allocator_peak", "within")]
    assert ran.verdicts("test_over") == [("", "allocator_peak", "over")]
    assert sorted(ran.verdicts("test_regions")) == [
        ("block", "allocator_peak", "over"),
        ("call", "allocator_peak", "within"),
    ]
    assert "test_over took" in ran.words
    assert "of the allocator at its peak, budget" in ran.words
    measured = {m.name: m.values.keys() for m in ran.test("test_regions").measurements}
    assert ("rss_peak" in measured["call"]) is LINUX
    assert not {"allocator_peak", "rss_peak"} & measured["free"]
    (metrics,) = [
        m["metrics"]["allocator_peak"]
        for test in ran.json["tests"]
        for m in test["measurements"]
        if test["id"].endswith("test_own_call")
    ]
    assert metrics == {"value": PRODUCT, "unit": "B", "kind": "machine", "better": "lower"}


def test_the_option_takes_it_of_every_measured_test(suite: Suite) -> None:
    suite.write("""
    @pytest.mark.flop_budget(flops="1 GFLOP")
    def test_it(): product()
    """)
    (plain,) = suite.run().test("test_it").measurements
    assert "allocator_peak" not in plain.values
    (taken,) = suite.run("--flopbudget-process-memory").test("test_it").measurements
    assert taken.allocator_peak == PRODUCT
    assert taken.flops == plain.flops


def test_a_test_that_asks_for_the_fixture_while_it_runs_is_measured_too(suite: Suite) -> None:
    suite.write(f"""
    @pytest.mark.flop_budget(allocator_peak={PRODUCT})
    def test_late(request):
        assert request.getfixturevalue("flopbudget")(product).shape == (32, 64)
    """)
    assert suite.run().verdicts("test_late") == [("", "allocator_peak", "within")]


def test_where_it_cannot_be_taken_the_test_fails_and_says_why(suite: Suite) -> None:
    suite.write("""
    import threading

    @pytest.mark.flop_budget(allocator_peak="1 GB")
    def test_threads():
        thread = threading.Thread(target=product)
        thread.start()
        thread.join()
    """)
    ran = suite.run()
    assert ran.verdicts("test_threads") == [("", "allocator_peak", "not measured")]
    assert (
        "test_threads was not measured for allocator_peak: "
        "torch does not tell what its other threads take" in ran.words
    )
    (measurement,) = ran.test("test_threads").measurements
    assert measurement.absent.keys() >= {"allocator_peak"}


@pytest.mark.parametrize("cpu", ["", "another"])
def test_growth_is_held_to_a_baseline_of_this_machine_alone(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, cpu: str
) -> None:
    body = """
    @pytest.mark.flop_budget(allocator_peak={{"vs_baseline": "+50%"}})
    def test_grows():
        kept = [product() for _ in range({calls})]
    """
    suite.write(body.format(calls=1))
    suite.run()
    base = suite.path.rename(suite.path.with_name("base.json"))
    if cpu:
        text = base.read_text("utf-8")
        here = suite.run(f"--flopbudget-baseline={base.name}").json["machine"]["cpu"]
        base.write_text(text.replace(f'"{here}"', f'"{cpu}"'), "utf-8")
    suite.write(body.format(calls=4))
    ran = suite.run(f"--flopbudget-baseline={base.name}")
    assert ran.verdicts("test_grows") == [
        ("", "allocator_peak", "no baseline" if cpu else "regressed")
    ]


def test_a_budget_on_what_is_resident_is_a_usage_error(suite: Suite) -> None:
    suite.write("""
    @pytest.mark.flop_budget(rss_peak="1 GB")
    def test_it(): product()
    """)
    ran = suite.run(report=False)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "'rss_peak' is shown, and takes no budget" in " ".join(ran.errors)
