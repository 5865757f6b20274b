"""Every form in which a budget can be written, and what it does to a test."""

from __future__ import annotations

import pytest

from .conftest import FLOPS, MACS, Suite

SETTINGS = """
[tool.flopbudget.budgets.small]
flops = "196608 FLOP"
macs = { equals = "98304 MAC" }

[tool.flopbudget.budgets.tiny]
flops = "1 kFLOP"

[tool.flopbudget.machines.elsewhere]
cpu = "no such processor"
"""


def test_every_form_of_a_limit_is_held_at_the_bound_and_broken_one_beyond_it(suite: Suite) -> None:
    suite.settings(SETTINGS)
    forms = {
        "named": ("'small'", "'tiny'"),
        "beside_named": ("'tiny', flops=196608", "'small', flops=196607"),
        "bare": ("flops='196.608 kFLOP'", "flops='196.607 kFLOP'"),
        "max": ("macs={'max': 98304}", "macs={'max': 98303}"),
        "min": ("macs={'min': 98304}", "macs={'min': 98305}"),
        # 98304 * 1.01 = 99287.04, so that 98304 is 0.98... % below 99287
        "equals": (
            "macs={'equals': 99287, 'tolerance': '1%'}",
            "macs={'equals': 99287, 'tolerance': '0.9%'}",
        ),
        # 32 * 48 + 48 * 64 + 32 * 64 floats of 4 bytes are 26624 bytes
        "memory": ("peak_memory='26 KiB'", "peak_memory='26623 B'"),
    }
    body = "".join(
        f"@pytest.mark.flop_budget({form})\ndef test_{name}_{how}():\n    product()\n"
        for name, (held, broken) in forms.items()
        for how, form in (("held", held), ("broken", broken))
    )
    body += (
        "@pytest.mark.memory_budget('26 KiB')\ndef test_short_held(): product()\n"
        "@pytest.mark.memory_budget(26623)\ndef test_short_broken(): product()\n"
    )
    suite.write(body)
    ran = suite.run()
    assert ran.endings == {
        f"test_{name}_{how}": outcome
        for name in [*forms, "short"]
        for how, outcome in (("held", "passed"), ("broken", "over budget"))
    }
    assert (ran.code, ran.outcomes["failed"], ran.outcomes["passed"]) == (1, 8, 8)


def test_the_sentence_says_value_budget_excess_modules_and_operators(suite: Suite) -> None:
    suite.write(
        """
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.wide = torch.nn.Linear(48, 64, bias=False)
            def forward(self, x):
                return self.wide(x)

        @pytest.mark.flop_budget(flops="131072 FLOP")
        def test_net():
            Net()(torch.ones(32, 48))
        """
    )
    ran = suite.run()
    # 196608 FLOP are half as much again as 131072
    (sentence,) = [v.reason for v in ran.test("test_net").verdicts]
    assert "\n" not in sentence
    for part in ("test_net", "196.6 kFLOP", "131.1 kFLOP", "+50 %", "wide", "aten.mm"):
        assert part in sentence
    assert sentence in ran.words
    assert "Traceback" not in ran.text


def test_an_uncounted_operator_fails_a_strict_budget_and_is_only_shown_otherwise(
    suite: Suite,
) -> None:
    suite.write(
        """
        @torch.library.custom_op("flopbudget_tests::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(2 * x.numpy())

        @pytest.mark.flop_budget(flops="1 GFLOP")
        def test_strict(): twice(torch.ones(3))

        @pytest.mark.flop_budget(flops="1 GFLOP", strict=False)
        def test_lenient(): twice(torch.ones(3))

        @pytest.mark.flop_budget(peak_memory="1 GiB")
        def test_of_memory(): twice(torch.ones(3))
        """
    )
    ran = suite.run()
    assert ran.endings == {
        "test_strict": "over budget",
        "test_lenient": "passed",
        "test_of_memory": "passed",
    }
    for name in ran.endings:
        (row,) = ran.test(name).measurements[0].uncounted
        assert (row.operator, row.calls) == ("flopbudget_tests.twice.default", 1)
    assert ran.words.count("uncounted flopbudget_tests.twice.default (1 call, f32[3])") == 3


def test_budgets_come_by_test_id_with_no_edit_to_the_tests(suite: Suite) -> None:
    suite.settings(
        SETTINGS
        + """
        [tool.flopbudget.defaults]
        ops = 2
        [[tool.flopbudget.match]]
        tests = "*::test_match*"
        budget = "tiny"
        [[tool.flopbudget.match]]
        tests = "test_it.py::test_match_small[*]"
        budget = "small"
        """.replace("        ", "")
    )
    suite.write(
        """
        def test_match_tiny(): product()
        @pytest.mark.parametrize("n", [1, 2])
        def test_match_small(n): [product() for _ in range(n)]
        @pytest.mark.flop_budget(flops="1 MFLOP")
        def test_match_but_marked(): product()
        def test_other(): product()
        """
    )
    ran = suite.run()
    assert ran.endings == {
        "test_match_tiny": "over budget",
        "test_match_small[1]": "over budget",  # by the default of two operators
        "test_match_small[2]": "over budget",
        "test_match_but_marked": "over budget",
    }
    small = {v.metric: v for v in ran.test("test_match_small[1]").verdicts}
    assert (small["flops"].outcome.value, small["flops"].value) == ("within", FLOPS)
    assert (small["macs"].outcome.value, small["macs"].value) == ("within", MACS)
    marked = dict(v[1:] for v in ran.verdicts("test_match_but_marked"))
    assert marked == {"flops": "within", "ops": "over"}


def test_markers_of_class_module_and_case_add_up_the_closest_winning(suite: Suite) -> None:
    suite.write(
        """
        pytestmark = pytest.mark.flop_budget(ops=100, flops=1)

        @pytest.mark.flop_budget(flops=2, macs=1)
        class TestModels:
            @pytest.mark.flop_budget(macs=98304)
            @pytest.mark.flop_budget(flops=196608)
            def test_own(self): product()

            def test_of_class(self): product()

            @pytest.mark.flop_budget(flops=3, macs=98304)
            @pytest.mark.parametrize(
                "n", [pytest.param(1, marks=pytest.mark.flop_budget(flops=196608)), 2]
            )
            def test_case(self, n): product()

        def test_of_module(): product()
        """
    )
    ran = suite.run()
    bounds = {
        t.id.rpartition("::")[2]: {v.metric: v.bound for v in t.verdicts} for t in ran.report.tests
    }
    assert bounds == {
        "test_own": {"ops": 100, "flops": 196608, "macs": 98304},
        "test_of_class": {"ops": 100, "flops": 2, "macs": 1},
        "test_case[1]": {"ops": 100, "flops": 196608, "macs": 98304},
        "test_case[2]": {"ops": 100, "flops": 3, "macs": 98304},
        "test_of_module": {"ops": 100, "flops": 1},
    }


def test_several_markers_bound_a_region_each(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        @pytest.mark.flop_budget(region="decode", flops=196607)
        def test_two(flopbudget):
            flopbudget(product)
            with flopbudget.region("decode"):
                product()

        @pytest.mark.flop_budget(region="decod", flops=1)
        def test_misspelt(flopbudget):
            with flopbudget.region("decode"):
                product()
        """
    )
    ran = suite.run()
    assert set(ran.verdicts("test_two")) == {
        ("", "flops", "within"),
        ("decode", "flops", "over"),
    }
    assert "test_misspelt never measured the region 'decod'; did you mean 'decode'?" in ran.words


def test_a_limit_for_another_machine_is_not_gated_and_a_warning_does_not_fail(
    suite: Suite,
) -> None:
    suite.settings(
        SETTINGS
        + """
[tool.flopbudget.machines.here]
cpu = "*"
"""
    )
    suite.write(
        """
        @pytest.mark.flop_budget(flops={"max": 1, "on": "elsewhere"})
        def test_elsewhere(): product()
        @pytest.mark.flop_budget(flops={"max": 1, "on": "here"})
        def test_here(): product()
        @pytest.mark.flop_budget(flops={"max": 1, "severity": "warn"})
        def test_warns(): product()
        """
    )
    ran = suite.run()
    assert ran.endings == {
        "test_elsewhere": "passed",
        "test_here": "over budget",
        "test_warns": "passed",
    }
    assert ran.verdicts("test_elsewhere") == [("", "flops", "not gated here")]
    assert ran.verdicts("test_warns") == [("", "flops", "over")]
    assert "over (warn)" in ran.text


def test_growth_over_the_baseline_fails_whether_option_or_settings_name_it(suite: Suite) -> None:
    body = """
    N = {n}
    @pytest.mark.flop_budget(flops={{"vs_baseline": "+50%"}})
    def test_grows(): [product() for _ in range(N)]
    @pytest.mark.flop_budget(flops={{"vs_baseline": "+0%"}})
    def test_stays(): product()
    """
    suite.write(body.format(n=2))
    first = suite.run()
    assert first.code == 0
    assert first.verdicts("test_grows") == [("", "flops", "no baseline")]
    base = suite.path.rename(suite.path.with_name("base.json"))
    suite.write(body.format(n=3))
    # three products are half as many again as two
    assert suite.run(f"--flopbudget-baseline={base.name}").endings["test_grows"] == "passed"
    suite.settings('[tool.flopbudget]\nbaseline = "base.json"\n')
    suite.write(body.format(n=4))
    ran = suite.run()
    assert ran.endings == {"test_grows": "over budget", "test_stays": "passed"}
    assert ran.verdicts("test_grows") == [("", "flops", "regressed")]
    missing = suite.run("--flopbudget-baseline=missing.json")
    assert missing.code == 4
    assert "missing.json: cannot read the report" in missing.text


RATIOS = """
@pytest.mark.flop_budget(region="student", macs={"ratio_to": "teacher", "max": 0.5})
@pytest.mark.flop_budget(region="whole", name="teacher", ops=100)
def test_within_one_test(flopbudget):
    flopbudget(lambda: (product(), product()), name="whole")
    flopbudget(product, name="student")

@pytest.mark.flop_budget(macs={"ratio_to": "big", "max": 0.5})
def test_half(): product()

@pytest.mark.flop_budget(macs={"ratio_to": "big", "max": 0.25})
def test_quarter(): product()

@pytest.mark.flop_budget(name="big", ops=100)
def test_big(): product(); product()
"""


def test_ratios_are_held_within_a_test_and_across_tests(suite: Suite) -> None:
    suite.write(RATIOS)
    ran = suite.run()
    assert ran.endings == {
        "test_within_one_test": "passed",
        "test_half": "passed",
        "test_quarter": "over budget",
        "test_big": "passed",
    }
    assert ran.outcomes == {"passed": 4}  # no single test could know
    assert ran.code == 1
    assert "test_quarter" in ran.words.partition("compute budgets")[2]
    assert suite.run("--flopbudget=report").code == 0


def test_a_ratio_to_a_test_that_was_left_out_is_pending_and_one_to_no_test_is_broken(
    suite: Suite,
) -> None:
    suite.write(
        RATIOS
        + """
@pytest.mark.flop_budget(macs={"ratio_to": "bgi", "max": 9})
def test_typo(): product()
"""
    )
    left_out = suite.run("-k", "quarter")
    assert left_out.code == 0
    assert left_out.verdicts("test_quarter") == [("", "macs", "pending")]
    (verdict,) = left_out.test("test_quarter").verdicts
    assert verdict.reason.endswith(
        "its ratio to 'big' was not judged: test_it.py::test_big was deselected "
        "and did not measure it"
    )
    alone = suite.run("test_it.py::test_half")
    assert (alone.code, alone.verdicts("test_half")) == (0, [("", "macs", "pending")])
    typo = suite.run("-k", "typo or big")
    assert (typo.code, typo.verdicts("test_typo")) == (1, [("", "macs", "not measured")])
    assert "no measurement is named 'bgi'; did you mean 'big'?" in typo.words


def test_a_ratio_to_a_name_that_two_tests_give_is_broken_and_says_so(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(name="big", ops=9)
        @pytest.mark.parametrize("n", [1, 2])
        def test_big(n): product()
        @pytest.mark.flop_budget(macs={"ratio_to": "big", "max": 9})
        def test_small(): product()
        """
    )
    ran = suite.run()
    assert (ran.code, ran.endings["test_small"]) == (1, "over budget")
    assert "several tests name a measurement 'big'" in ran.words


@pytest.mark.parametrize("name", ["flops_budget", "flop_budgets", "mac_budget", "memory_budgets"])
def test_a_marker_that_is_nearly_ours_is_refused(suite: Suite, name: str) -> None:
    suite.write(f"@pytest.mark.{name}(flops=1)\ndef test_it(): product()")
    ran = suite.run("-Wignore", report=False)
    assert ran.result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"test_it.py::test_it: @{name}: did you mean @" in ran.words
