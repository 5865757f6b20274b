"""Versions of what can change a measurement."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Final

_ALWAYS: Final = ("pytest-flopbudget", "pytest", "torch")
_IF_IMPORTED: Final = {
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "lightning": "lightning",
    "numpy": "numpy",
    "timm": "timm",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "xdist": "pytest-xdist",
}
"""Import name to distribution: libraries that hold models, kernels, or the run itself."""


def versions() -> dict[str, str]:
    """Version by distribution name: Python, the tools, and the libraries now imported.

    Nothing is imported to find out. A distribution that is not installed is left out.
    """
    names = [*_ALWAYS, *(name for module, name in _IF_IMPORTED.items() if module in sys.modules)]
    found = {name: version for name in names if (version := _version(name))}
    return {"python": platform.python_version(), **found}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
