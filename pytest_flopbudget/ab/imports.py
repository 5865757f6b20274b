"""Which modules a side imported from elsewhere than its own tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, final

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Directories of installed packages: a virtual environment may be inside the repository."""


@final
@dataclass(frozen=True, slots=True)
class ForeignModule:
    """A module of the project that came from another copy of it."""

    name: str
    file: Path


def module_files(modules: Mapping[str, ModuleType | None]) -> dict[str, str]:
    """Where each module was loaded from: its file, or the directory of a namespace package.

    modules: `sys.modules` of a worker.
    """
    found = {}
    for name, module in list(modules.items()):
        file = getattr(module, "__file__", None) or next(
            iter(getattr(module, "__path__", None) or ()), None
        )
        if isinstance(file, str):
            found[name] = file
    return found


def foreign_modules(
    modules: Mapping[str, str], tree: Path, repository: Path
) -> tuple[ForeignModule, ...]:
    """The modules that are from the user's checkout, though the side has its own tree.

    modules: name to file, as from `module_files`.
    tree, repository: the tops of the side's tree and of the user's checkout.
    """
    tree, repository = tree.resolve(), repository.resolve()
    found = []
    for name, file in sorted(modules.items()):
        path = Path(file).resolve()
        if path.is_relative_to(tree) or not path.is_relative_to(repository):
            continue
        if _INSTALLED.isdisjoint(path.relative_to(repository).parts):
            found.append(ForeignModule(name, path))
    return tuple(found)
