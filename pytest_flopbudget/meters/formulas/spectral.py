"""Singular values, eigenvalues and functions of matrices: conventions for what iterates.

Rounded down for each matrix, plain arithmetic and no MACs, four times for complex ones: a
convention as well, since what iterates on a real band turns complex vectors by real rotations.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pytest_flopbudget.meters.formulas.contractions import real_factor
from pytest_flopbudget.meters.formulas.linalg import each_matrix, matrices
from pytest_flopbudget.meters.formulas.registry import formula


def svd_thirds(m: int, n: int, *, vectors: bool, is_full: bool) -> int:
    """Three times the FLOPs of a singular value decomposition, m >= n.

    The smaller column of the table: Golub and Reinsch's algorithm, or the one that takes
    a QR factorisation before. With a part of U it is never dearer than with all of it.
    """
    if not vectors:
        return min(12 * m * n * n - 4 * n**3, 6 * m * n * n + 6 * n**3)
    full = 12 * m * m * n + min(24 * m * n * n + 27 * n**3, 66 * n**3)
    if is_full:
        return full
    return min(full, 42 * m * n * n + 24 * n**3, 18 * m * n * n + 60 * n**3)


def _svd(a: Tensor, *, vectors: bool, is_full: bool = False) -> int:
    n, m = sorted(a.shape[-2:])
    return each_matrix(a, svd_thirds(m, n, vectors=vectors, is_full=is_full))


@formula("_linalg_svd")
def svd(
    a: Tensor, full_matrices: bool = False, compute_uv: bool = True, *, out: Any, **_: Any
) -> int:
    """FLOPs of a singular value decomposition.

    a: [..., m, n], or [..., n, m], with m >= n -> out: [..., m, n], [..., n], [..., n, n]
    Counts, for each matrix with all of U, the smaller of 4m^2 n + 8mn^2 + 9n^3 and
    4m^2 n + 22n^3; with n columns of U the smallest of these, 14mn^2 + 8n^3 and
    6mn^2 + 20n^3; without vectors that of 4mn^2 - 4n^3/3 and 2mn^2 + 2n^3.
    Source: Golub and Van Loan, 4th ed., 8.6, Figure 8.6.1: Golub-Reinsch and R-SVD; without
    vectors xGEBRD, and xGEQRF before it, of LAPACK Working Note 41, appendix C. They
    iterate, so it is a convention: torch runs xGESDD, which divides and conquers, and for
    which the LAPACK Users' Guide gives 6.67n^3 for a square matrix.
    """
    return _svd(a, vectors=compute_uv, is_full=full_matrices)


@formula("linalg_svdvals")
def singular_values(a: Tensor, *, out: Tensor, **_: Any) -> int:
    """FLOPs of the singular values, where they are asked for alone.

    a: [..., m, n], or [..., n, m], with m >= n -> out: [..., n]
    Counts the smaller of 4mn^2 - 4n^3/3 and 2mn^2 + 2n^3 for each matrix.
    Source: LAPACK Working Note 41, appendix C, xGEBRD, and xGEQRF before it; what iterates
    after it is of lower order (Templates for the Solution of Algebraic Eigenvalue
    Problems, 6.2).
    """
    return _svd(a, vectors=False)


@formula("_linalg_eigh")
def eigh(a: Tensor, _uplo: str = "L", compute_v: bool = True, *, out: Any, **_: Any) -> int:
    """FLOPs of the eigenvalues and eigenvectors of a symmetric matrix.

    a: [..., n, n] -> out: [..., n] and [..., n, n]
    Counts 9n^3 for each matrix, and 4n^3/3 without the vectors.
    Source: Templates for the Solution of Algebraic Eigenvalue Problems, 4.2: 8n^3/3 to make
    it tridiagonal and a little over 6n^3 to iterate, which Golub and Van Loan, 4th ed.,
    8.3, round to 9n^3. A convention: torch runs xSYEVD, which divides and conquers.
    """
    return each_matrix(a, (27 if compute_v else 4) * a.shape[-1] ** 3)


@formula("linalg_eigvalsh")
def eigvalsh(a: Tensor, *_args: Any, out: Tensor, **_: Any) -> int:
    """FLOPs of the eigenvalues of a symmetric matrix, where they are asked for alone.

    a: [..., n, n] -> out: [..., n]
    Counts 4n^3/3 for each matrix.
    Source: LAPACK Working Note 41, appendix C, xSYTRD; what iterates after it is of lower
    order (Templates for the Solution of Algebraic Eigenvalue Problems, 4.2).
    """
    return eigh(a, "L", False, out=out)


@formula("linalg_eig")
def eig(a: Tensor, *, out: Any) -> int:
    """FLOPs of the eigenvalues and eigenvectors of a matrix.

    a: [..., n, n] -> out: [..., n] and [..., n, n]
    Counts 79n^3/3 for each matrix: 25n^3 for the Schur form, n^3/3 for its eigenvectors
    and n^3 to turn them back.
    Source: Templates for the Solution of Algebraic Eigenvalue Problems, 7.3, "a crude
    estimate"; with the eigenvectors the 26.33n^3 of the LAPACK Users' Guide, 3rd ed., Table
    3.13. It iterates, so it is a convention.
    """
    return each_matrix(a, 79 * a.shape[-1] ** 3)


@formula("linalg_eigvals", "_linalg_eigvals")
def eigvals(a: Tensor, *, out: Tensor) -> int:
    """FLOPs of the eigenvalues of a matrix.

    a: [..., n, n] -> out: [..., n]
    Counts 10n^3 for each matrix.
    Source: Templates for the Solution of Algebraic Eigenvalue Problems, 7.3, and the LAPACK
    Users' Guide, 3rd ed., Table 3.13: the QR algorithm, a convention.
    """
    return each_matrix(a, 30 * a.shape[-1] ** 3)


@formula("linalg_pinv")
def pinv(a: Tensor, *args: Any, out: Tensor, hermitian: bool = False, **_: Any) -> int:
    """FLOPs of a pseudo-inverse.

    a: [..., m, n] -> out: [..., n, m]
    Counts the singular value decomposition, or that into eigenvectors when it is
    Hermitian; with r = min(m, n) values a tolerance (2), r comparisons and r reciprocals,
    n*r multiplies of the vectors, and 2mnr for the product. A Hermitian matrix takes
    r absolute values and r - 1 comparisons more.
    Source: the algorithm that torch runs, in one operator.
    """
    hermitian = hermitian or bool(args[1:] and args[1])  # after rcond in the older form
    rows, columns = a.shape[-2:]
    values = min(rows, columns)
    if not values:
        return 0
    scaling = columns * values * (2 if a.is_complex() else 1)
    product = 2 * rows * columns * values * real_factor(a)
    search = 2 * values - 1 if hermitian else 0
    inner = eigh(a, out=out) if hermitian else _svd(a, vectors=True)
    return inner + matrices(a) * (2 + 2 * values + search + scaling + product)


@formula("linalg_matrix_exp")
def matrix_exp(a: Tensor, *, out: Tensor) -> int:
    """FLOPs of the exponential of a matrix.

    a: [..., n, n] -> out: the same shape
    Counts 10n^3 for each matrix, the five products of the polynomial of degree 18, and an
    exponential for n = 1. A small norm needs fewer products, and a large one one more for
    each time it is halved: that is data, so it is a convention.
    Source: Bader, Blanes and Casas, Computing the Matrix Exponential with an Optimized
    Taylor Polynomial Approximation (2019), which torch follows.
    """
    if a.shape[-1] == 1:
        # e^(x + iy) takes an exponential, a sine, a cosine and two multiplies.
        return a.numel() * (5 if a.is_complex() else 1)
    return each_matrix(a, 30 * a.shape[-1] ** 3)
