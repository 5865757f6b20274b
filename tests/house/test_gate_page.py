"""What the page of the gate shows is so: each example line, each verdict, each exit code."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from pytest_flopbudget.core.acceptance import KEY, parse_acceptances
from pytest_flopbudget.core.merging import _WORST_FIRST
from pytest_flopbudget.render.sentences import LABEL, VERDICTS

PAGE = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    """What the fence below the comment of this name holds."""
    found = re.search(
        rf"<!-- {re.escape(mark)} -->\n(`{{3,}})\w+\n(.*?)\n\1\n<!-- end -->", PAGE, re.DOTALL
    )
    assert found is not None, f"docs/gate.md has no block marked {mark!r}"
    return found[2]


def rows(title: str) -> list[list[str]]:
    """The rows of the table below the heading."""
    table = PAGE.split(f"\n## {title}\n")[1].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_lines_that_are_shown_as_accepted_are() -> None:
    lines = block("accepted").splitlines()
    accepted, complaints = parse_acceptances(block("accepted"))
    assert complaints == ()
    assert [one.line for one in accepted] == lines
    # 1.5 GFLOP; 120 * 1024 * 1024 B; 45 ms in seconds; a change; a floor; a count; nothing to
    # measure.
    assert [(one.metric, one.cap, one.is_floor) for one in accepted] == [
        ("flops", 1_500_000_000, False),
        ("peak_memory", 125_829_120, False),
        ("latency", Fraction(45, 1000), False),
        ("latency", Fraction(12, 100), False),
        ("accuracy", Fraction(74, 100), True),
        ("uncounted", 2, False),
        ("", None, False),
    ]
    assert accepted[1].covers("tests/test_net.py::test_anything[x]")
    assert accepted[2].covers("tests/test_net.py::test_decode[fp16-8]")
    assert not accepted[2].covers("tests/test_net.py::test_decode8")


@pytest.mark.parametrize(
    ("number", "why"),
    [(0, "give a reason"), (1, "1 MAC is 2 FLOP"), (2, f"write '{KEY}: ")],
)
def test_the_lines_that_are_shown_as_unreadable_are_and_say_what_to_write(
    number: int, why: str
) -> None:
    line = block("cannot be read").splitlines()[number]
    accepted, (complaint,) = parse_acceptances(line)
    assert accepted == ()
    assert why in complaint


def test_the_lines_that_are_shown_not_to_count_are_passed_over() -> None:
    text = block("does not count")
    assert text.count(KEY) == 5
    assert parse_acceptances(text) == ((), ())
    # They would count as plain lines: it is where they stand that does it.
    plain = [f"{KEY}:{part.partition(' -->')[0]}" for part in text.split(f"{KEY}:")[1:]]
    accepted, _ = parse_acceptances("\n".join(line.splitlines()[0] for line in plain))
    assert len(accepted) == 5


def test_every_example_stands_in_one_of_these_blocks() -> None:
    marks = ("accepted", "cannot be read", "does not count")
    tested = sum(block(mark).count(f"{KEY}: tests/") for mark in marks)
    assert PAGE.count(f"{KEY}: tests/") == tested
    assert f"`{LABEL}`" in PAGE


def test_the_verdicts_have_the_exit_codes_and_the_order_that_the_table_gives() -> None:
    shown = [(word.strip("`"), int(code)) for word, code, _ in rows("Verdicts and exit codes")]
    assert shown == [(VERDICTS[standing], standing.exit_code) for standing in _WORST_FIRST]


def test_the_table_of_loosening_names_what_the_comparison_names() -> None:
    import pytest_flopbudget.core.loosening as module

    source = Path(module.__file__).read_text(encoding="utf-8")
    # As they are written there: what="test", or the second argument of _change.
    written = set(re.findall(r'(?:what=|_change\((?:limit|new|old), )"(\w+)"', source))
    written |= {"maximum", "minimum"}  # by name of the field
    shown = {
        word
        for first, _ in rows("What counts as loosening")
        for word in re.findall(r"`(\w+)`", first)
    }
    assert shown == written
