"""Quantities: what people write is read exactly, and what is printed can be read again."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_flopbudget.core.errors import QuantityError
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import (
    exact,
    format_change,
    format_pair,
    format_quantity,
    parse_change,
    parse_quantity,
    ratio,
)

D = Dimension

AMOUNTS = st.one_of(
    st.integers(min_value=0, max_value=10**21),
    st.floats(min_value=0, max_value=1e21, allow_nan=False),
    st.fractions(min_value=0, max_value=10**12),
)
DIMENSIONS = st.sampled_from(list(Dimension))


@pytest.mark.parametrize(
    ("raw", "dimension", "amount"),
    [
        ("3.7 GFLOP", D.FLOP, 3_700_000_000),
        ("3.7GFLOPs", D.FLOP, 3_700_000_000),
        ("3.7G", D.FLOP, 3_700_000_000),
        ("1e3 kFLOP", D.FLOP, 1_000_000),
        ("3E", D.FLOP, 3 * 10**18),
        ("12", D.FLOP, 12),
        (12, D.FLOP, 12),
        ("1.814 GMAC", D.MAC, 1_814_000_000),
        ("2 TOP", D.OP, 2 * 10**12),
        ("1_000 kB", D.BYTE, 1_000_000),
        ("90 MiB", D.BYTE, 90 * 1024 * 1024),
        ("90Mi", D.BYTE, 90 * 1024 * 1024),
        ("90 MB", D.BYTE, 90_000_000),
        ("45 ms", D.SECOND, Fraction(45, 1000)),
        ("45m", D.SECOND, Fraction(45, 1000)),
        ("3 us", D.SECOND, Fraction(3, 10**6)),
        ("3 \N{MICRO SIGN}s", D.SECOND, Fraction(3, 10**6)),
        ("3 \N{GREEK SMALL LETTER MU}s", D.SECOND, Fraction(3, 10**6)),
        ("7 ns", D.SECOND, Fraction(7, 10**9)),
        (".5 min", D.SECOND, 30),
        ("120 1/s", D.PER_SECOND, 120),
        ("1.2 k/s", D.PER_SECOND, 1200),
        ("1.5 TFLOP/s", D.FLOP_PER_SECOND, 1_500_000_000_000),
        ("1.5 TFLOPS", D.FLOP_PER_SECOND, 1_500_000_000_000),
        ("12.5 FLOP/B", D.FLOP_PER_BYTE, Fraction(25, 2)),
        ("11.7 M", D.ONE, 11_700_000),
        ("76 %", D.ONE, Fraction(76, 100)),
        ("0.1", D.ONE, Fraction(1, 10)),
        (0.1, D.ONE, Fraction(1, 10)),
    ],
)
def test_a_quantity_is_read_exactly(raw: str | float, dimension: Dimension, amount: object) -> None:
    assert parse_quantity(raw, dimension) == amount


@pytest.mark.parametrize(
    ("raw", "dimension", "parts"),
    [
        ("3.7 GMAC", D.FLOP, ["1 MAC is 2 FLOP", "'7.4 GFLOP'", "'macs'"]),
        ("3.7 gmacs", D.FLOP, ["1 MAC is 2 FLOP", "'7.4 GFLOP'"]),
        ("3.7 GFLOP", D.MAC, ["1 MAC is 2 FLOP", "'1.85 GMAC'", "'flops'"]),
        ("3.7 GFLOPS", D.FLOP, ["is a rate", "'3.7 GFLOP'"]),
        ("3.7 GFLOP/s", D.FLOP, ["is a rate", "'3.7 GFLOP'"]),
        ("3.7 GFLOPS", D.MAC, ["is a rate", "'1.85 GMAC'"]),
        ("3.7 GFLOP", D.FLOP_PER_SECOND, ["is a count", "'3.7 GFLOP/s'"]),
        ("3.7 gflop", D.FLOP, ["'3.7 GFLOP'"]),
        ("3.7 gflops", D.FLOP, ["'3.7 GFLOP'"]),
        ("90 mib", D.BYTE, ["'90 MiB'"]),
        ("90 KB", D.BYTE, ["'90 kB'"]),
        ("45 msec", D.SECOND, ["'45 ms'"]),
    ],
)
def test_a_mistaken_unit_is_explained_with_what_to_write(
    raw: str, dimension: Dimension, parts: list[str]
) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity(raw, dimension)
    assert raw in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_unit_is_answered_with_an_example() -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity("24 MBps", D.FLOP)
    assert str(caught.value) == (
        "cannot read '24 MBps'; write a number and a unit, such as '1.5 GFLOP'"
    )


@pytest.mark.parametrize(
    "raw",
    [
        *("", " ", "GFLOP", "nan", "inf", "-3 GFLOP", "3,7 GFLOP", "3 4", "0x10", "1__0", "9" * 65),
        *(-1, float("nan"), float("inf"), True),
    ],
)
def test_what_is_no_amount_is_refused_in_one_line(raw: str | float) -> None:
    with pytest.raises(QuantityError) as caught:
        parse_quantity(raw, D.FLOP)
    assert "\n" not in str(caught.value)
    # Nothing that the user did not write may be proposed as the number that was meant.
    assert "'3 GFLOP'" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("1e400", "'1e400'"),
        ("1e999 FLOP", "'1e999 FLOP'"),
        ("1000000000001 EFLOP", "'1000000000001 EFLOP'"),
        (10**30 + 1, "beyond 1e+30"),
        (10**401, "'1e401'"),
        (10**5000, "'1e5000'"),
        (1e31, "'1e+31'"),
    ],
    ids=["bare", "unit", "prefix", "edge", "whole", "endless", "float"],
)
def test_what_is_more_than_can_be_counted_is_refused_in_one_line(
    raw: str | float, shown: str
) -> None:
    with pytest.raises(QuantityError, match=r"beyond 1e\+30; write a smaller amount$") as caught:
        parse_quantity(raw, D.FLOP)
    assert shown in str(caught.value)
    assert parse_quantity(10**30, D.FLOP) == 10**30


@pytest.mark.parametrize("raw", ["+1e999 %", 10**400])
def test_a_change_that_is_more_than_can_be_counted_is_refused(raw: str | int) -> None:
    with pytest.raises(QuantityError, match="beyond 1e"):
        parse_change(raw)


@pytest.mark.parametrize(
    "amount",
    [10**400, 10**5000, Fraction(10**5000, 3), Fraction(1, 10**999)],
    ids=["whole", "endless", "fraction", "small"],
)
def test_no_number_is_too_large_or_too_small_to_be_printed(amount: Fraction) -> None:
    exponent = {10**400: "1e382 E", 10**5000: "1e4982 E"}.get(amount, "e")
    assert exponent in format_quantity(amount, D.FLOP)
    assert exponent in format_quantity(-amount, D.FLOP)
    assert len(format_quantity(amount, D.FLOP)) < 20
    assert len({*format_pair(amount, amount * 2, D.FLOP)}) == 2
    assert format_pair(amount, amount + Fraction(1, 10**5000), D.FLOP)
    assert format_change(1, amount + 1).startswith("+")
    assert format_change(amount, 0) == "-100 %"


def test_a_share_that_no_float_holds_is_infinite() -> None:
    assert ratio(3, 4) == 0.75
    assert ratio(10**400, 1) == ratio(-(10**400), -1) == float("inf")
    assert ratio(-(10**400), 1) == float("-inf")


@pytest.mark.parametrize(
    ("raw", "share"),
    [
        ("+5%", Fraction(1, 20)),
        ("5 %", Fraction(1, 20)),
        ("-10%", Fraction(-1, 10)),
        ("0 %", Fraction(0)),
        ("+150 %", Fraction(3, 2)),
        (0.05, Fraction(1, 20)),
        (0, Fraction(0)),
    ],
)
def test_a_change_is_read_as_a_share(raw: str | float, share: Fraction) -> None:
    assert parse_change(raw) == share


@pytest.mark.parametrize("raw", ["0.05", "5", "+5 GFLOP", "-100%", "", 5, -1, True, float("nan")])
def test_a_change_that_could_mean_two_things_is_refused(raw: str | float) -> None:
    with pytest.raises(QuantityError):
        parse_change(raw)


def test_a_percentage_given_as_a_number_is_answered_with_the_percentage() -> None:
    with pytest.raises(QuantityError, match="write '5%'"):
        parse_change(0.05 * 100)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (3_628_146_688, D.FLOP, "3.628 GFLOP"),
        (999, D.FLOP, "999 FLOP"),
        (1000, D.FLOP, "1 kFLOP"),
        (999_960, D.FLOP, "1 MFLOP"),
        (1_814_073_344, D.MAC, "1.814 GMAC"),
        (1023, D.BYTE, "1023 B"),
        (1024, D.BYTE, "1 KiB"),
        (93_952_410, D.BYTE, "89.6 MiB"),
        (0.0452, D.SECOND, "45.2 ms"),
        (90, D.SECOND, "90 s"),
        (9_999, D.ONE, "9999"),
        (10_000, D.ONE, "10 k"),
        (11_689_512, D.ONE, "11.69 M"),
        (0.761, D.ONE, "0.761"),
        (-3.25, D.ONE, "-3.25"),
        (22.125, D.PER_SECOND, "22.12 /s"),
        (Fraction(1, 3), D.FLOP_PER_BYTE, "0.3333 FLOP/B"),
        (2.5e-12, D.ONE, "2.5e-12"),
        (0, D.FLOP, "0 FLOP"),
    ],
)
def test_a_quantity_prints_with_four_digits_and_its_unit(
    value: float, dimension: Dimension, text: str
) -> None:
    assert format_quantity(value, dimension) == text


@given(AMOUNTS, DIMENSIONS)
def test_what_is_printed_reads_back_within_the_rounding(
    value: float | Fraction, dimension: Dimension
) -> None:
    back = parse_quantity(format_quantity(value, dimension), dimension)
    # Four significant digits are off by at most half of the last: 5 in 10 000 of the value.
    assert abs(back - exact(value)) <= exact(value) * Fraction(5, 10_000)


@given(st.integers(min_value=0, max_value=999), DIMENSIONS)
def test_small_integers_print_to_the_last_digit(value: int, dimension: Dimension) -> None:
    assert parse_quantity(format_quantity(value, dimension), dimension) == value


@given(st.integers(min_value=0, max_value=9_999))
def test_counts_of_things_below_ten_thousand_print_as_they_are(value: int) -> None:
    assert format_quantity(value, D.ONE) == str(value)


@given(AMOUNTS, AMOUNTS, DIMENSIONS)
def test_printing_keeps_the_order(
    a: float | Fraction, b: float | Fraction, dimension: Dimension
) -> None:
    less, more = sorted((exact(a), exact(b)))
    assert parse_quantity(format_quantity(less, dimension), dimension) <= parse_quantity(
        format_quantity(more, dimension), dimension
    )


@given(AMOUNTS, st.integers(min_value=1, max_value=10**12), DIMENSIONS)
def test_two_different_values_never_print_alike(
    a: float | Fraction, step: int, dimension: Dimension
) -> None:
    b = exact(a) + Fraction(step, 10**9)
    texts = format_pair(a, b, dimension)
    assume(all(len(text) <= 64 for text in texts))
    assert parse_quantity(texts[0], dimension) < parse_quantity(texts[1], dimension)


@given(AMOUNTS, DIMENSIONS)
def test_equal_values_print_alike(value: float | Fraction, dimension: Dimension) -> None:
    first, second = format_pair(value, exact(value), dimension)
    assert first == second


def test_a_pair_one_operation_apart_shows_the_operation() -> None:
    assert format_pair(3_700_000_000, 3_700_000_001, D.FLOP) == ("3.7 GFLOP", "3.700000001 GFLOP")


@pytest.mark.parametrize(
    ("base", "head", "text"),
    [
        (1_200, 1_310, "+9.2 %"),  # 110 / 1200 = 9.1666... %
        (100, 200, "+100 %"),
        (3, 2, "-33.3 %"),
        (1_000, 1_009, "+0.9 %"),
        (10**9, 10**9 + 3_000, "+0.0003 %"),
        (7, 7, "0 %"),
        (0, 0, "0 %"),
        (0, 4, "new"),
        (4, 0, "-100 %"),
        (0.5, 0.25, "-50 %"),
        (-2, -1, "+50 %"),
    ],
)
def test_a_change_prints_in_percent(base: float, head: float, text: str) -> None:
    assert format_change(base, head) == text


@given(st.integers(min_value=1, max_value=10**18), st.integers(min_value=-(10**6), max_value=10**6))
def test_a_change_prints_as_none_only_where_there_is_none(base: int, step: int) -> None:
    text = format_change(base, base + step)
    assert (text == "0 %") == (step == 0)
    assert text.startswith({-1: "-", 0: "0", 1: "+"}[(step > 0) - (step < 0)])
    assert step == 0 or float(text.removesuffix("%")) != 0


def test_a_float_is_the_decimal_that_was_written() -> None:
    assert exact(0.7) == Fraction(7, 10)
    assert Fraction(0.7) != Fraction(7, 10)
