"""Small programs that use torch in every way there is, each with results to compare.

They are run twice, without and with a counter, from the same random state. Each returns
what it computed, gradients included, in lists, tuples and dicts.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, rnn, stateless
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.data import DataLoader, TensorDataset

Program = Callable[[], Any]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__.strip("_")] = function
    return function


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3))


# Training


@program
def training_step_with_dropout() -> Any:
    model = small_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(torch.randn(4, 5)), torch.randint(3, (4,)))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss)
    return losses, model.state_dict(), gradients(model), optimizer.state_dict()


@program
def optimizers() -> Any:
    results = []
    for kind, settings in (
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "lr": 0.1}),
        (torch.optim.AdamW, {"foreach": True}),
        (torch.optim.AdamW, {"fused": True}),
        (torch.optim.RMSprop, {"centered": True}),
        (torch.optim.Adagrad, {}),
        (torch.optim.NAdam, {}),
        (torch.optim.ASGD, {}),
        (torch.optim.Rprop, {}),
    ):
        model = nn.Linear(4, 3)
        optimizer = kind(model.parameters(), **settings)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(2):
            model(torch.randn(2, 4)).square().sum().backward()
            optimizer.step()
            scheduler.step()
        results.append(model.state_dict())
    return results


@program
def lbfgs_with_a_closure() -> Any:
    x = torch.randn(6, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x.cos() * x).sum()
        loss.backward()
        return loss

    return optimizer.step(closure), x


@program
def convolutions_and_norms_in_training() -> Any:
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.GELU(), nn.GroupNorm(2, 6)),
        *(nn.MaxPool2d(2), nn.ConvTranspose2d(6, 4, 2), nn.InstanceNorm2d(4), nn.SiLU()),
        *(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2)),
    )
    x = torch.randn(3, 3, 9, 9, requires_grad=True)
    out = model(x)
    out.square().mean().backward()
    return out, x.grad, gradients(model), dict(model.named_buffers())


@program
def recurrent_layers_in_training() -> Any:
    results = []
    for layer in (
        nn.LSTM(4, 5, 2, bidirectional=True, dropout=0.2),
        nn.GRU(4, 5, batch_first=True),
        nn.RNN(4, 5),
    ):
        x = torch.randn(6, 3, 4, requires_grad=True)
        out, state = layer(x)
        out.sum().backward()
        results.append((out, state, x.grad, gradients(layer)))
    return results


@program
def packed_sequences() -> Any:
    x = rnn.pad_sequence([torch.randn(n, 4) for n in (5, 3, 1)]).requires_grad_()
    packed = rnn.pack_padded_sequence(x, torch.tensor([5, 3, 1]))
    lstm = nn.LSTM(4, 3)
    out, lengths = rnn.pad_packed_sequence(lstm(packed)[0])
    out.sum().backward()
    return out, lengths, x.grad, gradients(lstm)


@program
def transformer_in_training_and_evaluation() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2)
    x = torch.randn(3, 5, 8)
    padding = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0] * 5]).bool()
    trained = encoder(x)
    trained.square().sum().backward()
    encoder.eval()
    with torch.no_grad():
        fast = encoder(x)
        padded = encoder(x, src_key_padding_mask=padding)
    with torch.inference_mode():
        inferred = encoder(x).clone()
    return trained, gradients(encoder), fast, padded, inferred


@program
def attention_of_every_kind() -> Any:
    q, k, v = (torch.randn(2, 4, 6, 8, requires_grad=True) for _ in range(3))
    mask = torch.randn(6, 6, requires_grad=True)
    attend = functional.scaled_dot_product_attention
    results = [
        attend(q, k, v),
        attend(q, k, v, is_causal=True),
        attend(q, k, v, attn_mask=mask),
        attend(q, k, v, attn_mask=torch.ones(6, 6).tril().bool()),
        attend(q, k, v, dropout_p=0.5),
        attend(q, k[:, :2], v[:, :2], enable_gqa=True),
        attend(q[0], k[0], v[0, ..., :3]),
    ]
    torch.stack([result.sum() for result in results]).sum().backward()
    return results, q.grad, k.grad, v.grad, mask.grad


# Autograd


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
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.shape, lambda s: torch.ones(s)):
        (x * w).sum().backward()
    return out, gradient, x.grad, w.grad, unpacked


@program
def anomaly_mode_and_errors() -> Any:
    x = torch.randn(3, requires_grad=True)
    caught = []
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        x.exp().sum().backward()
    for wrong in (
        lambda: torch.mm(torch.ones(2, 3), torch.ones(2, 3)),
        lambda: x.sum().backward(torch.ones(2)),
        lambda: x.add_(1),
        lambda: torch.ones(2)[5],
    ):
        try:
            wrong()
        except (RuntimeError, IndexError) as error:
            caught.append((type(error).__name__, str(error)))
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


# Kinds of tensors


@program
def sparse_tensors() -> Any:
    a = torch.eye(4).to_sparse().requires_grad_()
    b = torch.randn(4, 3, requires_grad=True)
    out = torch.sparse.mm(a, b)
    out.sum().backward()
    embedding = nn.Embedding(6, 3, sparse=True)
    embedding(torch.tensor([1, 2, 1])).sum().backward()
    optimizer = torch.optim.SparseAdam(embedding.parameters())
    optimizer.step()
    coo = (a.detach() + a.detach()).coalesce()
    return out, b.grad, embedding.weight.grad, embedding.weight, coo, coo * 2


@program
def compressed_sparse_tensors() -> Any:
    dense = torch.tensor([[1.0, 0, 2], [0, 0, 3], [4, 0, 0]])
    csr = dense.to_sparse_csr()
    return csr @ torch.randn(3, 2), csr.to_dense(), dense.to_sparse_csc().values(), csr.sum()


@program
def complex_numbers() -> Any:
    z = torch.randn(3, 4, dtype=torch.cfloat, requires_grad=True)
    out = (z @ z.conj().t()).abs().log1p() + z.real.sum() + z.angle().mean()
    out.sum().backward()
    w = torch.view_as_real(z.detach()).clone()
    conv = nn.Conv1d(2, 3, 3, dtype=torch.cfloat)
    return out, z.grad, w, torch.view_as_complex(w).conj_physical(), conv(torch.randn(1, 2, 7) + 0j)


@program
def lazy_conjugation_and_negation() -> Any:
    z = torch.randn(4, dtype=torch.cfloat)
    conjugate = z.conj()
    imaginary = conjugate.imag
    return (
        conjugate.is_conj(),
        imaginary.is_neg(),
        conjugate + 1,
        imaginary * 2,
        conjugate.resolve_conj(),
        imaginary.resolve_neg(),
        torch.dot(conjugate, z),
        torch.vdot(z, z),
    )


@program
def fourier_transforms() -> Any:
    x = torch.randn(4, 8, requires_grad=True)
    spectrum = torch.fft.rfft2(x)
    back = torch.fft.irfft2(spectrum * 2, s=(4, 8))
    back.square().sum().backward()
    window = torch.hann_window(16)
    stft = torch.stft(torch.randn(64), 16, window=window, return_complex=True)
    return spectrum, back, x.grad, stft, torch.istft(stft, 16, window=window), torch.fft.fft(x)


@program
def linear_algebra() -> Any:
    a = torch.randn(5, 5)
    spd = (a @ a.t() + 5 * torch.eye(5)).requires_grad_()
    chol = torch.linalg.cholesky(spd)
    solved = torch.linalg.solve(spd, torch.randn(5, 2))
    (chol.sum() + solved.sum() + torch.linalg.slogdet(spd)[1]).backward()
    q, r = torch.linalg.qr(a)
    return (
        *(chol, solved, spd.grad, q, r),
        *torch.linalg.svd(a),
        *torch.linalg.eigh(spd),
        torch.linalg.eigvals(a),
        torch.linalg.inv(a),
        torch.linalg.det(a),
        torch.linalg.pinv(a),
        torch.linalg.matrix_exp(a),
        torch.linalg.matrix_norm(a),
        torch.linalg.multi_dot([a, a, a]),
        torch.cdist(a, a),
        torch.linalg.lu_factor(a).LU,
    )


@program
def singular_values_alone() -> Any:
    a = torch.randn(5, 4)
    return torch.linalg.svdvals(a), torch.linalg.matrix_norm(a, 2), torch.linalg.cond(a)


@program
def eigenvalues_alone() -> Any:
    a = torch.randn(5, 5)
    return torch.linalg.eigvals(a), torch.linalg.eigvalsh(a @ a.t())


@program
def nested_jagged_tensors() -> Any:
    parts = [torch.randn(n, 4) for n in (3, 5, 1)]
    x = torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True)
    layer = nn.Linear(4, 6)
    out = functional.gelu(layer(x))
    out.values().sum().backward()
    padded = torch.nested.to_padded_tensor(out, 0.0)
    return out.values(), out.offsets(), padded, gradients(layer)


@program
def attention_of_jagged_tensors() -> Any:
    parts = [torch.randn(n, 2, 4) for n in (3, 5, 1)]
    x = torch.nested.nested_tensor(parts, layout=torch.jagged).transpose(1, 2)
    return functional.scaled_dot_product_attention(x, x, x).transpose(1, 2).values()


@program
def nested_strided_tensors() -> Any:
    x = torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(5, 4)])
    layer = nn.Linear(4, 6)
    out = layer(x).relu()
    return torch.nested.to_padded_tensor(out, 0.0), out.unbind(), (x * 2).unbind()


@program
def nested_strided_tensors_backward() -> Any:
    x = torch.nested.nested_tensor([torch.randn(3, 4), torch.randn(5, 4)])
    layer = nn.Linear(4, 6)
    torch.nested.to_padded_tensor(layer(x), 0.0).sum().backward()
    return gradients(layer)


@program
def masked_tensors() -> Any:
    from torch.masked import masked_tensor

    x = masked_tensor(torch.arange(6.0), torch.tensor([1, 0, 1, 1, 0, 1]).bool())
    return (x + x).get_data(), x.sum().get_data(), x.get_mask()


class _Tagged(Tensor):
    """A subclass by `__torch_function__`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


class _Wrapper(Tensor):
    """A subclass by `__torch_dispatch__`, which holds another tensor."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> _Wrapper:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, strides=inner.stride()
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrap(value: Any) -> Any:
            return value.inner if isinstance(value, _Wrapper) else value

        out = func(*pytree.tree_map(unwrap, args), **pytree.tree_map(unwrap, kwargs or {}))
        return pytree.tree_map(lambda v: _Wrapper(v) if isinstance(v, Tensor) else v, out)


@program
def subclasses_of_tensor() -> Any:
    x = torch.randn(3, 3).as_subclass(_Tagged)
    y = (x @ x).relu()
    wrapped = _Wrapper(torch.randn(3, 3)) @ _Wrapper(torch.randn(3, 3)) + 1
    return type(y).__name__, y.as_subclass(Tensor), type(wrapped).__name__, wrapped.inner


@program
def modes_of_the_users_own() -> Any:
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    names: list[str] = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kw: Any = None) -> Any:
            names.append(getattr(func, "__name__", "?"))
            return func(*args, **(kw or {}))

    class Dispatches(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kw: Any = None) -> Any:
            names.append(str(func))
            return func(*args, **(kw or {}))

    x = torch.randn(3, 3)
    with Functions(), Dispatches():
        out = (x @ x).relu() + 1
    return out, names


@program
def device_context_and_meta() -> Any:
    with torch.device("meta"):
        model = small_model()
    out = model(torch.empty(4, 5, device="meta"))
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    return out.shape, out.device.type, model.eval()(torch.ones(2, 5))


@program
def fake_tensors() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        out = small_model()(torch.randn(4, 5))
        out.sum().backward()
        return tuple(out.shape), type(out).__name__


@program
def copies_and_pickles() -> Any:
    x = torch.randn(3, requires_grad=True)
    model = small_model()
    copied = copy.deepcopy(model)
    again = pickle.loads(pickle.dumps(x))  # noqa: S301 - our own bytes
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "x": x}, file)
    file.seek(0)
    loaded = torch.load(file)
    copied.load_state_dict(loaded["model"])
    model.share_memory()
    return again, loaded, copied.state_dict(), copy.copy(x), model.half().state_dict()


@program
def numpy_both_ways() -> Any:
    array = np.arange(6.0).reshape(2, 3)
    x = torch.from_numpy(array)
    x.mul_(2)
    y = torch.randn(2, 3)
    y.numpy()[0, 0] = 7
    return x, array.copy(), y, np.add(y, 1), torch.as_tensor(array), y.tolist(), np.asarray(x)


@program
def buffers_and_dlpack() -> Any:
    x = torch.arange(5)
    return (
        torch.frombuffer(bytearray(b"abcd"), dtype=torch.uint8),
        torch.from_dlpack(x),
        np.from_dlpack(x),
        x.untyped_storage().nbytes(),
        bytes(x.untyped_storage()),
        torch.tensor([1, 2]).storage_offset(),
    )


@program
def quantised_tensors_and_modules() -> Any:
    x = torch.randn(4, 5)
    q = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    dynamic = torch.ao.quantization.quantize_dynamic(small_model(), {nn.Linear}, torch.qint8)
    fake = torch.fake_quantize_per_tensor_affine(x, 0.1, 0, 0, 255)
    return q.dequantize(), q.int_repr(), dynamic(x), fake


@program
def statically_quantised_model() -> Any:
    quantization = torch.ao.quantization
    model = nn.Sequential(
        quantization.QuantStub(), nn.Conv2d(2, 3, 3), nn.ReLU(), quantization.DeQuantStub()
    ).eval()
    model.qconfig = quantization.get_default_qconfig("onednn")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        prepared = quantization.prepare(quantization.fuse_modules(model, [["1", "2"]]))
        prepared(torch.randn(1, 2, 6, 6))
        return quantization.convert(prepared)(torch.randn(1, 2, 6, 6))
    finally:
        torch.backends.quantized.engine = before


@program
def tensors_of_onednn() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's module uses what torch deprecates
        from torch.utils.mkldnn import to_mkldnn
    x = torch.randn(4, 5).to_mkldnn()
    model = to_mkldnn(nn.Sequential(nn.Linear(5, 3), nn.ReLU()).eval())
    return model(x).to_dense(), (x + x).to_dense()


@program
def low_precision() -> Any:
    x = torch.randn(4, 8).bfloat16()
    return x @ x.t(), x.half().float().to(torch.float8_e4m3fn).float(), x.sum(), x.softmax(1)


# Compilers, and control flow that they know


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


# Everything else


@program
def threads() -> Any:
    a, b = torch.randn(4, 5), torch.randn(5, 6)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(a @ b))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(2) as pool:
        results += list(pool.map(torch.mm, [a, a * 2], [b, b]))
    future = torch.jit.fork(torch.mm, a, b)
    return results, torch.jit.wait(future), threading.active_count()


@program
def backward_in_a_thread() -> Any:
    x = torch.randn(4, requires_grad=True)
    y = x.exp().sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    return x.grad


@program
def distributions() -> Any:
    d = torch.distributions
    mean = torch.zeros(3, requires_grad=True)
    sample = d.Normal(mean, torch.ones(3)).rsample()
    sample.sum().backward()
    return (
        *(sample, mean.grad, d.Categorical(torch.ones(4)).sample((5,))),
        *(d.Dirichlet(torch.ones(3)).sample(), d.Gamma(2.0, 1.0).sample((3,))),
        *(d.Beta(0.5, 0.5).rsample((2,)), d.Poisson(3.0).sample((4,)), d.Bernoulli(0.3).sample()),
        *(d.MultivariateNormal(torch.zeros(2), torch.eye(2)).sample(), d.Uniform(0, 1).sample()),
        *(
            d.Binomial(5, 0.5).sample((3,)),
            d.Laplace(0.0, 1.0).sample(),
            d.VonMises(0.0, 1.0).sample(),
        ),
        d.kl_divergence(d.Normal(0.0, 1.0), d.Normal(1.0, 2.0)),
        d.Normal(0.0, 1.0).log_prob(torch.tensor(0.5)),
    )


@program
def random_numbers_of_every_kind() -> Any:
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        forked = torch.rand(2)
    return (
        *(torch.rand(3), torch.randn(3), torch.randint(9, (3,)), torch.randperm(5), forked),
        *(torch.bernoulli(torch.full((4,), 0.5)), torch.multinomial(torch.ones(4), 2)),
        *(
            torch.normal(torch.zeros(3), 1.0),
            torch.empty(3).exponential_(),
            torch.rand_like(forked),
        ),
        *(torch.rand(2, generator=generator), generator.get_state()),
        *(torch.empty(3).cauchy_(), torch.empty(3).log_normal_(), torch.empty(3).geometric_(0.5)),
        *(
            functional.gumbel_softmax(torch.ones(3)),
            functional.rrelu(torch.randn(5), training=True),
        ),
        functional.alpha_dropout(torch.ones(4), 0.5, True),
    )


@program
def data_loading() -> Any:
    data = TensorDataset(torch.arange(10.0), torch.arange(10))
    return list(DataLoader(data, batch_size=3, shuffle=True, num_workers=0))


@program
def parametrizations_of_weights() -> Any:
    results = []
    for parametrization in (
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
    ):
        layer = parametrization(nn.Linear(4, 4))
        with parametrize.cached():
            layer(layer(torch.randn(2, 4))).sum().backward()
        results.append((layer.weight, gradients(layer)))
    return results


@program
def pruned_and_lazy_modules() -> Any:
    from torch.nn.utils import prune

    layer = nn.Linear(4, 4)
    prune.random_unstructured(layer, "weight", 0.5)
    lazy = nn.Sequential(nn.LazyConv2d(3, 2), nn.Flatten(), nn.LazyLinear(2))
    return layer(torch.randn(2, 4)), lazy(torch.randn(2, 3, 5, 5)), type(lazy[0]).__name__


@program
def lazy_norms() -> Any:
    norm = nn.LazyBatchNorm2d()
    return norm(torch.randn(2, 3, 5, 5)), type(norm).__name__, norm.state_dict()


@program
def stateless_calls() -> Any:
    model = nn.Linear(3, 2)
    x = torch.randn(4, 3)
    with stateless._reparametrize_module(model, {"weight": torch.ones(2, 3)}):
        inside = model(x)
    return inside, model(x), functional_call(model, {"bias": torch.zeros(2)}, x)


@program
def averaged_models() -> Any:
    model = nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    return averaged(torch.randn(2, 3)), averaged.state_dict()


@program
def sorting_and_indexing() -> Any:
    x = torch.randn(5, 6, requires_grad=True)
    values, places = x.sort(1)
    values[:, 0].sum().backward()
    y = x.detach()
    return (
        *(values, places, x.grad, *y.topk(2), y.unique(return_counts=True), y.argsort(0)),
        *(y[y > 0], y.nonzero(), torch.where(y > 0, y, 0), y.gather(1, places), y.take(places)),
        *(y.kthvalue(2), y.median(1), y.mode(1), y.histc(4), torch.bincount(places.view(-1))),
        *(
            y.cummax(1),
            y.quantile(0.5),
            torch.searchsorted(y.sort(1)[0], y),
            y.index_add(0, places[0, :5] % 5, y),
        ),
        *(y.scatter_reduce(0, places % 5, y, "amax"), y.unfold(1, 2, 2), y.roll(1), y.rot90()),
    )


@program
def losses() -> Any:
    x, y = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3)
    labels = torch.tensor([0, 2, 1, 0])
    total = [
        functional.mse_loss(x, y),
        functional.l1_loss(x, y),
        functional.smooth_l1_loss(x, y),
        functional.huber_loss(x, y),
        functional.binary_cross_entropy_with_logits(x, y),
        functional.binary_cross_entropy(x.sigmoid(), y),
        functional.kl_div(x.log_softmax(1), y),
        functional.cross_entropy(x, labels, label_smoothing=0.1),
        functional.multi_margin_loss(x, labels),
        functional.triplet_margin_loss(x, y, y + 1),
        functional.cosine_embedding_loss(x, y, torch.ones(4)),
        functional.ctc_loss(
            torch.randn(6, 2, 4).log_softmax(2),
            torch.tensor([[1, 2], [3, 1]]),
            torch.tensor([6, 6]),
            torch.tensor([2, 2]),
        ),
    ]
    sum(total).backward()
    return total, x.grad


@program
def resampling() -> Any:
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    results = [
        functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        functional.interpolate(x, size=4, mode="area"),
        functional.interpolate(x, scale_factor=2, mode="bicubic"),
        functional.grid_sample(x, torch.rand(1, 3, 3, 2), align_corners=False),
        functional.pad(x, (1, 1, 1, 1), mode="reflect"),
        functional.unfold(x, 2),
        functional.fold(functional.unfold(x, 2, stride=2), (6, 6), 2, stride=2),
        functional.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
        functional.fractional_max_pool2d(x, 2, output_size=3),
        functional.lp_pool2d(x, 2.0, 2),
        functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
        functional.local_response_norm(x, 2),
        functional.embedding_bag(torch.tensor([[0, 1], [2, 3]]), x[0, 0]),
    ]
    torch.stack([result.sum() for result in results]).sum().backward()
    return results, x.grad


@program
def generators_and_weak_references() -> Any:
    def steps() -> Iterator[Tensor]:
        x = torch.ones(2)
        for _ in range(3):
            x = x * 2
            yield x

    freed = []
    x = torch.randn(1000)
    weakref.finalize(x, freed.append, "freed")
    del x
    return list(steps()), freed


@program
def storages_are_freed_as_ever() -> Any:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    seen: list[Any] = []
    for layer in model:
        layer.register_forward_hook(lambda m, a, out: seen.append(weakref.ref(out)) or None)
    with torch.no_grad():
        out = model(torch.randn(2, 4))
    return out, [reference() is None for reference in seen]


@program
def grad_modes() -> Any:
    x = torch.randn(3, requires_grad=True)
    with torch.inference_mode():
        inferred = x * 2
        flag = (inferred.is_inference(), inferred.requires_grad)
    with torch.no_grad(), torch.enable_grad():
        enabled = (x * 2).requires_grad
    with torch.set_grad_enabled(False):
        disabled = (x * 2).requires_grad
    return inferred.clone(), flag, enabled, disabled, torch.is_grad_enabled()


@program
def deterministic_algorithms() -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        filled = torch.empty(3)  # filled with NaN in this mode
        x = torch.zeros(4).index_put_((torch.tensor([1, 1]),), torch.ones(2), accumulate=True)
        return filled, x, torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@program
def default_types() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return torch.randn(3) @ torch.randn(3), torch.tensor(1.5), torch.arange(0, 1, 0.3)
    finally:
        torch.set_default_dtype(before)


@program
def printing_and_conversion() -> Any:
    x = torch.randn(2, 2)
    return (
        repr(x),
        str(x.requires_grad_()),
        f"{x[0, 0].item():.3f}",
        int(torch.tensor(3)),
        bool(x.sum() > 0),
    )


@program
def named_and_structured_results() -> Any:
    x = torch.randn(3, 4)
    named = x.max(1)
    return (
        type(named).__name__,
        named.values,
        torch.aminmax(x),
        torch.frexp(x),
        torch.svd_lowrank(x),
    )
