"""Compilers, export, control flow that they know, and custom operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .programs import gradients, program, small_model


@program
def scripted_and_frozen() -> Any:
    model = small_model().eval()
    x = torch.randn(4, 5)
    scripted = torch.jit.script(nn.Sequential(nn.Linear(5, 2), nn.Tanh()))
    frozen = torch.jit.freeze(torch.jit.script(model))
    return scripted(x), frozen(x), torch.jit.optimize_for_inference(frozen)(x)


@program
def tracing() -> Any:
    model = small_model().eval()
    x = torch.randn(4, 5)
    return torch.jit.trace(model, x)(x)


@program
def tracing_unchecked() -> Any:
    model = small_model().eval()
    x = torch.randn(4, 5)
    traced = torch.jit.trace(model, x, check_trace=False)
    return traced(x), [node.kind() for node in traced.graph.nodes()]


_SCRIPTED = None


@program
def scripted_before() -> Any:
    global _SCRIPTED  # noqa: PLW0603 - compiled once, to be warm at the second run
    if _SCRIPTED is None:
        _SCRIPTED = torch.jit.script(nn.Sequential(nn.Linear(5, 2), nn.Tanh()))
    x = torch.randn(3, 5, requires_grad=True)
    for _ in range(3):
        _SCRIPTED(x).sum().backward()
    return x.grad


_EXPORTED: dict[str, Any] = {}


@program
def exported_before() -> Any:
    if not _EXPORTED:
        _EXPORTED["fixed"] = torch.export.export(small_model().eval(), (torch.randn(4, 5),))
        _EXPORTED["core"] = _EXPORTED["fixed"].run_decompositions()
        _EXPORTED["dynamic"] = _export_dynamic()
    x = torch.randn(4, 5)
    return [exported.module()(x) for exported in _EXPORTED.values()]


def _export_dynamic() -> Any:
    model, x = nn.Linear(5, 3), torch.randn(4, 5)
    shapes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(model, (x,), dynamic_shapes=shapes)


@program
def exporting() -> Any:
    x = torch.randn(4, 5)
    return torch.export.export(small_model().eval(), (x,)).module()(x)


@program
def decomposing_an_exported_program() -> Any:
    x = torch.randn(4, 5)
    return torch.export.export(small_model().eval(), (x,)).run_decompositions().module()(x)


@program
def exporting_with_dynamic_shapes() -> Any:
    return _export_dynamic().module()(torch.randn(7, 5))


@program
def symbolic_trace_and_make_fx() -> Any:
    from torch.fx.experimental.proxy_tensor import make_fx

    model = small_model().eval()
    x = torch.randn(4, 5)
    graph = make_fx(lambda x: x.sin() @ x.t())(x)
    return torch.fx.symbolic_trace(model)(x), graph(x), [n.name for n in graph.graph.nodes]


def _compiled(**settings: Any) -> Any:
    torch.compiler.reset()
    model = small_model().eval()
    compiled = torch.compile(model, **settings)
    x = torch.randn(4, 5, requires_grad=True)
    out = [compiled(x) for _ in range(2)]
    (out[0] + out[1]).sum().backward()
    return out, x.grad, gradients(model)


@program
def compiled_eager() -> Any:
    return _compiled(backend="eager")


@program
def compiled_aot_eager() -> Any:
    return _compiled(backend="aot_eager")


@program
def compiled_fullgraph() -> Any:
    return _compiled(backend="eager", fullgraph=True)


@program
def compiled_aot_fullgraph() -> Any:
    return _compiled(backend="aot_eager", fullgraph=True)


@program
def compiled_dynamic() -> Any:
    return _compiled(backend="aot_eager", dynamic=True)


@program
def branches() -> Any:
    x = torch.randn(4, 4)
    torch.compiler.reset()
    return torch.cond(x.sum() > 0, lambda x: x @ x, lambda x: x.sin(), (x,))


@program
def branches_backward() -> Any:
    x = torch.randn(4, 4, requires_grad=True)
    torch.compiler.reset()
    out = torch.cond(x.sum() > 0, lambda x: x @ x, lambda x: x.sin(), (x,))
    out.sum().backward()
    return out, x.grad


@program
def loops() -> Any:
    from torch._higher_order_ops.while_loop import while_loop

    torch.compiler.reset()
    return while_loop(
        lambda i, x: i < 3, lambda i, x: (i + 1, x @ x), (torch.tensor(0), torch.randn(3, 3) / 3)
    )


@program
def maps() -> Any:
    from torch._higher_order_ops.map import map as torch_map

    return torch_map(lambda x, w: x @ w, torch.randn(3, 4), torch.randn(4, 2))


@program
def scans() -> Any:
    from torch._higher_order_ops.scan import scan

    return scan(lambda carry, x: (carry + x, carry * x), torch.zeros(4), torch.randn(5, 4), dim=0)


@program
def associative_scans() -> Any:
    from torch._higher_order_ops.associative_scan import associative_scan

    return associative_scan(torch.add, torch.randn(5, 4), 0, combine_mode="generic")


@program
def flexible_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v = (torch.randn(1, 2, 16, 8) for _ in range(3))
    return flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s * 2)


@program
def flexible_attention_with_a_block_mask() -> Any:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 16, 16, device="cpu")
    q, k, v = (torch.randn(1, 2, 16, 8) for _ in range(3))
    return flex_attention(q, k, v, block_mask=mask)


@program
def custom_operators() -> Any:
    with torch.library._scoped_library("flopbudget_transparency", "FRAGMENT") as library:
        library.define("cube(Tensor x) -> Tensor")
        library.define("bump_(Tensor(a!) x) -> Tensor(a!)")
        library.impl("cube", lambda x: x * x * x, "CPU")
        library.impl("bump_", lambda x: x.add_(1), "CPU")
        x = torch.randn(3)
        made = torch.ops.flopbudget_transparency.cube(x)
        bumped = torch.ops.flopbudget_transparency.bump_(x)
        return made, bumped, x, bumped is x


@torch.library.custom_op("flopbudget_transparency_own::double", mutates_args=())
def _double(x: Tensor) -> Tensor:
    return x @ torch.eye(x.shape[-1]) * 2


_double.register_autograd(lambda ctx, g: g * 2)


@program
def custom_operators_with_a_backward() -> Any:
    x = torch.randn(3, 3, requires_grad=True)
    out = _double(x)
    out.square().sum().backward()
    return out, x.grad
