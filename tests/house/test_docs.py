"""What the documents show of the interface is so."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_flopbudget import LatencyTimer

ROOT = Path(__file__).parents[2]


def test_the_timer_has_the_defaults_that_its_page_shows() -> None:
    page = (ROOT / "docs" / "latency.md").read_text(encoding="utf-8")
    shown = re.search(r"`LatencyTimer\((threads=[^)]*)\)` shows\s+the defaults", page)
    assert shown is not None
    # Written out as the page has it, so that a change of either is seen here.
    assert shown[1] == ("threads=1, confidence=0.95, target=0.02, time_limit_s=2.0, min_rounds=40")
    timer = LatencyTimer(threads=1, confidence=0.95, target=0.02, time_limit_s=2.0, min_rounds=40)
    assert timer == LatencyTimer()
