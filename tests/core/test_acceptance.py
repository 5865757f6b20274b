"""Lines that accept a regression: what is read, what is not, and what a hostile text can do."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flopbudget.core.acceptance import Acceptance, parse_acceptances

KEY = "Flop-Budget-Accept:"
GOOD = f"{KEY} test_a.py::test_a macs <= 3 GMAC - it pays off"


def only(text: str) -> Acceptance:
    found, complaints = parse_acceptances(text)
    assert complaints == ()
    (one,) = found
    return one


def complaint(text: str) -> str:
    found, complaints = parse_acceptances(text)
    assert found == ()
    (one,) = complaints
    return one


class TestLines:
    def test_a_line_says_tests_metric_cap_and_reason(self) -> None:
        assert only(GOOD) == Acceptance(
            tests="test_a.py::test_a",
            metric="macs",
            cap=Fraction(3 * 10**9),
            reason="it pays off",
            line=GOOD,
        )

    def test_a_removed_test_needs_no_metric(self) -> None:
        one = only(f"{KEY} test_a.py::test_* removed - it moved")
        assert (one.tests, one.metric, one.cap, one.reason) == (
            "test_a.py::test_*",
            "",
            None,
            "it moved",
        )

    @pytest.mark.parametrize(
        ("words", "cap", "is_floor"),
        [
            ("accuracy >= 0.75", Fraction(3, 4), True),
            ("accuracy \u2265 75 %", Fraction(3, 4), True),
            ("log_likelihood >= -2.5", Fraction(-5, 2), True),
            ("latency <= 45 ms", Fraction(45, 1000), False),
            ("latency \u2264 45 ms", Fraction(45, 1000), False),
            ("uncounted <= 2", Fraction(2), False),
            ("peak_memory <= 90 MiB", Fraction(90 * 2**20), False),
        ],
    )
    def test_a_cap_is_read_in_the_unit_of_its_metric(
        self, words: str, cap: Fraction, is_floor: bool
    ) -> None:
        one = only(f"{KEY} t {words} - r")
        assert (one.cap, one.is_floor) == (cap, is_floor)

    @pytest.mark.parametrize(
        ("words", "cap", "is_floor"),
        [
            ("latency <= +12%", Fraction(12, 100), False),
            ("latency <= 12.5 %", Fraction(125, 1000), False),
            ("latency <= `+300%`", Fraction(3), False),
            ("throughput >= -10%", Fraction(-1, 10), True),
        ],
    )
    def test_a_time_may_be_capped_by_its_change(
        self, words: str, cap: Fraction, is_floor: bool
    ) -> None:
        one = only(f"{KEY} t {words} - r")
        assert (one.cap, one.is_floor, one.is_change) == (cap, is_floor, True)
        assert not only(f"{KEY} t latency <= 12 ms - r").is_change

    @pytest.mark.parametrize(
        "tests",
        [
            "test_x[a b-c]",
            "test_x[a <= b]",
            "test_x[k a <= b]",
            "test_x[is removed - a]",
            "test_x[a - b]",
            "test_x[*]",
        ],
    )
    def test_parameters_may_hold_the_words_of_a_line(self, tests: str) -> None:
        assert only(f"{KEY} {tests} macs <= 1 - r").tests == tests
        assert only(f"{KEY} {tests} removed - r").tests == tests

    def test_a_reason_may_hold_them_too(self) -> None:
        one = only(f"{KEY} t macs <= 1 - a removed - layer, macs <= 2 - so be it")
        assert (one.cap, one.reason) == (1, "a removed - layer, macs <= 2 - so be it")
        one = only(f"{KEY} t removed - macs <= 2 - so be it")
        assert (one.tests, one.cap) == ("t", None)

    @pytest.mark.parametrize(
        "line",
        [
            f"- {GOOD}",
            f"* {GOOD}",
            f"   {GOOD}",
            f"text before\r\n\r\n{GOOD}\r\ntext after",
            GOOD.replace(KEY, "FLOP-budget-accept :"),
            GOOD.replace("test_a.py::test_a macs", "`test_a.py::test_a` `macs`"),
            GOOD.replace(" - ", " \u2014 "),
            f"<!-- a comment -->\n{GOOD}",
            f"```\ncode\n```\n{GOOD}",
            f"{GOOD}\n{GOOD}",
        ],
    )
    def test_it_may_be_written_in_other_ways(self, line: str) -> None:
        one = only(line)
        assert (one.tests, one.metric, one.reason) == ("test_a.py::test_a", "macs", "it pays off")

    @pytest.mark.parametrize(
        "text",
        [
            f"> {GOOD}",
            f"- > {GOOD}",
            f"    {GOOD}",
            f"\t{GOOD}",
            f"`{GOOD}`",
            f"write {GOOD}",
            f"```\n{GOOD}\n```",
            f"~~~~ text\n~~~\n{GOOD}\n~~~~",
            f"- ```\n  {GOOD}\n  ```",
            f"```\n{GOOD}",
            f"<!--\n{GOOD}\n-->",
            f"<!-- {GOOD} -->",
            f"<!--\n--> {GOOD}",
            f"<!--\n```\n-->\n> {GOOD}",
            f"<!--\n{GOOD}",
            "Flop-Budget-Acceptance: t macs <= 1 - r",
            "",
        ],
    )
    def test_what_a_reader_does_not_see_as_said_is_not_said(self, text: str) -> None:
        assert parse_acceptances(text) == ((), ())

    @pytest.mark.parametrize(
        "text",
        [
            f"> quoted\n{GOOD}",
            f'<div title="\n{GOOD}\n">\n',
            f"<div>\n- {GOOD}\n</div>",
            f"<blockquote>\n\n{GOOD}\n\n</blockquote>",
            f"<template>\n\n{GOOD}\n\n</template>",
            f"<pre>\n{GOOD}\n</pre>",
            f"text <del>\n\n- {GOOD}\n\n</del>",
            f"\\`<pre>\\`\n\n{GOOD}",
            f"[link]: /there '\n{GOOD}\n'",
            f"``code\n{GOOD}\n``",
            f"some text\n{GOOD}",
            f"`code\n    <!--\n-->\n{GOOD}\n`",
            f"`code <!--\n-->\n{GOOD}\n`",
        ],
    )
    def test_what_may_be_within_something_else_is_ignored_and_told(self, text: str) -> None:
        found, (told,) = parse_acceptances(text)
        assert found == ()
        assert told.startswith(f"'{GOOD}' looks like Flop-Budget-Accept, but it stands within")

    @pytest.mark.parametrize(
        "text",
        [
            f"<?x\n\n{GOOD}\n?>",
            f"<![CDATA[\n\n{GOOD}\n]]>",
            f"<!X\n{GOOD}\n>",
            f"text <!--\n\n- {GOOD}\n-->",
            f"<!-- a --> {GOOD}",
            f"-      {GOOD}",
            f"`code\n2. {GOOD}\n`",
        ],
    )
    def test_what_is_hidden_or_code_is_not_even_told_of(self, text: str) -> None:
        assert parse_acceptances(text) == ((), ())

    def test_nothing_that_a_line_leaves_open_covers_the_next(self) -> None:
        for end in (" `", " ``", ' <b title="', " <i>"):
            found, complaints = parse_acceptances(f"{GOOD}{end}\n{GOOD} too")
            assert [one.reason for one in found] == [f"it pays off{end}"]
            assert len(complaints) == 1
        assert len(parse_acceptances(f"{GOOD}\n{GOOD} too")[0]) == 2

    @pytest.mark.parametrize(
        "text",
        [
            f"\ufeff{GOOD}",
            f"1. {GOOD}",
            f"7) {GOOD}",
            f"text\n1. {GOOD}",
            f"## Heading\n{GOOD}",
            f"<details>\n\n{GOOD}\n\n</details>",
            f"<div>\n\n{GOOD}",
            f"<pre>x</pre>\n\n{GOOD}",
            f"a `<pre>` and `<!--`\n\n{GOOD}",
            f"> quoted\n\n{GOOD}",
            f"```\n<pre>\n```\n{GOOD}",
        ],
    )
    def test_what_surely_is_said_counts(self, text: str) -> None:
        assert only(text).metric == "macs"

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            (f"\u200b{GOOD}", "characters in it that are not shown"),
            (GOOD.replace("Budget", "Bud\u200dget"), "characters in it that are not shown"),
            (GOOD.replace("Accept", "\u0410ccept"), "only look like those"),
            (GOOD.replace("Flop-", "Flop\u2011"), "only look like those"),
            (f"**{KEY}** t macs <= 1 - r", "it is bold or slanted"),
            (f"- _{KEY} t macs <= 1 - r_", "it is bold or slanted"),
        ],
    )
    def test_a_line_that_only_looks_right_is_told_of(self, line: str, why: str) -> None:
        found, (told,) = parse_acceptances(line)
        assert found == ()
        assert why in told

    @pytest.mark.parametrize("reason", ["\u200b", "\u00a0\u00a0", "\u2800", "\u3164", "<!-- r -->"])
    def test_a_reason_that_nobody_sees_is_none(self, reason: str) -> None:
        assert "give a reason" in complaint(GOOD.replace("it pays off", reason))

    def test_a_fence_within_a_comment_opens_nothing(self) -> None:
        assert only(f"<!--\n```\n-->\n{GOOD}").metric == "macs"


class TestComplaints:
    @pytest.mark.parametrize(
        ("rest", "mend"),
        [
            ("t macs <= 3 GFLOP - r", "1 MAC is 2 FLOP; write '1.5 GMAC'"),
            ("t macs <= +12% - r", "cannot read '+12%'"),
            ("t throughput >= -100% - r", "'-100%' would leave nothing"),
            ("t flops <= 3 GFLOPS - r", "is a rate (FLOPS is FLOP/s), and this is a count"),
            ("t flop <= 3 - r", "no metric is called 'flop'; write 'flops'"),
            ("t rss_peak <= 3 - r", "takes no budget"),
            ("t macs <= 3", "give a reason, behind a dash"),
            ("t macs <= 3 - ", "give a reason, behind a dash"),
            ("t removed", "give a reason, behind a dash"),
            ("t macs <= - r", "write a number and a unit"),
            ("t macs <= -3 - r", "less than nothing"),
            ("t macs <= 1e999 - r", "'1e999' is beyond 1e+30"),
            ("t loss <= 1e309 - r", "inf is no number"),
            ("t uncounted <= 1e31 - r", "'1e31' is beyond 1e+30"),
            ("macs <= 3 - r", "name the tests, the metric and the value"),
            ("t macs 3 GMAC - r", "write 'Flop-Budget-Accept: tests/test_net.py::test_*"),
            ("", "write 'Flop-Budget-Accept: tests/test_net.py::test_*"),
        ],
    )
    def test_a_line_that_cannot_be_read_is_named_with_the_mend(self, rest: str, mend: str) -> None:
        said = complaint(f"{KEY} {rest}")
        assert said.startswith(f"cannot read '{f'{KEY} {rest}'.strip()}': ")
        assert mend in said

    @pytest.mark.parametrize(
        "reason",
        ["reason", "REASON", "<reason>", "the reason", "[your reason]", "...", "TODO", "?"],
    )
    def test_what_stands_for_a_reason_is_none(self, reason: str) -> None:
        assert f"'{reason}' is no reason; write why" in complaint(f"{KEY} t macs <= 3 - {reason}")
        assert f"'{reason}' is no reason; write why" in complaint(f"{KEY} t removed - {reason}")
        # Not read in another way, in which it would have one: for the tests `t[a`.
        assert "is no reason" in complaint(f"{KEY} t[a removed - b] macs <= 3 - {reason}")

    @pytest.mark.parametrize("reason", ["r", "one reason more", "reason: it pays", "\u7406\u7531"])
    def test_few_words_are_one(self, reason: str) -> None:
        assert only(f"{KEY} t macs <= 3 - {reason}").reason == reason

    def test_a_bad_line_spoils_no_good_one(self) -> None:
        found, complaints = parse_acceptances(f"{KEY} t\n{GOOD}\n")
        assert ([one.metric for one in found], len(complaints)) == (["macs"], 1)

    def test_too_long_a_line_is_not_read(self) -> None:
        longest = f"{KEY} t macs <= 1 - ".ljust(1000, "r")
        assert only(longest).metric == "macs"
        assert "longer than 1000 characters" in complaint(f"{longest}r")
        assert len(complaint(f"{longest}r")) < 400

    def test_too_many_lines_are_not_read(self) -> None:
        lines = [f"{KEY} t{n} macs <= 1 - r" for n in range(51)]
        assert len(parse_acceptances("\n".join(lines[:50]))[0]) == 50
        found, complaints = parse_acceptances("\n".join(lines))
        assert len(found) == 50
        assert complaints == ("only the first 50 lines of Flop-Budget-Accept were read, of 51",)

    def test_a_text_without_end_is_cut(self) -> None:
        found, complaints = parse_acceptances("x\n" * 131_072 + GOOD)
        assert found == ()
        assert "first 262144 characters" in complaints[0]

    @pytest.mark.parametrize("piece", ["<!--", "a <= ", "`", "- ", "[", " removed", "\n" + KEY])
    def test_no_text_makes_it_raise(self, piece: str) -> None:
        found, complaints = parse_acceptances(f"{KEY} {piece * 200_000}")
        assert found == ()
        assert len(complaints) <= 52


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "name", "is_covered"),
        [
            ("test_x", "test_x", True),
            ("test_x", "test_xy", False),
            ("test_x", "a.py::test_x", False),
            ("*::test_x", "a.py::test_x", True),
            ("test_x[a b-c]", "test_x[a b-c]", True),
            ("test_x[ab]", "test_xa", False),
            ("test_x[*]", "test_x[1]", True),
            ("test_x[*]", "test_x[*]", True),
            ("test_?", "test_x", True),
            ("test_?", "test_xy", False),
            ("*", "", True),
            ("**a**", "bab", True),
            ("a*a", "a", False),
            ("a*a", "aa", True),
            ("a*bc*c", "abcc", True),
            ("a*bc*c", "abc", False),
            ("*.py", "a.py.py", True),
            ("*\\d", "5", False),
        ],
    )
    def test_asterisks_are_wild_and_brackets_are_not(
        self, pattern: str, name: str, is_covered: bool
    ) -> None:
        one = Acceptance(tests=pattern, metric="macs", cap=Fraction(1), reason="r", line="l")
        assert one.covers(name) is is_covered

    def test_no_pattern_makes_the_search_go_back(self) -> None:
        # A search that goes back would try some 10**40 ways.
        one = Acceptance(tests="*a" * 40 + "b", metric="", cap=None, reason="r", line="l")
        assert not one.covers("a" * 2000)
