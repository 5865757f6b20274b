"""Raw results: a line of JSON for each repetition, added to a file that later runs go on with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TypeAlias

from pytest_flopbudget.core.series import Slice, Turn, TurnSeries

Record: TypeAlias = Mapping[str, Any]
Series: TypeAlias = list[TurnSeries]
"""The pairs of one case."""
DIGITS = 9
"""Of a second: a nanosecond, finer than any clock here."""


def add(path: Path, record: Record) -> None:
    """Write one more line, or nothing if it cannot be written as a whole."""
    line = json.dumps(_rounded(record), separators=(",", ":")) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read(path: Path) -> list[Record]:
    """All records; none where there is no file yet."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(series: Series) -> dict[str, Any]:
    """The pairs of one case, as `read_series` reads them."""
    return {
        "fields": [field.name for field in fields(Slice)],
        "is_steady": [pair.is_steady for pair in series],
        "turns": [_numbers(pair.turns) for pair in series],
        "shared_turns": [_numbers(pair.shared_turns) for pair in series],
    }


def _numbers(turns: Iterable[Turn]) -> list[Any]:
    return [[list(astuple(turn.base)), list(astuple(turn.head))] for turn in turns]


def read_series(test: Mapping[str, Any]) -> Series:
    """The pairs of one case, as they were recorded."""

    def piece(numbers: list[float]) -> Slice:
        return Slice(**dict(zip(test["fields"], numbers, strict=True)))

    def read_turns(numbers: list[Any]) -> tuple[Turn, ...]:
        return tuple(Turn(base=piece(base), head=piece(head)) for base, head in numbers)

    pairs = zip(test["turns"], test["shared_turns"], test["is_steady"], strict=True)
    return [
        TurnSeries(turns=read_turns(turns), shared_turns=read_turns(shared), is_steady=is_steady)
        for turns, shared, is_steady in pairs
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
