"""Operators that work by index count the elements that they add or compare."""

from __future__ import annotations

import pytest
import torch

from pytest_flopbudget import measure
from pytest_flopbudget.meters.formulas import indexing

aten = torch.ops.aten
MASK = torch.tensor([True, False, True, True, False])
PLACES = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 2]])


@pytest.mark.parametrize(
    ("call", "flops"),
    [
        # one value for the elements that the indices pick: 4 rows of 5
        (lambda x, i, one: x.index_put((i,), one, accumulate=True), 4 * 5),
        (lambda x, i, one: x.index_put((i, i % 5), one, accumulate=True), 4),
        (lambda x, i, one: x.index_put((i, i % 5), one), 0),
        (lambda x, i, one: aten.index_put(x, [None, i % 5], one, True), 3 * 4),
        (lambda x, i, one: x.index_put((MASK[:3],), torch.ones(2, 5), accumulate=True), 2 * 5),
        (lambda x, i, one: x.scatter_add(0, PLACES, torch.ones(7, 9)), 2 * 4),
        (lambda x, i, one: x.index_add(0, i, torch.ones(4, 5)), 4 * 5),
        (lambda x, i, one: x.index_add(0, i, torch.ones(4, 5), alpha=3), 2 * 4 * 5),
        (lambda x, i, one: torch.isin(x, one), 3 * 5),
        (lambda x, i, one: torch.isin(x, torch.ones(7)), 3 * 5 * 7),
        (lambda x, i, one: torch.equal(x, x), 3 * 5),
    ],
)
def test_indexing_counts_the_elements_that_it_adds_or_compares(call, flops):
    with torch.no_grad():
        i = torch.tensor([0, 0, 2, 1])
        x, one = torch.rand(3, 5), torch.tensor(1.0)
        other = measure(lambda: i % 5).int_ops
        m = measure(call, x, i, one)
    assert m.flops == flops
    assert m.int_ops in (0, other)
    assert m.uncounted == ()


def test_one_value_for_what_a_mask_picks_is_not_counted_and_said():
    with torch.no_grad():
        m = measure(aten.index_put, torch.rand(3), [MASK[:3]], torch.tensor(1.0), True)
    assert [row.operator for row in m.uncounted] == ["aten.index_put.default"]
    assert indexing.index_put(torch.rand(3), [MASK[:3]], torch.ones(2), True, out=None) == 2
