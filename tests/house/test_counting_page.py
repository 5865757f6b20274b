"""What docs/counting.md says has no formula has none, and is listed as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody imports it

from pytest_flopbudget import measure

PAGE = (Path(__file__).parents[2] / "docs" / "counting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+\(.*)` \| ((?:`[^`]+`(?:, )?)+) \|$", PAGE, re.MULTILINE)


def test_the_page_has_rows() -> None:
    assert len(ROWS) >= 2


@pytest.mark.parametrize(("code", "listed"), ROWS)
def test_an_operator_without_a_formula_is_listed(code: str, listed: str) -> None:
    names = {"torch": torch, "nn": nn, "F": F}
    with torch.no_grad():
        measurement = measure(lambda: eval(code, names))  # noqa: S307 - the page's own code
    assert [row.operator for row in measurement.uncounted] == re.findall("`([^`]+)`", listed)
