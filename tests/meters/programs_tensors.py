"""Kinds of tensors: sparse, complex, nested, quantised, subclasses; and linear algebra."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from .programs import gradients, program, small_model


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
