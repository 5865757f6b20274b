"""Matrix products: `macs` is their measure, and a multiply-accumulate is two FLOPs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula


def real_factor(tensor: Tensor) -> int:
    """Real multiply-accumulates for one of the tensor's: four when it is complex.

    (a+bi)(c+di) takes four multiplies, and with the accumulation four adds.
    """
    return 4 if tensor.is_complex() else 1


@formula("mm", "_int_mm")
def mm(a: Tensor, b: Tensor, *, out: Tensor, **_: Any) -> Work:
    """FLOPs of a matrix product.

    a: [m, k], b: [k, n] -> out: [m, n]
    Counts m*k*n multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=a.shape[0] * a.shape[1] * b.shape[1] * real_factor(out))


@formula("bmm")
def bmm(a: Tensor, b: Tensor, *, out: Tensor, **_: Any) -> Work:
    """FLOPs of a batched matrix product.

    a: [b, m, k], b: [b, k, n] -> out: [b, m, n]
    Counts b*m*k*n multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2] * real_factor(out))


@formula("mv")
def mv(matrix: Tensor, vector: Tensor, *, out: Tensor) -> Work:
    """FLOPs of a matrix-vector product.

    matrix: [m, k], vector: [k] -> out: [m]
    Counts m*k multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=matrix.shape[0] * vector.shape[0] * real_factor(out))


@formula("dot", "vdot")
def dot(a: Tensor, b: Tensor, *, out: Tensor) -> Work:
    """FLOPs of an inner product.

    a: [k], b: [k] -> out: []
    Counts k multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=a.shape[0] * real_factor(out))


def _added(out: Tensor, beta: Any, alpha: Any) -> int:
    """FLOPs of `beta * self + alpha * product`, over the elements of `out`.

    out: any shape.
    Counts one add for each element when beta is not 0, and one multiply for each
    of beta and alpha that is not 1. A complex add is 2, a complex multiply 6.
    Source: the definition in the documentation of torch.addmm.
    """
    add, multiply = (2, 6) if out.is_complex() else (1, 1)
    per_element = 0
    if beta != 0:
        per_element += add + (multiply if beta != 1 else 0)
    if alpha != 1:
        per_element += multiply
    return out.numel() * per_element


@formula("addmm")
def addmm(
    self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1, **_: Any
) -> Work:
    """FLOPs of a matrix product added to a matrix, which is a linear layer with bias.

    self: broadcast to [m, n], a: [m, k], b: [k, n] -> out: [m, n]
    Counts m*k*n multiply-accumulates and m*n adds.
    Source: the definition in the documentation of torch.addmm. Assumes dense inputs.
    """
    return mm(a, b, out=out) + Work(arithmetic=_added(out, beta, alpha))


@formula("baddbmm")
def baddbmm(
    self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1, **_: Any
) -> Work:
    """FLOPs of a batched matrix product added to a batch of matrices.

    self: broadcast to [b, m, n], a: [b, m, k], b: [b, k, n] -> out: [b, m, n]
    Counts b*m*k*n multiply-accumulates and b*m*n adds.
    Source: the definition in the documentation of torch.baddbmm. Assumes dense inputs.
    """
    return bmm(a, b, out=out) + Work(arithmetic=_added(out, beta, alpha))


@formula("addbmm")
def addbmm(
    self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1
) -> Work:
    """FLOPs of the sum of a batch of matrix products, added to a matrix.

    self: broadcast to [m, n], a: [b, m, k], b: [b, k, n] -> out: [m, n]
    Counts b*m*k*n multiply-accumulates, which sum over the batch too, and m*n adds.
    Source: the definition in the documentation of torch.addbmm. Assumes dense inputs.
    """
    return bmm(a, b, out=out) + Work(arithmetic=_added(out, beta, alpha))


@formula("addmv")
def addmv(
    self: Tensor, matrix: Tensor, vector: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1
) -> Work:
    """FLOPs of a matrix-vector product added to a vector.

    self: broadcast to [m], matrix: [m, k], vector: [k] -> out: [m]
    Counts m*k multiply-accumulates and m adds.
    Source: the definition in the documentation of torch.addmv. Assumes dense inputs.
    """
    return mv(matrix, vector, out=out) + Work(arithmetic=_added(out, beta, alpha))


@formula("addr")
def addr(
    self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1
) -> Work | None:
    """FLOPs of an outer product added to a matrix.

    self: broadcast to [m, n], a: [m], b: [n] -> out: [m, n]
    Counts m*n multiplies and m*n adds; nothing is accumulated, so no MACs.
    Source: the definition in the documentation of torch.addr. Complex is not counted.
    """
    if out.is_complex():
        return None
    return Work(arithmetic=a.shape[0] * b.shape[0] + _added(out, beta, alpha))


@formula("mkldnn_linear")
def mkldnn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor) -> Work:
    """FLOPs of a linear layer in oneDNN's own layout.

    x: [..., k], weight: [n, k], bias: [n] or None -> out: [..., n]
    Counts k multiply-accumulates, and one add with a bias, for each element of out.
    Source: the definition of torch.nn.Linear.
    """
    return Work(
        macs=out.numel() * weight.shape[1], arithmetic=out.numel() if bias is not None else 0
    )


@formula("_addmm_activation")
def addmm_activation(
    self: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    out: Tensor,
    beta: Any = 1,
    alpha: Any = 1,
    use_gelu: bool = False,
) -> Work:
    """FLOPs of a linear layer with a ReLU or a GELU after it.

    self: broadcast to [m, n], a: [m, k], b: [k, n] -> out: [m, n]
    Counts as `addmm`, and one comparison for each element of out, or 5 for a GELU.
    Source: the definition; the CPU kernel runs the activation on the result.
    """
    activation = Work(arithmetic=out.numel() * (5 if use_gelu else 1))
    return addmm(self, a, b, out=out, beta=beta, alpha=alpha) + activation
