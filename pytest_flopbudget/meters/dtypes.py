"""Short names of dtypes, such as f32, in both directions."""

from __future__ import annotations

from typing import Final

import torch

SHORT: Final = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
    "c64": torch.complex64,
    "c128": torch.complex128,
}
"""The short names that `--input` takes and shapes are printed with."""

_NAMES: Final = {dtype: name for name, dtype in SHORT.items()}


def short_name(dtype: torch.dtype) -> str:
    """The short name of a dtype, or torch's own where there is none."""
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))
