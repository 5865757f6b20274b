"""torch's own sample inputs of every operator: nothing uncounted, nothing changed."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch.utils._pytree import tree_leaves

from pytest_flopbudget import FlopCounter

DEGREE_IS_DATA = {
    "special.hermite_polynomial_h",
    "special.hermite_polynomial_he",
    "special.laguerre_polynomial_l",
    "special.legendre_polynomial_p",
}
"""Polynomials whose degree is in a tensor: the length of their recurrence is data."""

UNINITIALISED = {"empty", "empty_like", "empty_permuted", "empty_strided"} | {
    "new_empty",
    "new_empty_strided",
}

NEVER_THE_SAME = {"linalg.lstsq", "linalg.lstsq.grad_oriented"}
"""Its result differs from call to call without a counter too."""

VECTORS_TOO = {
    "linalg.cond",
    "linalg.eigvalsh",
    "linalg.matrix_norm",
    "linalg.pinv",
    "linalg.pinv.singular",
    "linalg.svdvals",
    "norm.nuc",
    "pinverse",
}
"""torch takes another road under any dispatch mode, and its last digits may differ."""


def _samples():
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        for dtype in (torch.float32, torch.complex64, torch.int64):
            if dtype in op.supported_dtypes("cpu"):
                has_gradient = dtype.is_floating_point and op.supports_autograd
                for sample in list(op.sample_inputs("cpu", dtype, requires_grad=has_gradient))[:6]:
                    yield op, sample


def _run(op, sample):
    torch.manual_seed(0)
    return op(sample.input, *sample.args, **sample.kwargs)


def _run_backward(result):
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.Tensor) and leaf.requires_grad and leaf.is_floating_point():
            if leaf.layout is torch.strided:
                leaf.sum().backward()
            return


def _arithmetic(counter):
    rows = [(row.operator, row.calls) for row in counter.measurement.operators if row.calls]
    return counter.flops, counter.macs, counter.int_ops, counter.uncounted, rows


def _is_same(got, want):
    try:
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    except AssertionError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_sample_of_every_operator_counts_and_gives_what_it_gives_without_the_counter():
    pytest.importorskip("expecttest", reason="torch's samples need it")
    uncounted, changed, differing, failed = defaultdict(set), set(), set(), {}
    samples = 0
    for op, sample in _samples():
        try:
            want = _run(op, sample)
        except (RuntimeError, NotImplementedError, AssertionError):
            continue  # some samples want what this build has not
        samples += 1
        try:
            with FlopCounter() as counter:
                got = _run(op, sample)
        except Exception as error:  # the test is that there is none
            failed[op.full_name] = error
            continue
        uncounted[op.full_name].update(row.operator for row in counter.uncounted)
        if not _is_same(got, want):
            changed.add(op.full_name)
        with FlopCounter(memory=False) as alone:
            _run(op, sample)
        if _arithmetic(alone) != _arithmetic(counter):
            differing.add(op.full_name)
        with FlopCounter() as counter:
            try:
                _run_backward(_run(op, sample))
            except RuntimeError:
                continue  # not every sample can be differentiated
        uncounted[op.full_name].update(row.operator for row in counter.uncounted)
    assert samples > 5000, "the operators were tried at all"
    assert failed == {}
    assert differing == set()
    assert {name for name, operators in uncounted.items() if operators} == DEGREE_IS_DATA
    assert changed <= UNINITIALISED | NEVER_THE_SAME | VECTORS_TOO
