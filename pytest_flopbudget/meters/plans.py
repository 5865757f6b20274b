"""What the counter does with each operator: decided at first sight, kept for the next call."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch._ops import OpOverload

from pytest_flopbudget.meters import formulas
from pytest_flopbudget.meters.bindings import call_of
from pytest_flopbudget.meters.formulas import pointwise, registry
from pytest_flopbudget.meters.formulas.free import ALLOCATIONS, QUESTIONS
from pytest_flopbudget.meters.formulas.registry import (
    Formula,
    formula_for,
    is_free,
    is_taught,
    nested_formula_for,
    sparse_formula_for,
)
from pytest_flopbudget.meters.places import PLACES, PlacesOf

assert formulas.FAMILIES  # noqa: S101 - importing the families is what fills the registry


class Road(enum.Enum):
    """How the counter handles an operator."""

    COUNT = "count"
    """A formula gives its arithmetic."""
    FREE = "free"
    """It moves data and does no arithmetic."""
    VIEW = "view"
    """It moves nothing: views, allocations, questions."""
    DECOMPOSE = "decompose"
    """It is composed of other operators: those are counted in its place."""
    LOOK_INSIDE = "look inside"
    """Its kernel calls other operators: those are counted in its place."""
    OPAQUE = "opaque"
    """Somebody's own: what its body calls is counted, and it is reported if that is not all."""
    HIGHER_ORDER = "higher order"
    """It calls functions that it is given: what they call is counted."""
    UNKNOWN = "unknown"
    """No formula: reported as uncounted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of one operator overload."""

    road: Road
    name: str
    """Without overload, such as `aten.convolution`: the name that reports group by."""
    overload: str
    """With overload, such as `aten.add.Tensor`."""
    call: Callable[..., Any]
    """What runs it."""
    is_free: bool = False
    """Whether it does no arithmetic."""
    formula: Formula | None = None
    sparse_formula: Formula | None = None
    nested_formula: Formula | None = None
    parts_key: Any = None
    """Dispatch key of the kernel that is composed of other operators."""
    nested_parts_key: Any = None
    """The same for strided nested tensors; None where they have a kernel of their own."""
    written: tuple[int, ...] = ()
    """Positions of the positional arguments that it writes."""
    written_keywords: tuple[str, ...] = ()
    """Names of the keyword arguments that it writes, such as `out`."""
    takes_packages: bool = False
    """Whether it is given weights that are packed for a library, and are no tensors."""
    takes_weight: bool = False
    """Whether only the first tensor that it is given was made by other operators."""
    is_read_modify: bool = True
    """Whether a written positional argument is read too; not so for `copy_` and `fill_`."""
    reads_rows: int | None = None
    """Position of a table of which only the picked rows are read, such as an embedding's."""
    unread: tuple[int, ...] = ()
    """Positions of the arguments that it asks for shape and dtype alone, such as `ones_like`'s."""
    places: PlacesOf | None = None
    """Of the first argument, what it writes by index, where that is not all of it."""
    per_element: int | None = None
    """FLOPs for each element of a real result, where that is the whole formula."""
    most_arguments: int = 0
    """With how many positional arguments, and no keywords, `per_element` holds."""
    reads_all_and_writes_its_result: bool = False
    """Whether every argument is read whole, and nothing but the result is written."""
    tensors_up_to: int | None = None
    """Before which positional argument all tensors stand; None where it is not known."""
    has_tensor_keywords: bool = True
    """Whether a keyword argument may be a tensor."""
    is_for_strided: bool = False
    """Whether it takes no sparse or nested tensors."""
    returns_views: bool = False
    """Whether all that it returns shows an argument's storage."""


_LOOKED_INSIDE: Final = frozenset(
    {
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
    }
)
"""Fused operators of inference mode that call ordinary operators on the CPU.

Only what is known to call them through the dispatcher stands here: a kernel that calls
another one directly would be a silent zero.
"""

_OVERWRITES: Final = frozenset(
    {
        "aten::copy_",
        "aten::_foreach_copy_",
        "aten::_foreach_zero_",
        "aten::_philox_normal_",
        "aten::_philox_uniform_",
        "aten::bernoulli_",
        "aten::cauchy_",
        "aten::exponential_",
        "aten::fill_",
        "aten::geometric_",
        "aten::log_normal_",
        "aten::normal_",
        "aten::random_",
        "aten::uniform_",
        "aten::zero_",
    }
)
"""In-place operators that write their first argument without reading it."""

_PICKS: Final = {
    "aten::_unsafe_index": 0,
    "aten::as_strided_copy": 0,
    "aten::diagonal_copy": 0,
    "aten::embedding": 0,
    "aten::gather": 0,
    "aten::index": 0,
    "aten::index_select": 0,
    "aten::narrow_copy": 0,
    "aten::select_copy": 0,
    "aten::slice_copy": 0,
    "aten::take": 0,
    "aten::unfold_copy": 0,
}
"""Operators that read of a table what they return of it, and the table's position."""

_TEMPLATES: Final = frozenset(
    {
        "aten::_foreach_copy",
        "aten::_foreach_zero",
        "aten::_philox_normal",
        "aten::_philox_uniform",
        "aten::bernoulli.Tensor",
        "aten::bernoulli.Tensor_out",
        "aten::bernoulli.float_out",
        "aten::bernoulli.p",
        "aten::cauchy",
        "aten::copy",
        "aten::exponential",
        "aten::fill",
        "aten::full_like",
        "aten::geometric",
        "aten::log_normal",
        "aten::new_full",
        "aten::new_ones",
        "aten::new_zeros",
        "aten::normal_functional",
        "aten::ones_like",
        "aten::rand_like",
        "aten::randint_like",
        "aten::randn_like",
        "aten::random",
        "aten::uniform",
        "aten::zero",
        "aten::zeros_like",
    }
)
"""Operators, or overloads, that take their first argument for its shape and dtype alone."""

_PAIRS_OF_TEMPLATES: Final = frozenset({"aten::_new_zeros_with_same_feature_meta"})
"""Operators that take their first two arguments so."""

_FOR_THEIR_SHAPE: Final = frozenset(
    f"aten::{name}_backward"
    for name in (
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "avg_pool2d",
        "avg_pool3d",
        "fractional_max_pool2d",
        "fractional_max_pool3d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "nll_loss",
        "nll_loss2d",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
    )
)
"""Backwards that take the input of the forward, their second argument, for its shape alone."""

_NO_LAUNCH: Final = frozenset(
    name if "::" in name else f"aten::{name}" for name in (*ALLOCATIONS, *QUESTIONS)
)
_BOOKKEEPING: Final = frozenset({"prim", "profiler"})
"""Namespaces whose operators look at tensors or mark time, and compute nothing."""
_KEYS: Final = torch._C.DispatchKey
_COMPOSITE: Final = _KEYS.CompositeImplicitAutograd
_OTHER_LAYOUTS: Final = tuple(
    key
    for name, key in vars(_KEYS).items()
    if name.startswith(("Sparse", "NestedTensor", "Composite"))
)
"""Keys of kernels that other tensors than strided ones may get to, those of composites included."""
_STRIDED_BY_HAND: Final = frozenset({"aten::convolution"})
"""Composites that refuse all others, whatever their kernels are registered for."""
_NOT_LOOKED_INTO: Final = frozenset(
    {"_c10d_functional", "_c10d_functional_autograd", "aten", "c10d", "symm_mem"}
)
"""Namespaces whose kernels are known by name, or wait for other processes."""
_ANY_ARGUMENTS: Final = 9
_COMPUTE_THEMSELVES: Final = (
    "aten::choose_qparams_optimized",
    "aten::fbgemm_",
    "aten::_saturate_weight_to_fp16",
)
"""Composites that call no operator for their work, and stand for it where they are seen."""
_REAL_OF_COMPLEX: Final = frozenset({"aten::abs", "aten::angle"})
"""Element-wise operators whose real result may come of complex numbers, at another cost."""
_WRAPPED: Final = re.compile(r"^(Optional\[|List\[)*")
_PLAIN_TYPES: Final = frozenset(
    {"int", "float", "bool", "number", "complex", "str", "Device", "Generator", "Stream"}
    | {"SymInt", "SymFloat", "SymBool"}
)
"""Types of a schema that are no tensors."""
_VIEWS_BY_HAND: Final = frozenset(
    {
        "aten::_unsafe_view",
        "aten::as_strided_",
        "aten::detach_",
        "aten::lift",
        "aten::lift_fresh",
        "aten::squeeze_",
        "aten::t_",
        "aten::transpose_",
        "aten::unsqueeze_",
        "aten::unsafe_split",
        "aten::unsafe_split_with_sizes",
    }
)
"""Views whose schema does not say so, and those in place, which move no data either."""


def has_kernel(operator: OpOverload, key: Any) -> bool:
    """Whether torch has a kernel in C++ for this dispatch key; some operators have none at all."""
    name = operator.name()
    is_known = torch._C._dispatch_has_kernel(name)
    return is_known and torch._C._dispatch_has_kernel_for_dispatch_key(name, key)


_KNOWN: Final[dict[int, tuple[Any, int, Plan]]] = {}
"""Plans that were made, by the id of the operator, which is kept: its hash would run Python.

Each with its operator and the state of the registry that it was made of.
"""


def known_plan(func: Any) -> Plan:
    """The plan of an operator, made anew only after a formula has been registered."""
    known = _KNOWN.get(id(func))
    if known is None or known[1] != registry.state():
        known = _KNOWN[id(func)] = (func, registry.state(), plan_for(func))
    return known[2]


def plan_for(func: Any) -> Plan:
    """The plan of an operator overload, or of a higher-order operator."""
    if not isinstance(func, OpOverload):
        name = f"higher_order.{func.name() if callable(getattr(func, 'name', None)) else func}"
        return Plan(Road.HIGHER_ORDER, name, name, func)
    schema = func._schema
    name = schema.name
    formula, sparse = formula_for(name), sparse_formula_for(name)
    marked = [
        (position, argument)
        for position, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    written = tuple(at for at, argument in marked if not argument.kwarg_only)
    written_keywords = tuple(argument.name for _, argument in marked if argument.kwarg_only)
    is_read_modify = name not in _OVERWRITES
    returns_what_it_writes = written == (0,) and is_read_modify and len(schema.returns) == 1
    unread, places = _unread(func, name), PLACES.get(name)
    is_touching_all = name not in _PICKS and not unread and places is None
    per_element, most_arguments = _per_element(name)
    is_tensor = [not _is_without_tensors(argument.type) for argument in schema.arguments]
    positional = [a and not b.kwarg_only for a, b in zip(is_tensor, schema.arguments, strict=True)]
    nested = nested_formula_for(name)
    road = _road(func, name, formula or sparse or nested, bool(marked))
    parts_key, nested_parts_key = _parts_keys(func, name, road)
    return Plan(
        road=road,
        name=name.replace("::", "."),
        overload=str(func),
        call=call_of(func),
        is_free=road is Road.FREE,
        formula=formula,
        sparse_formula=sparse,
        nested_formula=nested,
        parts_key=parts_key,
        nested_parts_key=nested_parts_key,
        written=written,
        written_keywords=written_keywords,
        takes_packages=any("__torch__" in str(argument.type) for argument in schema.arguments),
        takes_weight=any(argument.name == "weight" for argument in schema.arguments),
        is_read_modify=is_read_modify,
        reads_rows=_PICKS.get(name),
        unread=unread,
        places=places,
        per_element=per_element,
        most_arguments=most_arguments,
        reads_all_and_writes_its_result=(
            is_touching_all and not written_keywords and (not written or returns_what_it_writes)
        ),
        tensors_up_to=max((at for at, holds in enumerate(positional, 1) if holds), default=0),
        has_tensor_keywords=is_tensor != positional,
        is_for_strided=(
            name in _STRIDED_BY_HAND or not any(has_kernel(func, key) for key in _OTHER_LAYOUTS)
        ),
        returns_views=(
            not marked
            and name not in _VIEWS_BY_HAND
            and all(result.alias_info is not None for result in schema.returns)
        ),
    )


def _unread(func: OpOverload, name: str) -> tuple[int, ...]:
    """Positions of the arguments whose elements an operator does not look at."""
    if name in _PAIRS_OF_TEMPLATES:
        return (0, 1)
    if name in _FOR_THEIR_SHAPE:
        return (1,)
    return (0,) if name in _TEMPLATES or func.name() in _TEMPLATES else ()


def _is_without_tensors(kind: Any) -> bool:
    """Whether values of this type of a schema's are no tensors and hold none."""
    name = _WRAPPED.sub("", str(kind)).rstrip("]")
    return name in _PLAIN_TYPES


def _parts_keys(func: OpOverload, name: str, road: Road) -> tuple[Any, Any]:
    """Keys of the kernels that are composed of others, for plain and for nested tensors."""
    if func.namespace == "prims":
        return _KEYS.CompositeExplicitAutograd, None
    if road is Road.LOOK_INSIDE:
        return _KEYS.CPU, _KEYS.NestedTensorCPU
    if road is not Road.DECOMPOSE:
        return None, None
    keys = (_KEYS.CompositeImplicitAutogradNestedTensor, _KEYS.NestedTensorCPU, _COMPOSITE)
    nested = next(key for key in keys if has_kernel(func, key))
    is_own = nested is _KEYS.NestedTensorCPU or nested_formula_for(name) is not None
    return _COMPOSITE, None if is_own else nested


def _per_element(name: str) -> tuple[int | None, int]:
    """FLOPs for each element of a real result, and up to how many arguments that is so."""
    if is_taught(name) or name in _REAL_OF_COMPLEX:
        return None, 0
    plain = name.removeprefix("aten::").removesuffix("_")
    cost = pointwise.PER_ELEMENT.get(plain)
    if cost is not None:
        return cost, _ANY_ARGUMENTS
    return pointwise.PER_ELEMENT_WITHOUT_OPTIONS.get(plain), 2


def _road(  # noqa: PLR0911 - one return for each road
    func: OpOverload, name: str, formula: Formula | None, is_writing: bool
) -> Road:
    if func.namespace in _BOOKKEEPING:
        return Road.VIEW  # the dispatcher knows nothing of these
    # The kernel in C++, which runs without a counter too: torch has Python ones for tracing
    # beside some, and they do not always do the same.
    is_composite = has_kernel(func, _COMPOSITE) and not has_kernel(func, _KEYS.CPU)
    if formula is not None and (
        is_taught(name) or not is_composite or name.startswith(_COMPUTE_THEMSELVES)
    ):
        return Road.COUNT
    if name in _VIEWS_BY_HAND or _functional_in(name, _NO_LAUNCH):
        return Road.VIEW
    if is_free(name) and (not is_composite or name.startswith(_COMPUTE_THEMSELVES)):
        return Road.FREE
    if name in _LOOKED_INSIDE:
        return Road.LOOK_INSIDE
    # Before the views: `to` and `reshape` may return their argument, and may copy it.
    if is_composite:
        return Road.DECOMPOSE
    if not is_writing and any(result.alias_info is not None for result in func._schema.returns):
        return Road.VIEW
    if func.namespace == "prims" and has_kernel(func, _KEYS.CompositeExplicitAutograd):
        return Road.LOOK_INSIDE
    return Road.UNKNOWN if func.namespace in _NOT_LOOKED_INTO else Road.OPAQUE


def _functional_in(name: str, names: frozenset[str]) -> bool:
    return name in names or name.removesuffix("_") in names
