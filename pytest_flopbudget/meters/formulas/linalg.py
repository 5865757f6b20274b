"""Linear algebra: the operation counts of the textbooks, rounded down for each matrix.

All of it is plain arithmetic and no MACs. A complex matrix takes four times as much, since
these algorithms are sums of products. Searches for pivots are not counted, as the sources
have it. Where the work depends on the matrix, a convention stands in its place.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.contractions import real_factor
from pytest_flopbudget.meters.formulas.registry import Work, formula


def matrices(a: Tensor) -> int:
    """How many matrices the batch has."""
    return math.prod(a.shape[:-2])


def each_matrix(a: Tensor, thirds: int) -> int:
    """FLOPs of something that takes a third of `thirds` FLOPs for each matrix of `a`.

    Rounded down for one matrix, so that a batch costs a multiple of it; at least one.
    """
    if not thirds:
        return 0
    return matrices(a) * max(1, thirds * real_factor(a) // 3)


def lu_thirds(a: Tensor) -> int:
    """Three times the FLOPs of an LU factorisation: r*r*(3*s - r), r <= s being the sides."""
    short, long = sorted(a.shape[-2:])
    return short * short * (3 * long - short)


def qr_thirds(a: Tensor) -> int:
    """Three times the FLOPs of a QR factorisation that leaves its reflections as they are."""
    return 2 * lu_thirds(a)


def reflectors_thirds(m: int, n: int, k: int) -> int:
    """Three times the FLOPs of multiplying out k reflections to m x n of a unitary matrix."""
    return 12 * m * n * k - 6 * (m + n) * k * k + 4 * k**3


def first(out: Any) -> Tensor:
    """The result, or the first of several."""
    return out if isinstance(out, Tensor) else out[0]


def solve(size: int, out: Tensor) -> int:
    """FLOPs of two triangular solves for each right-hand side: 2 n^2."""
    return 2 * size * out.numel() * real_factor(out)


@formula("linalg_cholesky_ex", "cholesky", "linalg_ldl_factor_ex")
def cholesky(a: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of a Cholesky or an LDL factorisation.

    a: [..., n, n] -> out: the same shape
    Counts n^3/3 for each matrix.
    Source: LAPACK Working Note 41, appendix C, xPOTRF and xSYTRF.
    """
    return each_matrix(a, a.shape[-1] ** 3)


@formula("cholesky_inverse")
def cholesky_inverse(a: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of the inverse from a Cholesky factor.

    a: [..., n, n] -> out: the same shape
    Counts 2n^3/3 for each matrix.
    Source: LAPACK Working Note 41, xPOTRI.
    """
    return each_matrix(a, 2 * a.shape[-1] ** 3)


@formula("cholesky_solve", "_cholesky_solve_helper")
def cholesky_solve(b: Tensor, factor: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of solving a system from its Cholesky factor.

    b: [..., n, k], factor: [..., n, n] -> out: [..., n, k]
    Counts two triangular solves of n^2 for each of the k right-hand sides.
    Source: LAPACK Working Note 41, xPOTRS.
    """
    return solve(factor.shape[-1], out)


@formula("linalg_lu_factor_ex", "linalg_lu")
def lu(a: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of an LU factorisation.

    a: [..., m, n] -> out: its factors
    Counts mn^2 - n^3/3 for each matrix with m >= n, which is 2n^3/3 when it is square,
    and m^2 n - m^3/3 for a wide one.
    Source: LAPACK Working Note 41, xGETRF; a wide matrix as LAPACK's own dopla.f has it.
    """
    return each_matrix(a, lu_thirds(a))


@formula("linalg_lu_solve", "linalg_ldl_solve")
def lu_solve(factors: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of solving a system from its LU or LDL factors.

    factors: [..., n, n] -> out: [..., n, k], or [..., k, n] from the right
    Counts two triangular solves of n^2 for each of the k right-hand sides.
    Source: LAPACK Working Note 41, xGETRS and xSYTRS.
    """
    return solve(factors.shape[-1], out)


@formula("_linalg_solve_ex")
def linalg_solve(a: Tensor, _b: Tensor, *, out: Any, **_: Any) -> int:
    """FLOPs of solving a linear system.

    a: [..., n, n] -> out: [..., n, k] or [..., n], or [..., k, n] from the right
    Counts 2n^3/3 for the LU factorisation of each matrix, and 2n^2 for each of the k
    right-hand sides.
    Source: LAPACK Working Note 41, xGETRF and xGETRS.
    """
    return each_matrix(a, lu_thirds(a)) + solve(a.shape[-1], first(out))


@formula("linalg_inv_ex")
def inverse(a: Tensor, *_args: Any, out: Any, **_: Any) -> int:
    """FLOPs of an inverse.

    a: [..., n, n] -> out: the same shape
    Counts a solve for the identity: 2n^3/3 + 2n^3 for each matrix.
    Source: what torch runs. Other programs invert the factors, which takes 2n^3 in all.
    """
    return each_matrix(a, lu_thirds(a)) + solve(a.shape[-1], a)


@formula("_linalg_det")
def determinant(a: Tensor, *, out: Any) -> int:
    """FLOPs of a determinant.

    a: [..., n, n] -> out: [...]
    Counts the LU factorisation, 2n^3/3, and n multiplies of its diagonal and its sign.
    Source: the algorithm that torch runs.
    """
    multiply = 6 if a.is_complex() else 1
    return each_matrix(a, lu_thirds(a)) + multiply * matrices(a) * a.shape[-1]


@formula("_linalg_slogdet")
def log_determinant(a: Tensor, *, out: Any) -> int:
    """FLOPs of the sign and the logarithm of a determinant.

    a: [..., n, n] -> out: [...] each
    Counts the LU factorisation, 2n^3/3; of its diagonal n signs, n multiplies of them,
    n absolute values, n logarithms and n - 1 adds.
    Source: the algorithm that torch runs. A complex sign is a division by the absolute
    value (6), a multiply 6.
    """
    size = a.shape[-1]
    # A complex absolute value is two squares, an add and a root.
    sign, multiply, absolute = (6, 6, 4) if a.is_complex() else (1, 1, 1)
    diagonal = size * (sign + multiply + absolute + 1) + max(0, size - 1)
    return each_matrix(a, lu_thirds(a)) + matrices(a) * diagonal


@formula("linalg_solve_triangular")
def solve_triangular(
    a: Tensor, _b: Tensor, *, out: Tensor, unitriangular: bool = False, **_: Any
) -> int:
    """FLOPs of solving a triangular system.

    a: [..., n, n] -> out: [..., n, k], or [..., k, n] from the right
    Counts n^2 for each of the k right-hand sides: n divisions, none where the diagonal
    is ones, and n(n - 1)/2 multiplies and subtractions.
    Source: LAPACK Working Note 41, xTRSM and its note on unit triangles.
    """
    return (a.shape[-1] - bool(unitriangular)) * out.numel() * real_factor(out)


@formula("triangular_solve")
def triangular_solve(
    _b: Tensor,
    a: Tensor,
    _upper: bool = True,
    _transpose: bool = False,
    unitriangular: bool = False,
    *,
    out: Any,
    **_: Any,
) -> int:
    """FLOPs of solving a triangular system, in the older form.

    a: [..., n, n] -> out: [..., n, k], and a copy of a
    Counts as `linalg_solve_triangular`.
    Source: LAPACK Working Note 41, xTRSM and its note on unit triangles.
    """
    return solve_triangular(a, _b, out=first(out), unitriangular=unitriangular)


@formula("linalg_qr")
def qr(a: Tensor, mode: str = "reduced", *, out: Any) -> int:
    """FLOPs of a QR factorisation.

    a: [..., m, n] -> out: [..., m, r] and [..., r, n]
    Counts, for each matrix with m >= n, 2mn^2 - 2n^3/3 for R, and as much again to form Q
    in mode "reduced"; in mode "complete" 4(m^2 n - mn^2 + n^3/3) to form Q, in mode "r"
    nothing. A wide matrix has m reflections, and R takes 2m^2 n - 2m^3/3.
    Source: LAPACK Working Note 41, xGEQRF and xORGQR.
    """
    thirds = qr_thirds(a)
    rows, columns = a.shape[-2:]
    reflections = min(rows, columns)
    if mode != "r":
        width = rows if mode == "complete" else reflections
        thirds += reflectors_thirds(rows, width, reflections)
    return each_matrix(a, thirds)


@formula("geqrf")
def geqrf(a: Tensor, *, out: Any) -> int:
    """FLOPs of a QR factorisation that leaves Q as reflections.

    a: [..., m, n] -> out: the same shape, and [..., min(m, n)]
    Counts 2mn^2 - 2n^3/3 for each matrix with m >= n, 2m^2 n - 2m^3/3 for a wide one.
    Source: LAPACK Working Note 41, xGEQRF.
    """
    return each_matrix(a, qr_thirds(a))


@formula("linalg_householder_product")
def householder_product(a: Tensor, tau: Tensor, *, out: Tensor) -> int:
    """FLOPs of multiplying out reflections.

    a: [..., m, n], tau: [..., k] -> out: [..., m, n]
    Counts 4mnk - 2(m + n)k^2 + 4k^3/3 for each matrix.
    Source: LAPACK Working Note 41, xORGQR.
    """
    return each_matrix(a, reflectors_thirds(a.shape[-2], a.shape[-1], tau.shape[-1]))


@formula("ormqr")
def ormqr(
    _reflections: Tensor, tau: Tensor, c: Tensor, left: bool = True, *_args: Any, out: Tensor
) -> int:
    """FLOPs of a product with the unitary matrix that reflections make.

    tau: [..., k], c: [..., m, n] -> out: [..., m, n]
    Counts 4mnk - 2nk^2 for each matrix, 4mnk - 2mk^2 when c is multiplied from the right.
    Source: LAPACK Working Note 41, xORMQR.
    """
    rows, columns = c.shape[-2:]
    reflections = tau.shape[-1]
    sides = 2 * rows * columns - (columns if left else rows) * reflections
    return each_matrix(c, 3 * 2 * reflections * sides)


@formula("linalg_lstsq")
def lstsq(
    a: Tensor,
    _b: Tensor,
    _rcond: float | None = None,
    *,
    out: Any,
    driver: str | None = None,
    **_: Any,
) -> int:
    """FLOPs of a least-squares solution.

    a: [..., m, n], b: [..., m, k] -> out: [..., n, k]
    Counts, with r <= s the sides of a, 2sr^2 - 2r^3/3 for its QR factorisation and
    4sr - r^2 for each right-hand side; for a wide matrix 2r^2 (s - r) more to make R square,
    but not with the driver gels. With gelsd the smaller of 4sr^2 - 4r^3/3 and 2sr^2 + 2r^3 to
    make it bidiagonal, with gelss 4sr^2 + 8r^3 for the singular values and V, and 4sr for
    each right-hand side, 2r^2 more where a QR factorisation comes first.
    Source: LAPACK Working Note 41, appendix C, xGEQRF, xGEQRS, xTZRZF and xGEBRD; Golub and
    Van Loan, 4th ed., 8.6 for gelss. The search for the rank is of lower order.
    """
    solution = first(out)
    short, long = sorted(a.shape[-2:])
    columns = solution.numel() // max(1, a.shape[-1])  # of all matrices
    each = 4 * long * short
    if driver == "gelss":
        thirds = 12 * long * short**2 + 24 * short**3
    elif driver == "gelsd":
        direct, after_qr = 2 * qr_thirds(a), 6 * long * short**2 + 6 * short**3
        thirds = min(direct, after_qr)
        each += 2 * short**2 if after_qr < direct else 0
    else:
        thirds, each = qr_thirds(a), each - short**2
        if driver != "gels" and a.shape[-2] < a.shape[-1] and a.device.type == "cpu":
            thirds += 6 * short**2 * (long - short)  # gelsy, which elsewhere is not to be had
    return each_matrix(a, thirds) + columns * each * real_factor(a)


@formula("_compute_linear_combination")
def linear_combination(x: Tensor, coefficients: Tensor, *, out: Tensor) -> Work:
    """FLOPs of several weighted sums of the same tensors.

    x: [k, ...], coefficients: [m, k] -> out: [m, ...]
    Counts k multiply-accumulates for each element of out.
    Source: the definition, a product of matrices.
    """
    return Work(macs=out.numel() * coefficients.shape[1] * real_factor(out))


@formula("linalg_cross")
def cross(a: Tensor, _b: Tensor, *, out: Tensor, **_: Any) -> int:
    """FLOPs of cross products.

    a, b: [..., 3, ...] -> out: the same shape
    Counts two multiplies and one subtraction for each element of out; for complex numbers
    six each, and two.
    Source: the definition, and torch's decomposition.
    """
    return out.numel() * (14 if out.is_complex() else 3)
