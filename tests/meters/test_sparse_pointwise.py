"""Element-wise operators on sparse tensors count the elements that are stored."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.core.errors import MeasureError

DENSE = torch.zeros(4, 6)
DENSE[0, 1], DENSE[0, 4], DENSE[2, 2], DENSE[3, 5], DENSE[3, 0] = 1.0, 2.0, 3.0, 4.0, 5.0
OTHER = torch.ones(4, 6)
COMPRESSED = ["ignore:Sparse (CSR|CSC|BSR|BSC) tensor support is in beta:UserWarning"]
pytestmark = [pytest.mark.filterwarnings(text) for text in COMPRESSED]

LAYOUTS = {
    "coo": (DENSE.to_sparse, 5),
    "csr": (DENSE.to_sparse_csr, 5),
    "csc": (DENSE.to_sparse_csc, 5),
    # each of the four blocks of 2x3 has something in it
    "bsr": (lambda: DENSE.to_sparse_bsr((2, 3)), 4 * 6),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_function_of_a_sparse_tensor_counts_what_it_stores(layout):
    make, stored = LAYOUTS[layout]
    x = make()
    with FlopCounter() as counter:
        x.sin()
        x.neg()
        x.relu()
        x * 2
        x.frac()
    assert counter.flops == (1 + 1 + 1 + 1 + 2) * stored
    assert counter.uncounted == ()
    with FlopCounter() as counter:
        x.clone().mul_(3)
        x * 3j
    assert counter.flops == (1 + 2) * stored
    assert counter.uncounted == ()


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_arithmetic_of_sparse_and_dense_counts_what_is_stored(layout):
    make, stored = LAYOUTS[layout]
    x = make()
    for call, flops in [
        (lambda: OTHER + x, stored),
        (lambda: torch.add(OTHER, x, alpha=3), 2 * stored),
        (lambda: OTHER.clone().add_(x, alpha=3), 2 * stored),
        (lambda: x + x, stored),
        (lambda: x * OTHER, stored),
        (lambda: x * x, stored),
    ]:
        m = measure(call)
        assert (m.flops, m.uncounted) == (flops, ())


def test_rows_that_are_stored_count_their_elements():
    x = torch.sparse_coo_tensor([[0, 2, 2]], torch.ones(3, 7), (5, 7), check_invariants=True)
    m = measure(lambda: x * 2)
    assert (m.flops, m.uncounted) == (3 * 7, ())
    # Row 2 came twice: one add for each of its elements.
    m = measure(x.coalesce)
    assert (m.flops, m.uncounted) == (7, ())


def test_lists_of_sparse_and_dense_tensors_count_each_by_its_own():
    x = LAYOUTS["coo"][0]()
    m = measure(torch._foreach_mul, [x, OTHER], 2)
    assert (m.flops, m.uncounted) == (5 + 24, ())


def test_division_of_a_sparse_tensor_counts_its_rounding():
    x = LAYOUTS["coo"][0]()
    assert measure(lambda: torch.div(x, 2, rounding_mode="floor")).flops == 2 * 5
    assert measure(lambda: torch.nan_to_num(x)).flops == 3 * 5


def test_a_fake_sparse_tensor_does_not_say_what_it_stores_and_is_refused():
    refused = pytest.raises(MeasureError, match=r"layout torch\.sparse_coo")
    with FakeTensorMode(), refused, FlopCounter():
        torch.rand(4, 6).to_sparse().sin()
