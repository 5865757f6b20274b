"""Budgets of models larger than the machine: `with flopbudget.fake():` in a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import HEADER, Suite

WIDTH = 1_000_000
LARGE = (
    HEADER
    + """
def large():
    # Four terabytes of weights.
    return torch.nn.Linear(1_000_000, 1_000_000, bias=False)

"""
)


def test_budget_of_a_large_model_is_held(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(macs=5_000_000_000_000, peak_memory="4.1 TB")
        @pytest.mark.flop_budget(region="backward", peak_memory="4.1 TB")
        def test_large(flopbudget):
            with flopbudget.fake():
                model, x = large(), torch.ones(5, 1_000_000)
                flopbudget(model, x)
                with flopbudget.region("backward"):
                    model(x).sum().backward()
            assert flopbudget.params == 10 ** 12
        """,
        header=LARGE,
    )
    ran = suite.run()
    assert ran.code == 1
    values = {m.name: m.values for m in ran.test("test_large").measurements}
    assert values[""]["macs"].value == 5 * WIDTH**2
    assert values["backward"]["macs"].value == 2 * 5 * WIDTH**2
    # The weight and its gradient; the forward alone is within its budget.
    assert values["backward"]["peak_memory"].value > 8 * WIDTH**2
    assert "region 'backward'" in ran.words
    assert ran.outcomes == {"failed": 1}


def test_whole_test_is_measured_without_the_fixture(suite: Suite) -> None:
    suite.write(
        """
        from pytest_flopbudget import fake

        @pytest.mark.flop_budget(macs={"equals": 5_000_000_000_000}, latency="1 s")
        def test_large():
            with fake():
                large()(torch.ones(5, 1_000_000))
        """,
        header=LARGE,
    )
    ran = suite.run()
    values = ran.test("test_large").measurements[0].values
    assert values["macs"].value == 5 * WIDTH**2
    # Nothing was computed, so that a time would say nothing.
    assert "latency" not in values
    assert "fake tensors compute nothing, so that there is nothing to time" in ran.words


def test_latency_of_fake_tensors_is_not_taken(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(latency="1 s")
        def test_large(flopbudget):
            with flopbudget.fake():
                flopbudget(large(), torch.ones(5, 1_000_000))
        """,
        header=LARGE,
    )
    ran = suite.run("--flopbudget-latency=always")
    assert "latency" not in ran.test("test_large").measurements[0].values
    assert "fake tensors compute nothing, so that there is nothing to time" in ran.words


def test_line_that_reads_a_value_fails_the_test(suite: Suite) -> None:
    suite.write(
        """
        def test_reads(flopbudget):
            with flopbudget.fake():
                flopbudget(lambda x: x * x.max().item(), torch.ones(3))
        """
    )
    ran = suite.run()
    assert ran.outcomes == {"failed": 1}
    assert "`flopbudget(lambda x: x * x.max().item(), torch.ones(3))` reads a value" in ran.words
    assert ran.test("test_reads").measurements[0].is_partial


@pytest.mark.parametrize("mode", ["off", "report"])
def test_model_is_as_large_as_it_is_in_every_mode(suite: Suite, mode: str) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(macs="1 MAC")
        def test_large(flopbudget):
            with flopbudget.fake():
                assert flopbudget(large(), torch.ones(5, 1_000_000)).shape == (5, 1_000_000)
        """,
        header=LARGE,
    )
    ran = suite.run(f"--flopbudget={mode}")
    assert (ran.code, ran.outcomes) == (0, {"passed": 1})


@pytest.mark.slow
def test_example_of_the_page_passes(suite: Suite) -> None:
    page = (Path(__file__).parents[2] / "docs" / "fake.md").read_text("utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    suite.write(code, header="")
    ran = suite.run_apart()
    assert (ran.code, ran.outcomes) == (0, {"passed": 1}), ran.text
    values = ran.test("test_llama_3_70b").measurements[0].values
    assert f"{values['macs'].value:,}" in page
    assert f"{values['params'].value:,}" in page
