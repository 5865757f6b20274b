"""Operators of torch that are known and not counted: reported wherever they run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

NOT_COUNTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "_cslt_sparse_mm_search": "tries many products to find the fastest, on CUDA alone",
        "_foobar": "torch's own test of its code generator",
        "_sparse_semi_structured_tile": "prunes by the values that it finds, on CUDA alone",
        "_spsolve": "costs by the fill-in of the factors, which depends on the structure",
        "_test_autograd_multiple_dispatch": "torch's own test of dispatching",
        "_test_autograd_multiple_dispatch_view_copy": "torch's own test of dispatching",
        "_test_functorch_fallback": "torch's own test of functorch",
        "_test_optional_filled_intlist": "torch's own test of its bindings",
        "_test_optional_floatlist": "torch's own test of its bindings",
        "_test_optional_intlist": "torch's own test of its bindings",
        "_test_parallel_materialize": "torch's own test of its threads",
        "_test_warn_in_autograd": "torch's own test of warnings",
    }
)
"""Names of aten without a formula, and why. A test fails for any other that has none."""
