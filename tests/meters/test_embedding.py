"""Embeddings and bags of them, against numbers derived by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters.formulas.registry import formula_for

aten = torch.ops.aten
ROWS, WIDTH = 11, 7
INDICES = torch.tensor([1, 2, 4, 5, 4, 3, 2, 9])
OFFSETS = torch.tensor([0, 3])
ENTRIES, BAGS = 8, 2
CONTEXTS = [torch.no_grad, torch.inference_mode, torch.enable_grad]
# What a bag of each kind takes: one less than its entries, and for a mean a division.
FORWARD = {
    "sum": (ENTRIES - BAGS) * WIDTH,
    "mean": (ENTRIES - BAGS) * WIDTH + BAGS * WIDTH,
    "max": (ENTRIES - BAGS) * WIDTH,
}
# One add for each entry and feature, or for each maximum; a mean divides each bag once.
BACKWARD = {
    "sum": ENTRIES * WIDTH,
    "mean": ENTRIES * WIDTH + BAGS * WIDTH,
    "max": BAGS * WIDTH,
}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("mode", FORWARD)
@pytest.mark.parametrize("padding", [None, 2])
def test_bags_are_added_up_whatever_their_sizes(mode, padding, context):
    with context():
        bag = nn.EmbeddingBag(ROWS, WIDTH, mode=mode, padding_idx=padding)
        for offsets in (OFFSETS, torch.tensor([0, 7])):
            m = measure(bag, INDICES, offsets)
            assert (m.flops, m.macs, m.uncounted) == (FORWARD[mode], 0, ())


def test_research_value_holds():
    m = measure(nn.EmbeddingBag(ROWS, 16, mode="sum"), torch.zeros(8, 5, dtype=torch.long))
    assert m.flops == (8 * 5 - 8) * 16 == 512


def test_last_offset_is_no_bag():
    bag = nn.EmbeddingBag(ROWS, WIDTH, mode="mean", include_last_offset=True)
    m = measure(bag, INDICES, torch.tensor([0, 3, 8]))
    assert (m.flops, m.uncounted) == (FORWARD["mean"], ())


def test_more_bags_than_entries_add_nothing():
    m = measure(nn.EmbeddingBag(ROWS, WIDTH), INDICES[:2], torch.tensor([0, 0, 1, 2]))
    assert m.flops == 4 * WIDTH, "a division for each bag and feature"


@pytest.mark.parametrize("mode", FORWARD)
def test_training_adds_each_entry_into_its_row(mode):
    m = measure(nn.EmbeddingBag(ROWS, WIDTH, mode=mode), INDICES, OFFSETS, train=True)
    loss = BAGS * WIDTH - 1
    assert m.flops == FORWARD[mode] + loss + BACKWARD[mode]
    assert m.uncounted == ()


def test_weights_of_samples_cost_a_multiply_each_and_an_inner_product_back():
    bag = nn.EmbeddingBag(ROWS, WIDTH, mode="sum")
    weights = torch.randn(ENTRIES, requires_grad=True)
    m = measure(bag, INDICES, OFFSETS, weights, train=True)
    flops = {name: counts.flops for name, counts in m.by_operator.items() if counts.flops}
    assert flops == {
        "aten._embedding_bag": FORWARD["sum"] + ENTRIES * WIDTH,
        "aten.sum": BAGS * WIDTH - 1,
        "aten._embedding_bag_backward": BACKWARD["sum"] + ENTRIES * WIDTH,
        "aten._embedding_bag_per_sample_weights_backward": ENTRIES * (2 * WIDTH - 1),
    }
    assert m.uncounted == ()


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_sparse_gradient_of_a_bag_adds_nothing_up(mode):
    bag = nn.EmbeddingBag(ROWS, WIDTH, mode=mode, sparse=True)
    m = measure(bag, INDICES, OFFSETS, train=True)
    divisions = BAGS * WIDTH if mode == "mean" else 0
    assert m.by_operator["aten._embedding_bag_backward"].flops == divisions
    assert bag.weight.grad.is_sparse


def test_frequencies_cost_a_multiply_for_each_entry():
    for layer, args in (
        (nn.EmbeddingBag(ROWS, WIDTH, mode="sum", scale_grad_by_freq=True), (INDICES, OFFSETS)),
        (nn.Embedding(ROWS, WIDTH, scale_grad_by_freq=True), (INDICES,)),
    ):
        m = measure(layer, *args, train=True)
        (backward,) = (c for name, c in m.by_operator.items() if name.endswith("backward"))
        assert backward.flops == 2 * ENTRIES * WIDTH
        assert m.uncounted == ()


def test_look_up_is_free_and_its_gradient_one_add_an_element():
    m = measure(nn.Embedding(ROWS, WIDTH), INDICES, train=True)
    assert m.flops == (ENTRIES * WIDTH - 1) + ENTRIES * WIDTH
    assert m.uncounted == ()


@pytest.mark.parametrize("context", CONTEXTS)
def test_renorm_takes_a_norm_and_a_scale_for_each_entry(context):
    with context():
        for layer in (nn.Embedding(ROWS, WIDTH, max_norm=1.0),):
            m = measure(layer, INDICES)
            norm, scale = 2 * WIDTH, 1 + 2 + WIDTH
            assert (m.flops, m.uncounted) == (ENTRIES * (norm + scale), ())


def test_bag_on_meta_counts_the_same():
    bag = nn.EmbeddingBag(ROWS, WIDTH, mode="mean", device="meta")
    m = measure(bag, INDICES.to("meta"), OFFSETS.to("meta"))
    assert (m.flops, m.uncounted) == (FORWARD["mean"], ())


@pytest.mark.parametrize("mode", FORWARD)
def test_operators_called_directly_count_as_the_layer_does(mode):
    number = list(FORWARD).index(mode)
    table = torch.randn(ROWS, WIDTH)
    for operator in (aten._embedding_bag, aten._embedding_bag_forward_only):
        with FlopCounter() as counter:
            out = operator(table, INDICES, OFFSETS, False, number)
        assert (counter.flops, counter.uncounted) == (FORWARD[mode], ())
    _, offset2bag, bag_size, maximum = aten._embedding_bag(table, INDICES, OFFSETS, False, number)
    if mode == "sum":
        offset2bag = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])
    arguments = (out[0], INDICES, offset2bag, bag_size, maximum, ROWS, False, number, None)
    with FlopCounter() as counter:
        aten._embedding_bag_dense_backward(*arguments)
    assert (counter.flops, counter.uncounted) == (BACKWARD[mode], ())


def test_formula_of_the_dense_gradient_is_that_of_the_whole_one():
    grad = torch.empty(BAGS, WIDTH, device="meta")
    rest = (INDICES, INDICES, OFFSETS, ROWS, False, 1)
    dense = formula_for("aten::_embedding_bag_dense_backward")(grad, INDICES, *rest, grad, out=None)
    whole = formula_for("aten::_embedding_bag_backward")(
        grad, INDICES, OFFSETS, *rest, False, grad, out=None
    )
    assert dense == whole == BACKWARD["mean"] + ENTRIES * WIDTH


def test_functional_bag_counts_as_the_layer():
    m = measure(functional.embedding_bag, INDICES, torch.randn(ROWS, WIDTH), OFFSETS, mode="max")
    assert (m.flops, m.uncounted) == (FORWARD["max"], ())


def test_bag_into_given_tensors_counts_the_same():
    table = torch.randn(ROWS, WIDTH)
    given = [torch.empty(0), *(torch.empty(0, dtype=torch.long) for _ in range(3))]
    names = {f"out{at}": tensor for at, tensor in enumerate(given)}
    with FlopCounter() as counter:
        aten._embedding_bag.out(table, INDICES, OFFSETS, False, 1, **names)
    assert (counter.flops, counter.uncounted) == (FORWARD["mean"], ())
