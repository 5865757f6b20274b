"""How an operator is called again from a dispatch mode, as quickly as torch allows.

Every overload has a general call, which goes by its schema and boxes each argument. Most
operators have another in Python, generated for their very arguments, which takes two thirds of
the time. Both end in the same kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch._ops import OpOverload

_GENERATED: Final[Any] = torch._C._VariableFunctions
_TAKEN: Final = frozenset(
    {
        "aten::_log_softmax",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_softmax",
        "aten::add.Tensor",
        "aten::addmm",
        "aten::bmm",
        "aten::cat",
        "aten::clone",
        "aten::convolution",
        "aten::div.Tensor",
        "aten::embedding",
        "aten::exp",
        "aten::mean.dim",
        "aten::mkldnn_rnn_layer",
        "aten::mm",
        "aten::mul.Tensor",
        "aten::native_batch_norm",
        "aten::native_layer_norm",
        "aten::neg",
        "aten::permute",
        "aten::pow.Tensor_Scalar",
        "aten::relu",
        "aten::relu_",
        "aten::rsqrt",
        "aten::select.int",
        "aten::sigmoid",
        "aten::split.Tensor",
        "aten::stack",
        "aten::sub.Tensor",
        "aten::sum.dim_IntList",
        "aten::t",
        "aten::tanh",
        "aten::transpose.int",
        "aten::unsqueeze",
    }
)
"""The overloads that are called by the generated function of the same name.

They are what models call most. Such a function picks the overload by its arguments, so that only
those stand here of which it can pick no other.
"""
_METHODS: Final = {
    "aten::add_.Tensor": torch.Tensor.add_,
    "aten::expand": torch.Tensor.expand,
    "aten::mul_.Tensor": torch.Tensor.mul_,
    "aten::view": torch.Tensor.view,
}
"""The same for those that are methods of tensors alone."""
_OF_MODULES: Final = ("gelu", "max_pool2d_with_indices", "silu")


def _making(general: Callable[..., Any], quick: Callable[..., Any]) -> Callable[..., Any]:
    """Around a function that makes a tensor: without a device it would ask for Python's default."""

    def make(*args: Any, **kwargs: Any) -> Any:
        return (quick if "device" in kwargs else general)(*args, **kwargs)

    return make


def _known() -> dict[str, Callable[..., Any]]:
    found: dict[str, Any] = {
        name: getattr(_GENERATED, name.removeprefix("aten::").partition(".")[0], None)
        for name in _TAKEN
    }
    nn: Any = torch._C._nn
    found |= {f"aten::{name}": getattr(nn, name, None) for name in _OF_MODULES}
    found |= _METHODS
    aten: Any = torch.ops.aten
    found["aten::empty.memory_format"] = _making(aten.empty.memory_format._op, _GENERATED.empty)
    found["aten::zeros"] = _making(aten.zeros.default._op, _GENERATED.zeros)
    return {name: call for name, call in found.items() if call is not None}


BINDINGS: Final = _known()
"""The quick calls of this torch, by the operator's name with overload."""


def call_of(func: OpOverload) -> Callable[..., Any]:
    """What runs an overload once more."""
    # An overload's own call does what `_op` does, and no more.
    call: Callable[..., Any] = BINDINGS.get(func.name()) or func._op
    return call
