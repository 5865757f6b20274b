"""Matrix products: `macs` is their measure, and a multiply-accumulate is two FLOPs."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.registry import Work, formula


def real_factor(tensor: Tensor) -> int:
    """Real multiply-accumulates for one of the tensor's: four when it is complex.

    (a+bi)(c+di) takes four multiplies, and with the accumulation four adds.
    """
    return 4 if tensor.is_complex() else 1


@formula("mm", "_int_mm")
def mm(a: Tensor, b: Tensor, *_args: Any, out: Tensor, **_: Any) -> Work:
    """FLOPs of a matrix product.

    a: [m, k], b: [k, n] -> out: [m, n]
    Counts m*k*n multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=a.numel() * b.size(1) * real_factor(out))


@formula("_foreach_mm")
def foreach_mm(left: list[Tensor], right: list[Tensor], *, out: list[Tensor]) -> Work:
    """FLOPs of a list of matrix products.

    left: [m, k] each, right: [k, n] each -> out: [m, n] each
    Counts each as `mm`.
    Source: the definition of the product. Assumes dense inputs.
    """
    return sum(map(_one_product, left, right, out), Work())


def _one_product(a: Tensor, b: Tensor, out: Tensor) -> Work:
    return mm(a, b, out=out)


@formula("bmm")
def bmm(a: Tensor, b: Tensor, *_args: Any, out: Tensor, **_: Any) -> Work:
    """FLOPs of a batched matrix product.

    a: [b, m, k], b: [b, k, n] -> out: [b, m, n]
    Counts b*m*k*n multiply-accumulates, an add for each term.
    Source: the definition of the product. Assumes dense inputs.
    """
    return Work(macs=a.numel() * b.size(2) * real_factor(out))


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


def times(scalar: Any, is_complex: bool) -> int:
    """FLOPs of multiplying one element by a scalar of the call: none by 1.

    A complex number takes two multiplies by a real scalar, and six operations by a
    complex one.
    """
    if scalar == 1:
        return 0
    if not is_complex:
        return 1
    return 6 if isinstance(scalar, complex) else 2


def added(numel: int, is_complex: bool, beta: Any, alpha: Any) -> int:
    """FLOPs of `beta * self + alpha * product`, over `numel` elements.

    Counts one add for each element when beta is not 0, and one multiply for each
    of beta and alpha that is not 1. A complex add is 2.
    Source: the definition in the documentation of torch.addmm.
    """
    per_element = times(alpha, is_complex)
    if beta != 0:
        per_element += (2 if is_complex else 1) + times(beta, is_complex)
    return numel * per_element


def _added(out: Tensor, beta: Any, alpha: Any) -> int:
    return added(out.numel(), out.is_complex(), beta, alpha)


@formula("addmm")
def addmm(
    self: Tensor,
    a: Tensor,
    b: Tensor,
    *_args: Any,
    out: Tensor,
    beta: Any = 1,
    alpha: Any = 1,
    **_: Any,
) -> Work:
    """FLOPs of a matrix product added to a matrix, which is a linear layer with bias.

    self: broadcast to [m, n], a: [m, k], b: [k, n] -> out: [m, n]
    Counts m*k*n multiply-accumulates and m*n adds.
    Source: the definition in the documentation of torch.addmm. Assumes dense inputs.
    """
    work = mm(a, b, out=out)
    work.arithmetic = _added(out, beta, alpha)
    return work


@formula("baddbmm")
def baddbmm(
    self: Tensor,
    a: Tensor,
    b: Tensor,
    *_args: Any,
    out: Tensor,
    beta: Any = 1,
    alpha: Any = 1,
    **_: Any,
) -> Work:
    """FLOPs of a batched matrix product added to a batch of matrices.

    self: broadcast to [b, m, n], a: [b, m, k], b: [b, k, n] -> out: [b, m, n]
    Counts b*m*k*n multiply-accumulates and b*m*n adds.
    Source: the definition in the documentation of torch.baddbmm. Assumes dense inputs.
    """
    work = bmm(a, b, out=out)
    work.arithmetic = _added(out, beta, alpha)
    return work


@formula("addbmm")
def addbmm(
    self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1
) -> Work:
    """FLOPs of the sum of a batch of matrix products, added to a matrix.

    self: broadcast to [m, n], a: [b, m, k], b: [b, k, n] -> out: [m, n]
    Counts b*m*k*n multiply-accumulates, which sum over the batch too, and m*n adds.
    Source: the definition in the documentation of torch.addbmm. Assumes dense inputs.
    """
    work = bmm(a, b, out=out)
    work.arithmetic = _added(out, beta, alpha)
    return work


@formula("addmv")
def addmv(
    self: Tensor, matrix: Tensor, vector: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1
) -> Work:
    """FLOPs of a matrix-vector product added to a vector.

    self: broadcast to [m], matrix: [m, k], vector: [k] -> out: [m]
    Counts m*k multiply-accumulates and m adds.
    Source: the definition in the documentation of torch.addmv. Assumes dense inputs.
    """
    work = mv(matrix, vector, out=out)
    work.arithmetic = _added(out, beta, alpha)
    return work


@formula("addr")
def addr(self: Tensor, a: Tensor, b: Tensor, *, out: Tensor, beta: Any = 1, alpha: Any = 1) -> Work:
    """FLOPs of an outer product added to a matrix.

    self: broadcast to [m, n], a: [m], b: [n] -> out: [m, n]
    Counts m*n multiplies, six for complex numbers, and m*n adds; nothing is
    accumulated, so no MACs.
    Source: the definition in the documentation of torch.addr.
    """
    multiply = 6 if out.is_complex() else 1
    return Work(arithmetic=a.shape[0] * b.shape[0] * multiply + _added(out, beta, alpha))


@formula("mkldnn_linear", "linear")
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


def gradients_of_product(grad: Tensor, terms: int, asked: int, *, rows: int = 0) -> Work:
    """Work of the gradients of a product: `asked` of them, and of a bias over some rows."""
    bias = grad.numel() - grad.numel() // rows if rows else 0
    return Work(
        macs=asked * grad.numel() * terms * real_factor(grad),
        arithmetic=bias * (2 if grad.is_complex() else 1),
    )


@formula("linear_backward", "mkldnn_linear_backward")
def linear_backward(x: Tensor, grad: Tensor, weight: Tensor, mask: list[bool], *, out: Any) -> Work:
    """FLOPs of the backward of a linear layer.

    x: [..., k], grad: [..., n], weight: [n, k] -> out: gradients of x, weight and bias
    Counts, for the gradients of x and of weight that are asked for, k
    multiply-accumulates for each element of grad, and for that of the bias the adds of
    its sum over the rows.
    Source: the derivative of the definition of torch.nn.Linear.
    """
    of_x, of_weight, of_bias = mask
    rows = grad.numel() // max(1, weight.shape[0]) if of_bias else 0
    return gradients_of_product(grad, weight.shape[1], of_x + of_weight, rows=rows)


@formula("mkldnn_linear_backward_input")
def mkldnn_linear_backward_input(
    size: list[int], grad: Tensor, weight: Tensor, *, out: Tensor
) -> Work:
    """FLOPs of the gradient of the input of a linear layer, in oneDNN's own layout.

    grad: [..., n], weight: [n, k] -> out: [..., k]
    Counts k multiply-accumulates for each element of grad.
    Source: the derivative of the definition of torch.nn.Linear.
    """
    return gradients_of_product(grad, weight.shape[1], 1)


@formula("mkldnn_linear_backward_weights")
def mkldnn_linear_backward_weights(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, *, out: Any
) -> Work:
    """FLOPs of the gradients of weight and bias of a linear layer, in oneDNN's own layout.

    grad: [..., n], x: [..., k] -> out: [n, k], and [n] with a bias
    Counts k multiply-accumulates for each element of grad, and the adds of the sum over
    the rows with a bias.
    Source: the derivative of the definition of torch.nn.Linear.
    """
    rows = grad.numel() // max(1, weight.shape[0]) if has_bias else 0
    return gradients_of_product(grad, weight.shape[1], 1, rows=rows)


@formula("matmul_backward")
def matmul_backward(
    grad: Tensor, self: Tensor, other: Tensor, mask: list[bool], *, out: Any
) -> Work:
    """FLOPs of the backward of a product of any dimensions.

    self: [..., m, k], other: [..., k, n], grad: [..., m, n] -> out: gradients of both
    Counts, for each gradient that is asked for, k multiply-accumulates for each element
    of grad, and the adds over the dimensions of a batch that was broadcast.
    Source: the derivative of the definition of torch.matmul.
    """
    work = gradients_of_product(grad, self.shape[-1], sum(mask))
    if self.dim() > 1 and other.dim() > 1:
        whole = grad.numel() // max(1, grad.shape[-1] * grad.shape[-2])
        add = 2 if grad.is_complex() else 1
        for operand, is_asked in zip((self, other), mask, strict=True):
            size = operand.shape[-1] * operand.shape[-2]
            if is_asked:
                work += Work(arithmetic=(whole * size - operand.numel()) * add)
    return work


@formula("_trilinear")
def trilinear(
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
    *,
    out: Tensor,
) -> Work:
    """FLOPs of a sum over products of three tensors, which is a bilinear layer.

    For torch.nn.Bilinear, i1: [b, i], i2 (the weight): [o, i, j], i3: [b, j] -> out: [b, o]
    Counts b*o*i*j multiply-accumulates for i1 with the weight and b*o*j for the result
    with i3; in general, two contractions for each slice of the unrolled dimension, and
    the adds of the slices when that dimension is summed over. Where two tensors meet and
    nothing is summed, as in the backward, their products are multiplies and no MACs.
    Source: the order in which torch contracts them, from left to right.
    """
    sizes = _trilinear_sizes((i1, i2, i3), (expand1, expand2, expand3))
    dims = {dim for dim in range(len(sizes)) if dim != unroll_dim}
    summed = dims & set(sumdim)
    first = summed & set(expand3)
    inner, left = _contract(sizes, dims - set(expand1), dims - set(expand2), first)
    outer, _ = _contract(sizes, left, dims - set(expand3), summed - first)
    slices = sizes[unroll_dim]
    macs, multiplies, adds = (slices * (a + b) for a, b in zip(inner, outer, strict=True))
    if unroll_dim in sumdim:
        adds += max(0, slices - 1) * out.numel()
    multiply, add = (6, 2) if out.is_complex() else (1, 1)
    return Work(macs=macs * real_factor(out), arithmetic=multiplies * multiply + adds * add)


def _trilinear_sizes(tensors: tuple[Tensor, ...], expanded: tuple[list[int], ...]) -> list[int]:
    """The size of every dimension, of those tensors that have it."""
    sizes = [1] * (tensors[0].dim() + len(expanded[0]))
    for tensor, missing in zip(tensors, expanded, strict=True):
        own = [dim for dim in range(len(sizes)) if dim not in missing]
        for dim, size in zip(own, tensor.shape, strict=True):
            sizes[dim] = size
    return sizes


def _contract(
    sizes: list[int], left: set[int], right: set[int], summed: set[int]
) -> tuple[tuple[int, int, int], set[int]]:
    """MACs, multiplies and adds of contracting two tensors, and the dimensions that remain.

    left, right: the dimensions that they have. A summed one that one of them alone has is
    added up before.
    """
    alone = summed & (left ^ right)
    adds = 0
    for side in (left, right):
        before = math.prod(sizes[dim] for dim in side)
        adds += before - math.prod(sizes[dim] for dim in side - alone)
    products = math.prod(sizes[dim] for dim in (left | right) - alone)
    work = (products, 0, adds) if summed - alone else (0, products, adds)
    return work, (left | right) - summed
