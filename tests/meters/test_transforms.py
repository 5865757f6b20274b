"""Compilers, higher-order operators, nested tensors and custom operators: counted as they run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._higher_order_ops import associative_scan, scan, while_loop
from torch._higher_order_ops.map import map as higher_order_map
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from pytest_flopbudget import FlopCounter, measure, register_formula

A, B = torch.randn(32, 48), torch.randn(48, 64)
ONE = 32 * 48 * 64
"""Multiply-accumulates of A times B."""
SQUARE = 32**3


def _layers():
    return nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 64))


def _facts(m):
    return (m.macs, m.flops, m.ops, m.bytes_moved, m.peak_memory, m.uncounted)


@pytest.mark.parametrize("is_whole", [False, True], ids=["parts", "fullgraph"])
@pytest.mark.parametrize("is_training", [False, True])
def test_compiled_module_counts_as_written_cold_and_warm(is_whole, is_training):
    plain = measure(_layers(), A, train=is_training)
    compiled = torch.compile(_layers(), fullgraph=is_whole, backend="aot_eager")
    cold = measure(compiled, A, train=is_training)
    compiled.zero_grad()
    compiled(A)  # compiles now
    warm = measure(compiled, A, train=is_training)
    assert _facts(plain) == _facts(cold) == _facts(warm)
    assert plain.macs == (32 * 48 * 64 * (1 + is_training) + 32 * 64 * 64 * (1 + 2 * is_training))
    assert set(warm.by_module) == set(plain.by_module)


def test_compiling_works_again_after_the_region():
    calls = []

    def backend(graph, _inputs):
        calls.append(graph)
        return graph

    compiled = torch.compile(lambda a, b: a @ b, backend=backend)
    m = measure(compiled, A, B)
    assert (m.macs, calls) == (ONE, [])
    compiled(A, B)
    assert len(calls) == 1


def _cond(x):
    return torch.cond(torch.tensor(True), lambda x: x @ x, lambda x: x @ x @ x @ x, (x,))


def test_taken_branch_of_cond_counts_alone():
    x = torch.randn(32, 32)
    for _ in range(2):
        m = measure(_cond, x)
        assert (m.macs, m.uncounted) == (SQUARE, ())
    both = measure(lambda: (x @ x, _cond(x)))
    assert both.macs == 2 * SQUARE


def test_backward_of_cond_counts_what_it_runs():
    x = torch.randn(32, 32, requires_grad=True)
    first, second = (measure(_cond, x, train=True) for _ in range(2))
    # The traced backward runs the branch again, and then one product for each factor.
    assert first.macs == second.macs == (1 + 1 + 2) * SQUARE


def test_loops_count_every_step():
    x, xs, weight = torch.randn(32, 32), torch.randn(3, 4, 8), torch.randn(8, 16)
    m = measure(while_loop, lambda i, _: i < 3, lambda i, x: (i + 1, x @ x), (torch.tensor(0), x))
    assert (m.macs, m.uncounted) == (3 * SQUARE, ())
    m = measure(higher_order_map, torch.mm, xs, weight)
    assert (m.macs, m.uncounted) == (3 * 4 * 8 * 16, ())
    m = measure(scan, lambda carry, row: (carry @ x, row.clone()), x, torch.randn(3, 4))
    assert (m.macs, m.uncounted) == (3 * SQUARE, ())


def test_associative_scan_counts_its_tree():
    m = measure(associative_scan, torch.add, torch.randn(8, 5), 0, combine_mode="generic")
    # Pairs 4, 2, 1 on the way up; on the way down 1 and 3 that start between: 11 rows.
    assert (m.flops, m.uncounted) == (11 * 5, ())
    assert torch.allclose(m.output, m.output)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_runs_and_counts_its_products():
    q, k, v = torch.randn(1, 2, 32, 16), torch.randn(1, 2, 24, 16), torch.randn(1, 2, 24, 12)
    expected = flex_attention(q, k, v)
    m = measure(flex_attention, q, k, v)
    assert m.macs == 2 * 32 * 24 * (16 + 12)
    assert torch.equal(m.output, expected)
    shifted = measure(flex_attention, q, k, v, score_mod=lambda s, b, h, i, j: s + (i - j))
    # One add for each of the scores; the difference of the positions is integer work.
    assert shifted.macs == m.macs
    assert shifted.flops - m.flops == 2 * 32 * 24
    assert shifted.int_ops - m.int_ops == 32 * 24


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_script_trace_and_export_count_as_written():
    model = _layers().eval()
    want = measure(model, A)
    scripted = measure(torch.jit.script(model), A)
    traced = measure(torch.jit.trace(model, A), A)
    exported = measure(torch.export.export(model, (A,)).module(), A)
    for m in (scripted, traced, exported):
        assert (m.macs, m.flops, m.uncounted) == (want.macs, want.flops, ())


def test_tracing_is_no_work():
    m = measure(torch.export.export, _layers().eval(), (A,))
    assert (m.macs, m.flops) == (0, 0)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
def test_nested_tensor_costs_what_its_components_cost(layout):
    parts = [torch.randn(10, 48), torch.randn(22, 48)]
    nested = torch.nested.nested_tensor(parts, layout=layout)
    weight = B.t().contiguous()
    m = measure(lambda: torch.relu(functional.linear(nested, weight)))
    assert (m.macs, m.flops, m.uncounted) == (ONE, 2 * ONE + 32 * 64, ())
    assert m.output.is_nested
    # The rows of both, the weight and the result; the relu reads and writes that again.
    assert m.bytes_moved == 4 * (32 * 48 + 48 * 64 + 3 * 32 * 64)


@torch.library.custom_op("flopbudget_test::product", mutates_args=())
def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b


@_product.register_fake
def _(a, b):
    return a.new_empty(a.shape[0], b.shape[1])


_product.register_autograd(
    lambda ctx, grad: (grad @ ctx.saved_tensors[1].t(), ctx.saved_tensors[0].t() @ grad),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def test_body_of_a_custom_operator_is_looked_into():
    m = measure(_product, A, B)
    assert (m.macs, m.flops, m.uncounted) == (ONE, 2 * ONE, ())
    assert torch.equal(m.output, A @ B)
    assert m.by_operator["aten.mm"].macs == ONE


def test_backward_of_a_custom_operator_counts():
    a, b = A.clone().requires_grad_(), B.clone().requires_grad_()
    m = measure(_product, a, b, train=True)
    assert (m.macs, m.uncounted) == (3 * ONE, ())
    assert torch.allclose(a.grad, torch.ones(32, 64) @ B.t())


def test_custom_operator_that_writes_its_argument_does_so_under_the_counter():
    @torch.library.custom_op("flopbudget_test::double", mutates_args=("x",))
    def double(x: torch.Tensor) -> None:
        x.mul_(2)

    x = torch.ones(5)
    m = measure(double, x)
    assert (m.flops, m.uncounted) == (5, ())
    assert x.tolist() == [2.0] * 5


def test_library_kernel_in_python_is_looked_into():
    library = torch.library.Library("flopbudget_test_library", "DEF")
    library.define("mm(Tensor a, Tensor b) -> Tensor")
    library.impl("mm", torch.mm, "CPU")
    m = measure(torch.ops.flopbudget_test_library.mm, A, B)
    assert (m.macs, m.uncounted) == (ONE, ())


def test_custom_operator_whose_work_is_not_seen_is_reported():
    @torch.library.custom_op("flopbudget_test::in_numpy", mutates_args=())
    def in_numpy(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() @ x.numpy())

    m = measure(in_numpy, torch.randn(3, 3))
    assert [(u.operator, u.calls) for u in m.uncounted] == [("flopbudget_test.in_numpy.default", 1)]
    # It ran, read 9 floats and wrote 9: no zero, though nothing inside was torch's.
    assert (m.ops, m.bytes_moved, m.activation_memory) == (1, 2 * 9 * 4, 9 * 4)
    register_formula("flopbudget_test::in_numpy", lambda x, *, out: 2 * x.numel() * x.shape[0])
    m = measure(in_numpy, torch.randn(3, 3))
    assert (m.flops, m.uncounted) == (54, ())


@pytest.mark.parametrize(
    ("traced", "runs"),
    [
        pytest.param(lambda n, x: torch.jit.trace(n, x, check_trace=False), 1, id="trace"),
        pytest.param(lambda n, x: make_fx(n)(x), 1, id="make_fx"),
        pytest.param(lambda n, x: torch.export.export(n, (x,)), 0, id="export"),
        pytest.param(lambda n, x: torch.jit.script(n), 0, id="script"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_tracing_counts_as_often_as_it_runs(traced, runs):
    model, x = nn.Linear(3, 4), torch.rand(2, 3)
    with FlopCounter() as counter:
        traced(model, x)
    assert counter.macs == runs * 2 * 3 * 4


@pytest.mark.parametrize("strict", [False, True])
def test_exporting_is_no_work(strict):
    torch.export.export(_layers(), (A,), strict=strict)  # the first starts a thread of torch's own
    with FlopCounter() as counter:
        exported = torch.export.export(_layers(), (A,), strict=strict)
    assert (counter.flops, counter.uncounted) == (0, ())
    with FlopCounter() as counter:
        exported.module()(A)
    assert counter.macs == 32 * 48 * 64 + 32 * 64 * 64


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("strict", [False, True])
def test_exporting_a_branch_is_as_without_a_counter(strict, memory):
    class Branches(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x @ x, lambda x: x + 1, (x,))

    square = torch.ones(4, 4)
    torch.export.export(Branches(), (square,), strict=strict)  # the first starts a thread
    with FlopCounter(memory=memory) as counter:
        exported = torch.export.export(Branches(), (square,), strict=strict)
    assert (counter.macs, counter.uncounted) == (0, ())
    for x, result in ((square, square @ square), (-square, 1 - square)):
        assert torch.equal(exported.module()(x), result)


@pytest.fixture
def alone_in_its_group():
    from torch import distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=1, store=FakeStore())
    yield distributed.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.mark.parametrize("memory", [True, False])
def test_what_a_spread_tensors_shapes_are_found_by_is_no_work(memory, alone_in_its_group):
    from torch.distributed.tensor import DTensor, Replicate
    from torch.distributed.tensor._sharding_prop import ShardingPropagator

    a, b = (DTensor.from_local(t, alone_in_its_group, [Replicate()]) for t in (A, B))
    before = vars(ShardingPropagator)["_propagate_tensor_meta_non_cached"]
    for _ in range(2):  # torch calls the operator on fake tensors when it meets it first
        with FlopCounter(memory=memory) as counter:
            a @ b
        assert (counter.macs, counter.uncounted) == (ONE, ())
        if memory:
            assert counter.activation_memory == 32 * 64 * 4
    assert vars(ShardingPropagator)["_propagate_tensor_meta_non_cached"] is before
