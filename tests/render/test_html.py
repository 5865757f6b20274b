"""What the page says, and that nothing that a report holds can become more than text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopbudget.core.budgets import Severity
from pytest_flopbudget.core.measurement import (
    Counts,
    Measurement,
    ModuleSpending,
    OperatorSpending,
    Samples,
    Uncounted,
    Value,
)
from pytest_flopbudget.core.report import Git, Report, Settings, TestOutcome
from pytest_flopbudget.core.verdicts import Outcome, Verdict
from pytest_flopbudget.render.html import render_html
from pytest_flopbudget.render.words import clean

from ..builders import budgeted, limit, measured, reported

VOID = frozenset({"meta"})


@dataclass
class Node:
    """An element of a parsed page."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def all(self, tag: str, kind: str = "") -> list[Node]:
        """The elements below with this tag, and this class where one is given."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                classes = (child.attributes.get("class") or "").split()
                if child.tag == tag and (not kind or kind in classes):
                    found.append(child)
                found += child.all(tag, kind)
        return found

    def shape(self) -> object:
        """The structure without the words: what a hostile text would have to change."""
        kept = {name: None if name == "title" else v for name, v in self.attributes.items()}
        return self.tag, kept, [c.shape() for c in self.children if isinstance(c, Node)]


class Reader(HTMLParser):
    """Reads a page into nodes, and takes no tag that is not closed where it must be."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root")
        self.open = [self.root]
        self.declarations: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a section: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


def parsed(page: str) -> Node:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root], "an element was left open"
    assert reader.declarations == ["DOCTYPE html"]
    return reader.root


def shown(report: Report) -> Node:
    return parsed(render_html(report))


def rows(page: Node, title: str) -> list[list[str]]:
    """The words of the table whose first column has this title."""
    for table in page.all("table"):
        if table.all("th")[0].text == title:
            return [[cell.text for cell in row.all("td")] for row in table.all("tr")[1:]]
    raise AssertionError(f"no table begins with {title}")


def spent(path: str, operator: str, kind: str = "Linear", **counts: int) -> ModuleSpending:
    return ModuleSpending(
        path=path,
        type=kind,
        calls=1,
        operators=(OperatorSpending(operator=operator, calls=2, counts=Counts(**counts)),),
    )


def region(*modules: ModuleSpending, **other: object) -> Measurement:
    flops = sum(module.own.flops for module in modules)
    return Measurement(values={"flops": Value(value=flops)}, modules=modules, **other)  # type: ignore[arg-type]  # as the test gives them


MLP = region(
    spent("net.up", "aten.addmm", flops=400, macs=200, params=30, peak_memory=120),
    spent("", "aten.add", "Model", flops=10),
    spent("net.down", "aten.addmm", flops=360, macs=180, params=20, peak_memory=80),
    spent("net", "aten.relu", "Mlp", flops=30),
)
"""800 FLOP: 790 of them in `net`, of which 30 in `net` itself."""

SAMPLES = Samples(
    rounds=36,
    warmup_rounds=7,
    threads=1,
    median=0.02,
    low=0.018,
    high=0.023,
    confidence=0.96,
    p95=0.03,
    p99=0.036,
    minimum=0.01,
    maximum=0.04,
    is_steady=False,
    p95_low=0.025,
    p95_high=0.035,
)


class TestLimits:
    def test_the_headline_counts_the_verdicts_the_worst_first(self) -> None:
        page = shown(
            reported(
                budgeted("t.py::a", measured(macs={"": 3}), limits=(limit("macs", 2),)),
                budgeted("t.py::b", measured(macs={"": 2}), limits=(limit("macs", 2),)),
                budgeted("t.py::c", measured(macs={"": 1}), limits=(limit("macs", 2),)),
            )
        )
        line = "1 over budget \N{MIDDLE DOT} 2 within budget"
        assert [node.text for node in page.all("p", "headline")] == [line]
        assert page.all("title")[0].text == f"Compute budgets: {line}"
        assert page.all("p", "headline")[0].attributes["class"] == "headline bad"

    def test_what_is_over_stands_before_what_only_warns_and_what_is_within(self) -> None:
        soft = limit("macs", 1, severity=Severity.WARN)
        page = shown(
            reported(
                budgeted("t.py::skipped", outcome=TestOutcome.SKIPPED),
                budgeted("t.py::fine", measured(macs={"": 1}), limits=(limit("macs", 2),)),
                budgeted("t.py::soft", measured(macs={"": 2}), limits=(soft,)),
                budgeted("t.py::free", measured(macs={"": 2})),
                budgeted("t.py::wide", measured(macs={"": 3}), limits=(limit("macs", 2),)),
            )
        )
        # 3 of 2 is 150 %, 2 of 1 is 200 %, 1 of 2 is 50 %.
        assert rows(page, "Test") == [
            ["wide", "macs", "3 MAC", "<= 2 MAC", "150 %", "", "over"],
            ["soft", "macs", "2 MAC", "<= 1 MAC", "200 %", "", "over (warn)"],
            ["fine", "macs", "1 MAC", "<= 2 MAC", "50 %", "", "within"],
            ["skipped", "", "", "", "", "", "skipped"],
            ["free", "", "", "", "", "", "no budget"],
        ]

    @pytest.mark.parametrize(
        ("value", "width", "mark"),
        [
            (99, "width:99.00%", []),
            (100, "width:100.00%", []),
            (101, "width:100.00%", ["left:99.01%"]),  # 1 / 1.01 = 0.990099...
            (250, "width:100.00%", ["left:40.00%"]),  # 1 / 2.5
            (0, "width:0.00%", []),
        ],
    )
    def test_a_line_crosses_the_bar_at_the_limit_only_where_it_is_passed(
        self, value: int, width: str, mark: list[str]
    ) -> None:
        page = shown(
            reported(budgeted("t.py::t", measured(macs={"": value}), limits=(limit("macs", 100),)))
        )
        track = page.all("table")[0].all("span", "track")[0]
        assert track.all("i")[0].attributes["style"] == width
        assert [node.attributes["style"] for node in track.all("s")] == mark

    def test_a_limit_that_is_no_maximum_has_no_bar(self) -> None:
        page = shown(
            reported(
                budgeted(
                    "t.py::t", measured(accuracy=0.7), limits=(limit("accuracy", minimum=0.5),)
                )
            )
        )
        assert rows(page, "Test") == [["t", "accuracy", "0.7", ">= 0.5", "", "", "within"]]
        assert page.all("table")[0].all("span", "track") == []

    def test_why_a_limit_is_broken_is_said_in_the_test_that_stands_open(self) -> None:
        page = shown(
            reported(
                budgeted("t.py::fine", measured(macs={"": 1}), limits=(limit("macs", 2),)),
                budgeted("t.py::wide", measured(macs={"fc": 3}), limits=(limit("macs", 2),)),
            )
        )
        fine, wide = page.all("details")
        assert "open" in wide.attributes
        assert "open" not in fine.attributes
        assert [node.text for node in wide.all("p", "why")] == [
            "wide used 3 MAC, budget 2 MAC (+50 %); most spent in fc (aten.mm, 3 MAC)"
        ]
        assert fine.all("p", "why") == []

    def test_each_name_leads_to_its_own_details(self) -> None:
        page = shown(
            reported(
                budgeted("t.py::gone", outcome=TestOutcome.DESELECTED),
                budgeted("t.py::a", measured(macs={"": 1}), limits=(limit("macs", 2),)),
                budgeted("t.py::b", measured(macs={"": 1})),
            )
        )
        ids = {details.all("div")[0].attributes["id"]: details for details in page.all("details")}
        assert len(ids) == 2
        for link in page.all("a"):
            target = link.attributes.get("href")
            if link.text == "gone":
                assert target is None
            else:
                assert target is not None
                assert f"t.py::{link.text}" in ids[target.removeprefix("#")].text


class TestDetails:
    def test_the_tree_has_every_module_below_its_parent_with_what_is_below_it(self) -> None:
        page = shown(reported(budgeted("t.py::t", MLP)))
        # 790 of 800 is 98.75 %; up 400 of 800, down 360 of 800; params 30 + 20.
        assert rows(page, "Module") == [
            ["(top level) Model", "800 FLOP", "100 %", "", "10 FLOP", "50", "200 B"],
            ["net Mlp", "790 FLOP", "99 %", "", "30 FLOP", "50", "200 B"],
            ["up Linear", "400 FLOP", "50 %", "", "400 FLOP", "30", "120 B"],
            ["down Linear", "360 FLOP", "45 %", "", "360 FLOP", "20", "80 B"],
        ]
        indents = [node.attributes.get("style") for node in page.all("span", "tree")]
        assert indents == [None, "padding-left:0.9rem", *["padding-left:1.8rem"] * 2]

    def test_a_bar_marks_the_modules_own_part_of_its_share(self) -> None:
        page = shown(reported(budgeted("t.py::t", MLP)))
        net = next(row for row in page.all("tr") if row.text.startswith("net Mlp"))
        # 790 / 800 and 30 / 800.
        assert net.all("i")[0].attributes["style"] == "width:98.75%"
        assert net.all("b")[0].attributes["style"] == "width:3.75%"

    def test_of_too_many_modules_the_largest_are_shown_each_with_its_parents(self) -> None:
        many = region(*(spent(f"g{n % 7}.m{n}", "aten.mm", flops=n + 1) for n in range(300)))
        page = shown(reported(budgeted("t.py::t", many)))
        trees = page.all("span", "tree")
        paths = [node.attributes.get("title", "") or "" for node in trees]
        # The root, 7 groups and 300 leaves are 308 rows, of which 200 are shown.
        assert len(paths) == 200
        assert "and 108 modules more" in page.text
        assert {path.rpartition(".")[0] for path in paths} <= set(paths)
        # The root and the groups leave room for the 192 largest leaves.
        leaves = {path for path in paths if "." in path}
        assert leaves == {f"g{n % 7}.m{n}" for n in range(108, 300)}

    def test_operators_are_ranked_by_what_they_spent(self) -> None:
        page = shown(reported(budgeted("t.py::t", MLP)))
        # addmm: 400 + 360 of 800 is 95 %, in twice 2 calls; relu 30 of 800 is 3.75 %, add 1.25 %.
        assert rows(page, "Operator") == [
            ["aten.addmm", "4", "760 FLOP", "95 %", "", "380 MAC", ""],
            ["aten.relu", "2", "30 FLOP", "4 %", "", "", ""],
            ["aten.add", "2", "10 FLOP", "1 %", "", "", ""],
        ]

    def test_integer_work_is_ranked_where_there_is_no_other(self) -> None:
        quantised = Measurement(
            values={"int_ops": Value(value=6)},
            modules=(spent("q", "quantized.linear", int_ops=6),),
        )
        page = shown(reported(budgeted("t.py::t", quantised)))
        assert "integer operations by module" in page.text
        assert rows(page, "Operator") == [["quantized.linear", "2", "6 OP", "100 %", "", "", ""]]

    def test_memory_at_the_peak_is_told_by_module_and_operator(self) -> None:
        page = shown(reported(budgeted("t.py::t", MLP)))
        memory = page.all("table")[-1]
        assert [[cell.text for cell in row.all("td")] for row in memory.all("tr")[1:]] == [
            ["net.up", "aten.addmm", "120 B", "60 %", ""],  # of 200 B
            ["net.down", "aten.addmm", "80 B", "40 %", ""],
        ]

    def test_a_metric_has_its_digits_and_a_sample_its_interval(self) -> None:
        values = {
            "flops": Value(value=1_234_567),
            "latency": Value(value=0.02, low=0.018, high=0.023),
        }
        page = shown(reported(budgeted("t.py::t", Measurement(values=values))))
        assert rows(page, "Metric") == [
            ["FLOPs", "1.235 MFLOP", "1,234,567"],
            ["latency", "20 ms", "18 ms to 23 ms"],
        ]

    def test_latency_is_told_with_its_rounds_its_spread_and_its_intervals(self) -> None:
        page = shown(reported(budgeted("t.py::t", Measurement(values={}, samples=SAMPLES))))
        assert (
            "latency: 36 rounds, 1 thread, intervals at 96 %, never steady; "
            "7 warm-up rounds, 1 call a round" in page.text
        )
        assert rows(page, "Rounds") == [
            ["shortest", "10 ms", "", ""],
            ["median", "20 ms", "18 ms to 23 ms", ""],
            ["p95", "30 ms", "25 ms to 35 ms", ""],
            ["p99", "36 ms", "", ""],
            ["longest", "40 ms", "", ""],
        ]
        # 10, 20, 30, 36 and 40 of 40 ms.
        widths = [node.attributes["style"] for node in page.all("i")]
        assert widths == [f"width:{share}.00%" for share in (25, 50, 75, 90, 100)]

    def test_an_uncounted_operator_is_told_with_its_calls_and_shapes(self) -> None:
        sort = Uncounted(operator="aten.sort.default", calls=2, shapes=("f32[4]", "f32[8]"))
        page = shown(reported(budgeted("t.py::t", measured(macs={"": 7}, uncounted=(sort,)))))
        assert "uncounted operators: the counts above are too low" in page.text
        assert rows(page, "Operator") == [["aten.sort.default", "2", "f32[4], f32[8]"]]

    def test_every_region_has_its_title_where_there_are_several(self) -> None:
        page = shown(
            reported(budgeted("t.py::t", measured(macs={"": 1}), measured("decode", macs={"": 2})))
        )
        assert [node.text for node in page.all("h3")] == ["the test's call", "decode"]
        alone = shown(reported(budgeted("t.py::t", measured(macs={"": 1}))))
        assert alone.all("h3") == []

    def test_code_that_raised_is_told_and_not_judged(self) -> None:
        torn = measured(macs={"": 7}, is_partial=True)
        page = shown(reported(budgeted("t.py::t", torn)))
        assert [node.text for node in page.all("p", "note")] == [
            "raised before its end, not judged"
        ]


class TestRun:
    def test_the_facts_of_the_run_are_told(self) -> None:
        page = shown(
            reported(
                git=Git(commit="b" * 40, branch="topic", is_dirty=True),
                machine={"cpu": "EPYC", "memory_bytes": 3 * 2**30, "torch_threads": 2},
                versions={"python": "3.12.1", "torch": "2.13.0"},
            )
        )
        terms = [node.text for node in page.all("dt")]
        facts = dict(zip(terms, (node.text for node in page.all("dd")), strict=True))
        assert facts == {
            "commit": f"{'b' * 40} on topic, with uncommitted changes",
            "machine": "cpu EPYC, memory 3 GiB, torch threads 2",
            "versions": "python 3.12.1, torch 2.13.0",
            "mode": "enforce",
        }

    def test_a_run_of_a_part_says_so(self) -> None:
        page = shown(reported(selection=("-k mlp",), is_interrupted=True, notes=("two threads",)))
        assert [node.text for node in page.all("p", "note")] == [
            "the run was interrupted: what it did not reach is not judged",
            "only a part of the tests was run: -k mlp",
            "two threads",
        ]

    def test_a_run_that_measured_nothing_says_so_and_has_no_empty_table(self) -> None:
        page = shown(reported())
        assert page.all("p", "headline")[0].text == "nothing measured"
        assert page.all("table") == []
        assert page.all("h2") == []

    def test_nothing_that_adds_up_to_zero_has_shares(self) -> None:
        page = shown(reported(budgeted("t.py::t", region(spent("fc", "aten.view", ops=1)))))
        assert page.all("span", "track") == []

    def test_the_page_runs_nothing_and_loads_nothing(self) -> None:
        text = render_html(reported(budgeted("t.py::t", MLP, limits=(limit("flops", 1),))))
        page = parsed(text)
        used = {node.tag for node in every(page)}
        assert (
            used & {"script", "link", "img", "iframe", "object", "embed", "base", "form"} == set()
        )
        names = {name for node in every(page) for name in node.attributes}
        assert not any(name.startswith("on") or name in {"src", "srcset"} for name in names)
        assert re.search(r"https?:|//|url\(|@import", text) is None
        policy = [n for n in page.all("meta") if "http-equiv" in n.attributes]
        assert [n.attributes["content"] for n in policy] == [
            "default-src 'none'; style-src 'unsafe-inline'"
        ]


def every(node: Node) -> list[Node]:
    below = [child for child in node.children if isinstance(child, Node)]
    return below + [deeper for child in below for deeper in every(child)]


PIECES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></code></td></details>",
    "<!--",
    "-->",
    "<![CDATA[",
    "<?php",
    "&#60;b&#62;",
    "&lt",
    "javascript:alert(1)",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "\N{LEFT-TO-RIGHT ISOLATE}",
    "\N{ZERO WIDTH SPACE}",
    "\N{LINE SEPARATOR}",
    "\x00",
    "\x1b[2J",
    "\x9b",
    "\r\n",
    "\udcff",
    "\ufdd0",
    "x",
    " ",
)


def text_of_others() -> st.SearchStrategy[str]:
    pieces = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=5)
    # A dot is the one character that means something: it parts a module's path.
    return pieces.map("".join).map(lambda text: text.replace(".", ","))


def everywhere(text: str) -> Report:
    """A report that holds the text wherever a report can hold a text of others."""
    name = f"n{text}"
    measurement = Measurement(
        name=name,
        values={"flops": Value(value=8), name: Value(value=1)},
        modules=(
            spent(f"{name}.{name}", name, name, flops=6, peak_memory=5),
            spent("", name, name, flops=2),
        ),
        uncounted=(Uncounted(operator=name, calls=1, shapes=(name, name)),),
        samples=SAMPLES,
    )
    verdict = Verdict(
        region=name,
        metric=name,
        outcome=Outcome.OVER,
        reason=name,
        value=8,
        bound=4,
        used=2.0,
    )
    test = replace(
        budgeted(f"{name}.py::{name}", measurement), file=f"{name}.py", verdicts=(verdict,)
    )
    return Report(
        tests=(test, replace(test, id=f"{name}.py::gone", measurements=(), verdicts=())),
        git=Git(commit=name, branch=name, is_dirty=False),
        machine={name: name},
        versions={name: name},
        settings=Settings(mode=name),
        selection=(f"-k{name}",),  # narrows the run, whatever the name
        notes=(name,),
    )


@given(text_of_others())
def test_no_text_of_a_report_changes_what_the_page_is_made_of(text: str) -> None:
    assert shown(everywhere(text)).shape() == shown(everywhere("")).shape()


@given(text_of_others())
def test_no_text_of_a_report_hides_or_moves_what_is_seen(text: str) -> None:
    page = render_html(everywhere(text))
    page.encode("utf-8")
    assert {unicodedata.category(c) for c in page if c != "\n"} & {"Cc", "Cf", "Cs", "Cn"} == set()


@given(text_of_others())
def test_what_can_be_seen_of_a_test_id_is_shown_whole(text: str) -> None:
    page = shown(everywhere(text))
    assert page.all("details")[0].all("code")[0].text == clean(f"n{text}.py::n{text}")


def test_the_judge_sees_a_text_that_was_not_escaped() -> None:
    page = render_html(everywhere("&"))
    assert page.count("n&amp;") > 20
    torn = page.replace("n&amp;", "n<b>bold</b>")
    assert parsed(torn).shape() != parsed(page).shape()


def test_what_could_not_be_measured_says_why() -> None:
    torn = replace(measured(ops=1), absent={"allocator_peak": "a <profiler> runs"})
    page = render_html(reported(budgeted("t.py::test_a", torn)))
    assert "allocator peak was not measured: a &lt;profiler&gt; runs" in page
