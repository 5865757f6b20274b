"""Quantities as people write and read them: exact in, rounded only when printed."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from pytest_flopbudget.core.errors import QuantityError, nearest
from pytest_flopbudget.core.metrics import Dimension

Number = int | float | Fraction

LARGEST: Final = 10**30
"""In the base unit: the most that is counted or can be bounded. Training on all that was ever
written takes less than 1e27 FLOP."""

_LONGEST: Final = 64
"""Characters. No quantity needs more, and exact arithmetic on endless digits takes for ever."""
_LONGEST_PAIR: Final = 1000
"""Digits, where two amounts are told apart."""
_MOST_DIGITS: Final = 40
"""Before the decimal point, beyond which they hide the number."""

_NUMBER: Final = re.compile(
    r"(?P<sign>[+-]?)"
    r"(?P<number>(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)"
    r"(?:[eE][+-]?[0-9]{1,3})?)"
    # No digit, so that what is wrong with 3,7 is never taken for a wrong unit.
    r"\s*(?P<unit>(?:1?/s|%|[^\W\d_][^\s,\d]*)?)"
)

_SI: Final = {
    "": Fraction(1),
    **{prefix: Fraction(1000) ** power for power, prefix in enumerate("kMGTPE", start=1)},
}
_IEC: Final = {f"{p}i": Fraction(1024) ** power for power, p in enumerate("KMGTPE", start=1)}
_BELOW_ONE: Final = {
    "": Fraction(1),
    "m": Fraction(1, 10**3),
    "u": Fraction(1, 10**6),
    "\N{MICRO SIGN}": Fraction(1, 10**6),
    "\N{GREEK SMALL LETTER MU}": Fraction(1, 10**6),
    "n": Fraction(1, 10**9),
}

_FEWEST_ABBREVIATED: Final = 10_000
"""Counts of things, such as parameters, are printed to the last digit below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spelling:
    """How the quantities of one dimension are written."""

    units: tuple[str, ...]
    """The first is the one that is printed; all take the prefixes."""
    prefixes: Mapping[str, Fraction]
    printed: tuple[str, ...]
    """The prefixes that are printed, smallest first."""
    example: str
    others: Mapping[str, Fraction] = field(default_factory=dict)
    """Units that take no prefix."""


_DECIMAL: Final = tuple(_SI)
_SPELLINGS: Final = {
    Dimension.FLOP: _Spelling(
        units=("FLOP", "FLOPs"), prefixes=_SI, printed=_DECIMAL, example="1.5 GFLOP"
    ),
    Dimension.MAC: _Spelling(
        units=("MAC", "MACs"), prefixes=_SI, printed=_DECIMAL, example="1.8 GMAC"
    ),
    Dimension.OP: _Spelling(units=("OP", "OPs"), prefixes=_SI, printed=_DECIMAL, example="1.5 GOP"),
    Dimension.BYTE: _Spelling(
        units=("B",), prefixes=_SI | _IEC, printed=("", *_IEC), example="90 MiB"
    ),
    Dimension.SECOND: _Spelling(
        units=("s",),
        prefixes=_BELOW_ONE,
        printed=("n", "\N{MICRO SIGN}", "m", ""),
        example="45 ms",
        others={"min": Fraction(60)},
    ),
    Dimension.PER_SECOND: _Spelling(
        units=("/s",),
        prefixes=_SI,
        printed=_DECIMAL,
        example="120 /s",
        others={"1/s": Fraction(1)},
    ),
    Dimension.FLOP_PER_SECOND: _Spelling(
        units=("FLOP/s", "FLOPs/s", "FLOPS"),
        prefixes=_SI,
        printed=_DECIMAL,
        example="1.5 GFLOP/s",
    ),
    Dimension.FLOP_PER_BYTE: _Spelling(
        units=("FLOP/B",), prefixes=_SI, printed=_DECIMAL, example="12 FLOP/B"
    ),
    Dimension.ONE: _Spelling(
        units=("",),
        prefixes=_SI,
        printed=_DECIMAL,
        example="11.7 M",
        others={"%": Fraction(1, 100)},
    ),
}


def parse_quantity(raw: str | float, dimension: Dimension) -> Fraction:
    """The exact amount, in the dimension's base unit.

    A number is taken in the base unit. A text has a number and a unit (`3.7 GFLOP`),
    or, as the metric fixes the unit, a prefix alone (`3.7G`) or none. Raises
    QuantityError for anything else, saying what to write instead.
    """
    if not isinstance(raw, str):
        return bounded(raw, _not_negative(raw, exact(raw), dimension))
    match = _read(raw)
    if match is None:
        raise _unreadable(raw, dimension)
    amount = Fraction(match["number"].replace("_", ""))
    unit = match["unit"]
    factor = _units(dimension).get(unit)
    if factor is None:
        raise _wrong_unit(raw, match["number"], unit, dimension)
    signed = -amount if match["sign"] == "-" else amount
    return bounded(raw, _not_negative(raw, signed, dimension) * factor)


def bounded(raw: object, amount: Fraction) -> Fraction:
    """The amount, which was written as `raw`. Raises QuantityError beyond what is counted."""
    if abs(amount) > LARGEST:
        raise QuantityError(f"{_quoted(raw)} is beyond {LARGEST:.0e}; write a smaller amount")
    return amount


def parse_change(raw: str | float) -> Fraction:
    """The allowed change as a share: 1/20 for `"+5%"`, `"5 %"` and 0.05.

    Raises QuantityError for a text with no percent sign, for a number of more
    than one (is 5 five percent, or five hundred?), and for a loss of everything.
    """
    if isinstance(raw, str):
        match = _read(raw)
        if match is None or match["unit"] != "%":
            raise QuantityError(f"cannot read {_quoted(raw)}; write a change, such as '+5%'")
        share = Fraction(match["number"].replace("_", "")) / 100
        share = -share if match["sign"] == "-" else share
    else:
        share = bounded(raw, exact(raw))
        if abs(share) > 1:
            percent = format_quantity(share, Dimension.ONE)
            raise QuantityError(f"{raw} is a share, not a percentage; write '{percent}%'")
    bounded(raw, share)
    if share <= -1:
        raise QuantityError(f"{_quoted(raw)} would leave nothing; write a change, such as '+5%'")
    return share


def exact(value: Number) -> Fraction:
    """The number as a fraction; a float is the shortest decimal that names it.

    So 0.7 is seven tenths, as it was written, and not the binary number nearest
    to it. Raises QuantityError for what is not a finite number.
    """
    # Only a float can be something else than finite, and isfinite takes no larger number.
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise QuantityError(f"{value} is no number")
    return Fraction(repr(float(value))) if isinstance(value, float) else Fraction(value)


def ratio(a: Number, b: Number) -> float:
    """The first as a multiple of the second, which is not zero; infinite where no float is it."""
    try:
        return float(exact(a) / exact(b))
    except OverflowError:
        return math.inf if (exact(a) > 0) == (exact(b) > 0) else -math.inf


def format_quantity(value: Number, dimension: Dimension, digits: int = 4) -> str:
    """The amount with `digits` significant digits and a unit, such as `3.628 GFLOP`.

    Bytes are printed in powers of 1024, and things that are counted to the last
    digit below 10 000. The text can be parsed again.
    """
    amount = exact(value)
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    scales = _scales(dimension)
    at = max((n for n, scale in enumerate(scales) if amount >= scale.least), default=0)
    text, rounded = _rounded(amount / scales[at].factor, digits)
    # Rounding may reach the next unit: 999.96 MFLOP are 1 GFLOP, not 1000 MFLOP.
    if at + 1 < len(scales) and rounded * scales[at].factor >= scales[at + 1].least:
        at += 1
        text, _ = _rounded(amount / scales[at].factor, digits)
    return f"{sign}{text} {scales[at].unit}".rstrip()


def format_pair(a: Number, b: Number, dimension: Dimension) -> tuple[str, str]:
    """Both amounts, with so many digits that different ones never print alike.

    At most a thousand digits, which numbers that a report can hold never need.
    """
    digits = 4
    while True:
        texts = format_quantity(a, dimension, digits), format_quantity(b, dimension, digits)
        if texts[0] != texts[1] or exact(a) == exact(b) or digits == _LONGEST_PAIR:
            return texts
        digits += 1


def format_change(base: Number, head: Number) -> str:
    """The change in percent, such as `+9.2 %`; `0 %` only where nothing changed.

    A change from nothing to something is `new`.
    """
    before, after = exact(base), exact(head)
    if before == after:
        return "0 %"
    if before == 0:
        return "new"
    percent = (after - before) / abs(before) * 100
    # One decimal, or two digits where that would print a small change as none.
    size = abs(percent)
    is_plain = 1 <= size < LARGEST
    text = _decimal(size, 1) if is_plain else _rounded(size, 2)[0]
    return f"{'+' if percent > 0 else '-'}{text} %"


@dataclass(frozen=True, slots=True)
class _Scale:
    """One printed unit: its size, and the least amount that is printed in it."""

    unit: str
    factor: Fraction
    least: Fraction


@functools.cache
def _scales(dimension: Dimension) -> tuple[_Scale, ...]:
    spelling = _SPELLINGS[dimension]
    scales = []
    for prefix in spelling.printed:
        factor = spelling.prefixes[prefix]
        is_first_step = dimension is Dimension.ONE and prefix == "k"
        least = Fraction(_FEWEST_ABBREVIATED) if is_first_step else factor
        scales.append(_Scale(f"{prefix}{spelling.units[0]}", factor, least))
    return tuple(scales)


@functools.cache
def _units(dimension: Dimension) -> Mapping[str, Fraction]:
    """Every accepted spelling, and its size in the base unit."""
    spelling = _SPELLINGS[dimension]
    return {**spelling.prefixes, **_whole_units(dimension)}


@functools.cache
def _whole_units(dimension: Dimension) -> Mapping[str, Fraction]:
    """The accepted spellings that say what they count, so without the bare prefixes."""
    spelling = _SPELLINGS[dimension]
    prefixed = {
        f"{prefix}{unit}": factor
        for unit in spelling.units
        for prefix, factor in spelling.prefixes.items()
    }
    return {**prefixed, **spelling.others}


def _rounded(amount: Fraction, digits: int) -> tuple[str, Fraction]:
    """The amount, not negative, at so many significant digits: as text, and as a number.

    No digit before the decimal point is ever rounded away, of such as can be taken in.
    """
    if amount == 0:
        return "0", amount
    exponent = _exponent(amount)
    # As Python itself does, before the zeros hide the number.
    if exponent < -6 or exponent >= _MOST_DIGITS:  # noqa: PLR2004 - the reason stands above
        mantissa, rounded = _rounded(amount / Fraction(10) ** exponent, digits)
        return f"{mantissa}e{exponent}", rounded * Fraction(10) ** exponent
    decimals = max(0, digits - 1 - exponent)
    return _decimal(amount, decimals), Fraction(round(amount * 10**decimals), 10**decimals)


def _exponent(amount: Fraction) -> int:
    """The power of ten of the first digit of a positive amount."""
    # By the bits: Python writes no whole number of more than 4300 digits.
    bits = amount.numerator.bit_length() - amount.denominator.bit_length()
    guess = math.floor(bits * math.log10(2))
    while amount < Fraction(10) ** guess:
        guess -= 1
    while amount >= Fraction(10) ** (guess + 1):
        guess += 1
    return guess


def _decimal(amount: Fraction, decimals: int) -> str:
    """The amount rounded to so many decimals, without zeros at the end."""
    digits = str(round(amount * 10**decimals)).rjust(decimals + 1, "0")
    if not decimals:
        return digits
    return f"{digits[:-decimals]}.{digits[-decimals:]}".rstrip("0").rstrip(".")


def _read(raw: str) -> re.Match[str] | None:
    text = raw.strip()
    return _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None


def _quoted(raw: object) -> str:
    if isinstance(raw, int) and abs(raw) > LARGEST:
        # Python writes no whole number of more than 4300 digits.
        raw = ("-" if raw < 0 else "") + _rounded(abs(Fraction(raw)), 4)[0]
    text = str(raw)
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _not_negative(raw: object, amount: Fraction, dimension: Dimension) -> Fraction:
    if amount < 0:
        raise QuantityError(
            f"{_quoted(raw)} is less than nothing; write a number of zero or more, "
            f"such as '{_SPELLINGS[dimension].example}'"
        )
    return amount


def _unreadable(raw: str, dimension: Dimension) -> QuantityError:
    example = _SPELLINGS[dimension].example
    kind = "a number" if dimension is Dimension.ONE else "a number and a unit"
    return QuantityError(f"cannot read {_quoted(raw)}; write {kind}, such as '{example}'")


def _wrong_unit(raw: str, number: str, unit: str, wanted: Dimension) -> QuantityError:
    """What is wrong with the unit: misspelt, of another dimension, or unknown."""
    spelling = _SPELLINGS[wanted]
    known = [f"{prefix}{spelling.units[0]}" for prefix in spelling.prefixes] + [*spelling.others]
    amount = Fraction(number.replace("_", ""))
    # GFLOPS must be found as a rate before it is taken for a misspelt GFLOPs.
    given = _counted_by(unit, wanted)
    if given is None:
        folded = unit.lower().removesuffix("s") if unit.lower() != "s" else "s"
        same = [name for name in known if name.lower() in (folded, unit.lower())]
        given = None if same else _counted_by(unit, wanted, is_case_kept=False)
        near = same[0] if same else nearest(unit, known)
        if given is None:
            fault = f"cannot read {_quoted(raw)}; write '{number} {near}'"
            return QuantityError(fault) if near else _unreadable(raw, wanted)
    return _wrong_dimension(raw, amount * given[1], given[0], wanted)


def _counted_by(
    unit: str, wanted: Dimension, *, is_case_kept: bool = True
) -> tuple[Dimension, Fraction] | None:
    """The other dimension that has this unit, and the unit's size there."""
    for given in Dimension:
        for name, factor in _whole_units(given).items():
            is_same = name == unit if is_case_kept else name.lower() == unit.lower()
            if given is not wanted and is_same:
                return given, factor
    return None


def _wrong_dimension(
    raw: str, amount: Fraction, given: Dimension, wanted: Dimension
) -> QuantityError:
    """Why a unit of another dimension is no mere spelling mistake, and what to write."""
    counts = (Dimension.FLOP, Dimension.MAC, Dimension.OP)
    if given is Dimension.MAC and wanted is Dimension.FLOP:
        write, metric = format_quantity(amount * 2, wanted, _LONGEST), "macs"
        why = f"counts MACs, and 1 MAC is 2 FLOP; write '{write}', or bound '{metric}' instead"
    elif given is Dimension.FLOP and wanted is Dimension.MAC:
        write, metric = format_quantity(amount / 2, wanted, _LONGEST), "flops"
        why = f"counts FLOP, and 1 MAC is 2 FLOP; write '{write}', or bound '{metric}' instead"
    elif given is Dimension.FLOP_PER_SECOND and wanted in counts:
        half = Fraction(1, 2) if wanted is Dimension.MAC else Fraction(1)
        write = format_quantity(amount * half, wanted, _LONGEST)
        why = f"is a rate (FLOPS is FLOP/s), and this is a count; write '{write}'"
    elif given is Dimension.FLOP and wanted is Dimension.FLOP_PER_SECOND:
        write = format_quantity(amount, wanted, _LONGEST)
        why = f"is a count, and this is a rate; write '{write}'"
    else:
        return _unreadable(raw, wanted)
    return QuantityError(f"{_quoted(raw)} {why}")
