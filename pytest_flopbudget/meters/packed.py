"""Weights that torch.ao packs into an object of C++, where no operator sees a tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

_HALF_NBYTES: Final = 2
"""Of an element in a package of half precision, which unpacks to single precision."""
_SCALE_NBYTES: Final = 8 + 8
"""Of a scale and a zero point that are numbers of C++."""
_KINDS: Final = re.compile(r"\bclasses\.(quantized\.\w+PackedParamsBase|rnn\.CellParamsBase)\b")
"""Packages of linear layers, convolutions, embeddings and recurrent cells."""


def is_packed(value: Any) -> bool:
    """Whether this is an object of C++ that holds weights, as quantised modules have."""
    # The name is __torch__.torch.classes.quantized.LinearPackedParamsBase, or such.
    return isinstance(value, torch.ScriptObject) and _KINDS.search(str(value._type())) is not None


def has_bias(packed: Any) -> bool:
    """Whether a linear layer's package has a bias."""
    with _disable_current_modes():
        return packed.bias() is not None


def is_quantised(packed: Any) -> bool:
    """Whether the weights in a package of linear or recurrent layers are integers."""
    with _disable_current_modes():
        if not packed._has_method("unpack"):
            # A recurrent cell, whose state is its kind and its weights.
            return "fp16" not in packed.__getstate__()[0][0]
        return bool(packed.unpack()[0].is_quantized)


def convolution_in(packed: Any) -> tuple[Tensor, Tensor | None, bool]:
    """The weight and the bias of a convolution's package, and whether it is transposed.

    weight: [out_channels, in_channels/groups, *kernel], or for a transposed convolution
    [in_channels, out_channels/groups, *kernel]. That of a one-dimensional convolution has
    a dimension of one before its kernel.
    """
    with _disable_current_modes():
        weight, bias = packed.unpack()
        return weight, bias, bool(packed.transpose())


def tensors_in_package(packed: Any) -> list[tuple[Tensor, int]]:
    """The weights and biases in a package, each with its bytes, those of its scales included."""
    with _disable_current_modes():
        return list(_unpacked(packed))


def _unpacked(packed: Any) -> Iterator[tuple[Tensor, int]]:
    if not packed._has_method("unpack"):
        # A recurrent cell: two linear layers, and for its own use their biases again.
        for part in packed.__getstate__()[0]:
            for value in part if isinstance(part, list | tuple) else ():
                if isinstance(value, torch.ScriptObject):
                    yield from _unpacked(value)
        return
    result = packed.unpack()
    weight, bias = result if isinstance(result, tuple) else (result, None)
    if weight.is_quantized:
        yield weight, stored_nbytes(weight) + scales_nbytes(weight)
    else:
        yield weight, weight.numel() * _HALF_NBYTES
    if bias is not None:
        yield bias, bias.nbytes


def scales_nbytes(tensor: Tensor) -> int:
    """Bytes of the scales and zero points that torch keeps with a quantised tensor."""
    if not tensor.is_quantized:
        return 0
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return _SCALE_NBYTES
    return tensor.q_per_channel_scales().nbytes + tensor.q_per_channel_zero_points().nbytes


_PER_BYTE: Final = {torch.quint4x2: 2, torch.quint2x4: 4}


def stored_nbytes(tensor: Tensor) -> int:
    """Bytes of the elements of a dense tensor, of which a byte may hold several."""
    per_byte = _PER_BYTE.get(tensor.dtype)
    if per_byte is None or not tensor.dim():
        return tensor.numel() * tensor.element_size()
    # Every row begins with a byte of its own.
    *rows, columns = tensor.shape
    nbytes = -(-columns // per_byte)
    for size in rows:
        nbytes *= size
    return nbytes


def packed_nbytes(values: Iterable[Any]) -> int:
    """Bytes of the packed weights among the values, and in lists among them."""
    total = 0
    for value in values:
        if isinstance(value, list | tuple):
            total += packed_nbytes(value)
        elif is_packed(value):
            total += sum(nbytes for _, nbytes in tensors_in_package(value))
    return total
