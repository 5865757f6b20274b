"""Distances between rows against the definitions of their norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch._decomp import decomposition_table

from pytest_flopbudget import FlopCounter, measure

aten = torch.ops.aten
MODES = (torch.no_grad, torch.inference_mode, torch.enable_grad)
P, R, C = 6, 5, 4


def sets():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(P, C, generator=generator), torch.randn(R, C, generator=generator)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("p", "pair"),
    [
        # difference, comparison; adds
        (0.0, 2 * C + C - 1),
        # difference, absolute value; adds
        (1.0, 2 * C + C - 1),
        # difference, square; adds, root
        (2.0, 2 * C + C),
        # difference, absolute value; comparisons
        (math.inf, 2 * C + C - 1),
        # difference, absolute value, power; adds, root
        (3.0, 3 * C + C),
        (1.5, 3 * C + C),
    ],
)
def test_distances_count_the_definition_of_their_norm(p, pair, mode):
    x1, x2 = sets()
    with mode():
        m = measure(torch.cdist, x1, x2, p)
        own = measure(torch.pdist, x1, p)
    assert (m.flops, m.macs, m.uncounted) == (P * R * pair, 0, ())
    assert (own.flops, own.uncounted) == (P * (P - 1) // 2 * pair, ())
    batch = measure(torch.cdist, x1.expand(3, P, C), x2, p)
    assert batch.flops == 3 * P * R * pair


@pytest.mark.parametrize(
    ("p", "column", "pair"),
    [(0.0, 0, 0), (1.0, 3, 0), (2.0, 3, 1), (math.inf, 6, 0), (1.5, 7, 2), (3.0, 6, 2)],
)
def test_the_gradient_of_distances_counts_each_pair_and_adds_them_up(p, column, pair):
    x1, x2 = sets()
    distances = torch.cdist(x1, x2, p)
    m = measure(aten._cdist_backward.default, torch.ones(P, R), x1, x2, p, distances)
    adds = P * (R - 1) * C if p else 0
    assert (m.flops, m.uncounted) == (P * R * (column * C + pair) + adds, ())
    pairs = P * (P - 1) // 2
    own = torch.pdist(x1, p)
    m = measure(aten._pdist_backward.default, torch.ones(pairs), x1, p, own)
    adds = P * (P - 2) * C if p else 0  # each row is in P - 1 pairs
    assert (m.flops, m.uncounted) == (pairs * (column * C + pair) + adds, ())


def test_many_rows_take_a_matrix_product():
    x1, x2 = torch.randn(30, 16), torch.randn(40, 16)
    for mode in MODES:
        with mode():
            m = measure(torch.cdist, x1, x2)
        # [30, 18] times [18, 40]: each row with its length and a one beside it.
        assert 2 * m.macs == 2 * 30 * 18 * 40 == 43_200
        lengths = (30 + 40) * (2 * 16 - 1)
        assert m.flops == 43_200 + lengths + 30 * 16 + 2 * 30 * 40
        assert m.uncounted == ()
    inside = measure(aten._cdist_forward.default, x1, x2, 2.0, None)
    assert inside.flops == m.flops
    told = measure(torch.cdist, x1, x2, compute_mode="donot_use_mm_for_euclid_dist")
    assert (told.macs, told.flops) == (0, 30 * 40 * 3 * 16)


def test_distances_by_a_product_count_what_their_decomposition_counts():
    args = (torch.randn(3, 30, 16), torch.randn(3, 40, 16))
    with FlopCounter() as fused:
        aten._euclidean_dist.default(*args)
    with FlopCounter() as decomposed:
        decomposition_table[aten._euclidean_dist.default](*args)
    assert fused.flops == decomposed.flops > 0
    assert fused.macs == decomposed.macs
    assert fused.uncounted == decomposed.uncounted == ()


@pytest.mark.parametrize("rows", [5, 40])
def test_distances_are_counted_forward_and_backward(rows):
    x1 = torch.randn(rows, 16, requires_grad=True)
    x2 = torch.randn(rows + 1, 16, requires_grad=True)
    m = measure(torch.cdist, x1, x2, train=True)
    assert m.uncounted == ()
    # By a product: one forward, and one for each gradient without the two extra terms.
    products = rows * (rows + 1) * (18 + 16 + 16) if rows > 25 else 0
    assert m.macs == products


def test_no_columns_are_no_work():
    m = measure(torch.cdist, torch.ones(30, 0), torch.ones(40, 0))
    assert (m.flops, m.uncounted) == (0, ())
    assert measure(torch.cdist, torch.ones(0, 3), torch.ones(4, 3)).flops == 0
