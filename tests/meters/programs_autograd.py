"""What autograd and torch.func offer: checkpoints, transforms, hooks, graphs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap
from torch.nn import functional
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from .programs import gradients, program, small_model


@program
def checkpoints() -> Any:
    results = []
    for reentrant in (True, False):
        model = small_model()
        x = torch.randn(4, 5, requires_grad=True)
        out = checkpoint(model, x, use_reentrant=reentrant)
        out.sum().backward()
        chained = checkpoint_sequential(model, 2, x, use_reentrant=reentrant)
        results.append((out, chained, x.grad, gradients(model)))
    return results


@program
def selective_checkpoint() -> Any:
    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        kept = operator is torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    x, w = (torch.randn(4, 4, requires_grad=True) for _ in range(2))
    out = checkpoint(
        lambda x, w: torch.sin(torch.mm(x, w)).relu(),
        *(x, w),
        use_reentrant=False,
        context_fn=lambda: create_selective_checkpoint_contexts(policy),
    )
    out.sum().backward()
    return out, x.grad, w.grad


@program
def autocast_to_bfloat16() -> Any:
    model = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))
    x = torch.randn(4, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x)
        attended = functional.scaled_dot_product_attention(*[torch.randn(1, 2, 3, 4)] * 3)
    out.float().sum().backward()
    return out, attended, x.grad, gradients(model), torch.is_autocast_enabled("cpu")


@program
def scaled_gradients() -> Any:
    model = nn.Linear(3, 2)
    scaler = torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler.scale(model(torch.randn(4, 3)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    return model.state_dict(), scaler.get_scale()


@program
def double_backward() -> Any:
    x = torch.randn(4, 4, requires_grad=True)
    w = torch.randn(4, 4, requires_grad=True)
    out = torch.tanh(x @ w).pow(3).sum()
    (first,) = torch.autograd.grad(out, x, create_graph=True)
    first.square().sum().backward()
    return out, first, x.grad, w.grad


@program
def double_backward_of_layers() -> Any:
    conv = nn.Conv2d(2, 3, 3)
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    (first,) = torch.autograd.grad(conv(x).sigmoid().sum(), x, create_graph=True)
    first.norm().backward()
    return first, x.grad, gradients(conv)


@program
def functional_transforms() -> Any:
    def f(x: Tensor) -> Tensor:
        return (x.sin() * x).sum()

    x, t = torch.randn(5), torch.randn(5)
    pulled = vjp(lambda x: x.exp(), x)
    return (
        grad(f)(x),
        vmap(grad(f))(torch.randn(3, 5)),
        jvp(f, (x,), (t,)),
        pulled[0],
        pulled[1](t),
        jacrev(lambda x: x * x)(x),
        hessian(f)(x),
        torch.func.jacfwd(lambda x: x.cos())(x),
        torch.func.linearize(f, x)[1](t),
        vmap(torch.dot)(torch.randn(3, 4), torch.randn(3, 4)),
        vmap(lambda x: x + torch.randn(()), randomness="different")(torch.ones(4)),
    )


@program
def per_sample_gradients() -> Any:
    model = small_model().eval()
    parameters = dict(model.named_parameters())

    def loss(parameters: Any, x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x[None],)).square().sum()

    return vmap(grad(loss), (None, 0))(parameters, torch.randn(4, 5))


@program
def functionalize() -> Any:
    def f(x: Tensor) -> Tensor:
        y = x.clone()
        y[0].add_(1)
        return y.mul_(2)

    return torch.func.functionalize(f)(torch.randn(3, 2))


@program
def forward_mode() -> Any:
    from torch.autograd import forward_ad

    layer = nn.Linear(4, 3)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.randn(2, 4), torch.randn(2, 4))
        return tuple(forward_ad.unpack_dual(torch.tanh(layer(dual))))


@program
def jacobians() -> Any:
    x = torch.randn(3)
    return (
        torch.autograd.functional.jacobian(lambda x: x.sin() * x.sum(), x),
        torch.autograd.functional.hessian(lambda x: x.pow(3).sum(), x),
        torch.autograd.functional.hvp(lambda x: x.pow(3).sum(), x, torch.randn(3)),
        torch.autograd.functional.jacobian(lambda x: x.exp(), x, vectorize=True),
    )


@program
def batched_gradients() -> Any:
    x = torch.randn(3, requires_grad=True)
    return torch.autograd.grad(x * x, x, torch.eye(3), is_grads_batched=True)


class _Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * 3 * x * x


class _Scale(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x * factor

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return grads[0] * ctx.factor, None


@program
def functions_with_a_backward_of_their_own() -> Any:
    x = torch.randn(4, requires_grad=True)
    out = _Cube.apply(x) + _Scale.apply(x, 3.0)
    out.sum().backward()
    return out, x.grad, vmap(lambda x: _Scale.apply(x, 2.0))(torch.randn(3))


@program
def in_place_operators_on_views() -> Any:
    x = torch.randn(4, 5, requires_grad=True)
    y = x * 1
    view = y[1:3, ::2]
    view.mul_(3)
    y.t()[0].add_(1)
    y.view(-1)[3:7].zero_()
    y.diagonal().fill_(2)
    y.sum().backward()
    z = torch.randn(3, 3)
    z[z > 0] = 0
    z[:, 1] = torch.arange(3.0)
    z.resize_(2, 3).clamp_(-1, 1)
    return y, view, x.grad, z, y._version, view._is_view()


@program
def hooks_of_tensors_and_modules() -> Any:
    seen: list[Any] = []
    model = small_model()
    model[0].register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    model[0].register_forward_hook(lambda m, args, out: seen.append(out.shape) or out + 1)
    model[3].register_full_backward_hook(lambda m, given, got: (given[0] * 3,))
    model[3].register_full_backward_pre_hook(lambda m, got: (got[0] * 0.5,))
    model[0].weight.register_hook(lambda g: g * 2)
    model[0].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    x = torch.randn(4, 5, requires_grad=True)
    x.register_hook(lambda g: g + 1)
    out = model(x)
    out.retain_grad()
    out.grad_fn.register_hook(lambda given, got: seen.append(len(given)))
    out.sum().backward()
    return out, out.grad, x.grad, gradients(model), seen


@program
def global_hooks_of_modules() -> Any:
    seen = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda m, args, out: seen.append(type(m).__name__)
    )
    try:
        out = small_model()(torch.randn(2, 5))
    finally:
        handle.remove()
    small_model()(torch.randn(2, 5))
    return out, seen


@program
def saved_tensor_hooks() -> Any:
    packed = []

    def pack(x: Tensor) -> Any:
        packed.append(x.shape)
        return x.detach().clone()

    x = torch.randn(4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = x.exp() * x.sin()
    out.sum().backward()
    with torch.autograd.graph.save_on_cpu():
        again = (x * x).sum()
    again.backward()
    return out, x.grad, packed


@program
def gradient_checkpointing_by_hooks() -> Any:
    """What is saved is thrown away and computed again when backward asks for it."""
    x = torch.randn(4, 4, requires_grad=True)
    w = torch.randn(4, 4, requires_grad=True)
    unpacked = []

    def unpack(_: Any) -> Tensor:
        with torch.no_grad():
            unpacked.append(1)
            return torch.mm(x, w).tanh()

    with torch.autograd.graph.saved_tensors_hooks(lambda t: None, unpack):
        # Saves its result alone.
        out = torch.mm(x.detach(), w.detach()).requires_grad_().tanh()
    (gradient,) = torch.autograd.grad(out.sum(), out)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.shape, torch.ones):
        (x * w).sum().backward()
    return out, gradient, x.grad, w.grad, unpacked


@program
def anomaly_mode_and_errors() -> Any:
    x = torch.randn(3, requires_grad=True)
    caught: list[Any] = []
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        x.exp().sum().backward()
    with suppress(RuntimeError):
        caught.append(torch.mm(torch.ones(2, 3), torch.ones(2, 3)))
    with suppress(RuntimeError):
        caught.append(x.sum().backward(torch.ones(2)))
    with suppress(RuntimeError):
        caught.append(x.add_(1))
    with suppress(IndexError):
        caught.append(torch.ones(2)[5])
    return x.grad, caught


@program
def modified_in_place_is_an_error_as_ever() -> Any:
    x = torch.randn(3, requires_grad=True)
    y = x.exp()
    y.add_(1)
    try:
        y.sum().backward()
    except RuntimeError as error:
        return str(error).split(":")[0]
    return "no error"


@program
def gradient_edges_and_graph() -> Any:
    x = torch.randn(3, requires_grad=True)
    y = x.sin()
    edge = torch.autograd.graph.get_gradient_edge(y)
    (y * y).sum().backward(retain_graph=True)
    return torch.autograd.grad(edge, x, torch.ones(3)), x.grad, type(y.grad_fn).__name__
