"""What pytest-benchmark times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_case(benchmark: Any, call: Callable[[], object]) -> None:
    benchmark(call)
