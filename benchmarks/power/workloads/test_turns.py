"""What `flopbudget ab` times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_case(flopbudget: Any, call: Callable[[], object]) -> None:
    flopbudget(call)
