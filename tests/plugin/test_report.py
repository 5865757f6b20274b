"""The report of a run: nothing is lost, and nothing said that is not so."""

from __future__ import annotations

from .conftest import FLOPS, MACS, Suite

ENDINGS = """
@pytest.fixture
def broken(): raise RuntimeError
@pytest.fixture
def measured_and_broken(flopbudget):
    flopbudget(product)
    raise RuntimeError
@pytest.fixture
def falls():
    yield
    raise RuntimeError

pytestmark = pytest.mark.flop_budget(flops=196608)

def test_passes(): product()
def test_over(): product(); product()
def test_fails(): product(); assert False
def test_fails_after(flopbudget):
    flopbudget(product)
    assert False
def test_fails_over_budget(flopbudget):
    flopbudget(lambda: (product(), product()))
    assert False
def test_fails_before(flopbudget): assert False
def test_region(flopbudget):
    with flopbudget.region():
        product()
        product()
        raise ValueError
def test_expected(flopbudget):
    with pytest.raises(ValueError):
        with flopbudget.region("r"):
            product()
            raise ValueError
    flopbudget(product)
@pytest.mark.skip
def test_skipped(): product()
def test_skips(): pytest.skip()
@pytest.mark.xfail
def test_xfails(): assert False
@pytest.mark.xfail
def test_xfails_over(): product(); product()
@pytest.mark.xfail
def test_xpasses(): product()
@pytest.mark.xfail(strict=True)
def test_xpasses_strictly(): product()
def test_set_up(broken): pass
def test_set_up_measured(measured_and_broken): pass
def test_tear_down(falls): product()
@pytest.mark.parametrize("n", [1, 2])
def test_case(n): [product() for _ in range(n)]
class TestClass:
    def test_method(self): product()
"""

EXPECTED = {
    "test_passes": "passed",
    "test_over": "over budget",
    "test_fails": "failed",
    "test_fails_after": "failed",
    "test_fails_over_budget": "failed",
    "test_fails_before": "failed",
    "test_region": "failed",
    "test_expected": "passed",
    "test_skipped": "skipped",
    "test_skips": "skipped",
    "test_xfails": "xfailed",
    "test_xfails_over": "xfailed",
    "test_xpasses": "passed",
    "test_xpasses_strictly": "failed",
    "test_set_up": "error",
    "test_set_up_measured": "error",
    "test_tear_down": "error",
    "test_case[1]": "passed",
    "test_case[2]": "over budget",
    "test_method": "passed",
}


def test_every_ending_of_a_test_is_told_apart_and_keeps_what_was_measured(suite: Suite) -> None:
    suite.write(ENDINGS)
    ran = suite.run()
    assert ran.endings == EXPECTED
    assert list(ran.endings) == list(EXPECTED)  # in the order of the file
    assert not ran.report.is_interrupted
    seen = {
        t.id.rpartition("::")[2]: [(m.values["flops"].value, m.is_partial) for m in t.measurements]
        for t in ran.report.tests
    }
    assert seen["test_fails"] == [(FLOPS, True)]
    assert seen["test_fails_after"] == seen["test_set_up_measured"] == [(FLOPS, False)]
    assert seen["test_fails_over_budget"] == [(2 * FLOPS, False)]
    assert seen["test_region"] == [(2 * FLOPS, True)]
    assert seen["test_expected"] == [(FLOPS, True), (FLOPS, False)]
    assert seen["test_skipped"] == seen["test_set_up"] == seen["test_fails_before"] == []
    assert seen["test_tear_down"] == [(FLOPS, False)]
    verdicts = {name: [v[2] for v in ran.verdicts(name)] for name in EXPECTED}
    for name in ("test_fails", "test_region", "test_fails_before", "test_set_up", "test_skips"):
        assert verdicts[name] == [], name
    assert verdicts["test_fails_after"] == ["within"]
    assert verdicts["test_expected"] == ["within"]
    assert verdicts["test_fails_over_budget"] == ["over"]  # though it failed by itself
    lines = {t.id.rpartition("::")[2]: (t.file, t.line) for t in ran.report.tests}
    text = (suite.pytester.path / "test_it.py").read_text("utf-8").splitlines()
    file, line = lines["test_passes"]
    assert (file, text[line - 1]) == ("test_it.py", "def test_passes(): product()")


UNITTEST = """
class Case(unittest.TestCase):
    pytestmark = pytest.mark.flop_budget(macs=98304)
    def setUp(self): product()
    def tearDown(self): product()
    def test_sync(self): product()
    def test_over(self): product(); product()
    def test_fails(self): product(); self.fail()
    def test_fails_over(self): product(); product(); self.fail()
    def test_skips(self): product(); self.skipTest("no")
    @unittest.skip("no")
    def test_skipped(self): product()
    @unittest.expectedFailure
    def test_expected(self): self.fail()
    def test_subtests(self):
        for n in range(2):
            with self.subTest(n=n):
                torch.ones(n)
        product()
    def test_failing_subtests(self):
        for n in range(2):
            with self.subTest(n=n):
                self.assertEqual(n, 0)
        product()

@pytest.mark.flop_budget(macs=98304)
class SetUpFails(unittest.TestCase):
    def setUp(self): raise RuntimeError
    def test_never_ran(self): product()

@pytest.mark.flop_budget(macs=98304)
class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self): product()
    async def test_async(self): product()
    async def test_async_over(self): product(); product()
    async def test_async_fails(self): product(); self.fail()

class WithFixture(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def take(self, flopbudget): self.flopbudget = flopbudget
    @pytest.mark.flop_budget(macs=98304)
    def test_fixture(self):
        product()
        self.flopbudget(product)

@pytest.fixture
def anyio_backend(): return "asyncio"
@pytest.mark.anyio
@pytest.mark.flop_budget(macs=98304)
async def test_anyio(): product()
@pytest.mark.anyio
@pytest.mark.flop_budget(macs=98304)
async def test_anyio_over(): product(); product()
@pytest.mark.anyio
@pytest.mark.latency_budget("1 s")
async def test_anyio_latency(): product()
@pytest.mark.flop_budget(macs=98304)
def test_pytest_subtests(subtests):
    with subtests.test("a"):
        product()
    with subtests.test("b"):
        assert False
"""


def test_unittest_async_tests_and_subtests_are_measured_as_any_other(suite: Suite) -> None:
    suite.write(UNITTEST)
    ran = suite.run()
    assert ran.endings == {
        "test_sync": "passed",
        "test_over": "over budget",
        "test_fails": "failed",
        "test_fails_over": "failed",
        "test_skips": "skipped",
        "test_skipped": "skipped",
        "test_expected": "xfailed",
        "test_subtests": "passed",
        "test_failing_subtests": "failed",
        "test_never_ran": "failed",
        "test_async": "passed",
        "test_async_over": "over budget",
        "test_async_fails": "failed",
        "test_fixture": "passed",
        "test_anyio": "passed",
        "test_anyio_over": "over budget",
        "test_anyio_latency": "over budget",
        "test_pytest_subtests": "failed",
    }
    for name in ("test_sync", "test_subtests", "test_async", "test_fixture", "test_anyio"):
        assert [m.values["macs"].value for m in ran.test(name).measurements] == [MACS], name
    assert ran.test("test_never_ran").verdicts == ()
    assert "test_anyio_latency has no latency: an async test is not run again" in ran.words


def test_a_doctest_is_measured_by_its_match_rule(suite: Suite) -> None:
    suite.settings(
        "[tool.flopbudget.budgets.a]\nmacs = 1\n"
        '[[tool.flopbudget.match]]\ntests = "*"\nbudget = "a"\n'
    )
    suite.write(
        '"""\n>>> import torch; _ = torch.mm(torch.ones(2, 3), torch.ones(3, 4))\n"""',
        name="mod",
        header="",
    )
    ran = suite.run("--doctest-modules")
    (test,) = ran.report.tests
    assert (test.id, test.outcome.value) == ("mod.py::mod", "over budget")
    assert test.measurements[0].values["macs"].value == 2 * 3 * 4


CUT = """
@pytest.mark.flop_budget(flops="1 MFLOP")
def test_first(): product()
@pytest.mark.flop_budget(flops="1 MFLOP")
def test_second(flopbudget):
    flopbudget(product)
    {end}
@pytest.mark.flop_budget(flops="1 MFLOP")
def test_third(): product()
"""


def test_a_run_that_is_cut_short_reports_what_it_reached(suite: Suite) -> None:
    for end, code, options in (
        ("raise KeyboardInterrupt", 2, ()),
        ("pytest.exit('enough')", 2, ()),
        ("assert False", 1, ("-x",)),
    ):
        suite.write(CUT.format(end=end))
        ran = suite.run(*options)
        second = "failed" if options else "not run"
        assert ran.code == code
        assert ran.endings == {
            "test_first": "passed",
            "test_second": second,
            "test_third": "not run",
        }
        assert ran.report.is_interrupted
        assert ran.test("test_second").measurements[0].values["flops"].value == FLOPS
        assert "test_first" in ran.summary[0]


def test_a_file_that_cannot_be_read_makes_the_report_a_part(suite: Suite) -> None:
    suite.write("@pytest.mark.flop_budget(flops='1 MFLOP')\ndef test_ok(): product()\n")
    suite.write("raise ImportError", name="test_broken")
    stopped = suite.run()
    assert (stopped.code, stopped.endings) == (2, {"test_ok": "not run"})
    assert stopped.report.is_interrupted
    going = suite.run("--continue-on-collection-errors", report=True)
    assert (going.code, going.endings) == (1, {"test_ok": "passed"})
    assert going.report.is_interrupted


def test_tests_that_are_left_out_are_listed_in_their_place(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_it(n):
            product()
            assert n != 2 or os.environ.get("FIXED")
        """
    )
    left_out = {
        ("-k", "1 or 3"): ("-k 1 or 3",),
        ("-m", "not slow", "-k", "1 or 3"): ("-k 1 or 3", "-m not slow"),
        ("--deselect", "test_it.py::test_it[2]"): ("--deselect test_it.py::test_it[2]",),
    }
    for options, selection in left_out.items():
        ran = suite.run(*options)
        assert ran.code == 0
        assert list(ran.endings.items()) == [
            ("test_it[1]", "passed"),
            ("test_it[2]", "deselected"),
            ("test_it[3]", "passed"),
        ]
        assert (ran.report.selection, ran.report.is_interrupted) == (selection, False)
    assert suite.run().endings["test_it[2]"] == "failed"
    again = suite.run("--lf")
    assert again.endings["test_it[2]"] == "failed"
    assert (again.report.selection, again.report.is_interrupted) == (("--lf",), False)
    one = suite.run("test_it.py::test_it[3]")
    assert (one.endings, one.report.selection) == (
        {"test_it[3]": "passed"},
        ("test_it.py::test_it[3]",),
    )
    nothing = suite.run("-k", "none")
    assert (nothing.code, set(nothing.endings.values())) == (5, {"deselected"})


def test_lines_that_spent_the_most_are_told_where_they_are_asked_for(suite: Suite) -> None:
    suite.write(
        """
        @pytest.mark.flop_budget(flops=196608)
        def test_ok():
            product()
        """
    )
    assert "lines" not in suite.run().json["tests"][0]
    ran = suite.run("--flopbudget-lines")
    assert ran.code == 0
    (row,) = [row for row in ran.json["tests"][0]["lines"] if row["operator"] == "aten.mm"]
    path, _, number = row["line"].rpartition(":")
    assert path == "test_it.py"
    text = (suite.pytester.path / path).read_text("utf-8").splitlines()[int(number) - 1]
    assert "@" in text or "mm" in text
    assert (row["region"], row["flops"], row["calls"]) == ("", 196608, 1)
    told = ran.summary.index("test_ok: most FLOPs, by line")
    assert ran.summary[told + 1].split()[0] == row["line"]


def test_a_report_that_cannot_be_written_is_an_error_and_loses_no_result(suite: Suite) -> None:
    suite.write("@pytest.mark.flop_budget(flops=196608)\ndef test_ok(): product()\n")
    ran = suite.run("--flopbudget-json=test_it.py/report.json", report=False)
    assert ran.code == 4
    assert ran.outcomes == {"passed": 1}
    assert "ERROR: " in ran.text
    assert "cannot make the folder" in ran.words
    assert "test_ok" in ran.summary[0]
    suite.run()
    assert sorted(path.name for path in suite.pytester.path.glob("*report*")) == ["report.json"]


def test_a_run_with_nothing_budgeted_writes_an_empty_report_when_asked(suite: Suite) -> None:
    suite.write("def test_plain(): pass\n")
    ran = suite.run()
    assert (ran.code, ran.endings, ran.report.is_interrupted) == (0, {}, False)
    assert ran.summary == []
