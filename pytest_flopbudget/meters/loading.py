"""Hearing of the modules that are loaded: none is imported for a region's sake."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast


class LoadingFinder(MetaPathFinder):
    """Stands first in `sys.meta_path`, and hands each module on to the finders after it.

    It stays between regions: to look through `sys.modules` each time is much of what a region
    around one short call costs.
    """

    def __init__(self, awaited: Container[str], loaded: Callable[[str], object]) -> None:
        """awaited: names of modules; loaded: is called with the name once one has been loaded."""
        self._awaited = awaited
        self._loaded = loaded

    @property
    def is_first(self) -> bool:
        """Whether it hears of every module: others may come before it, or put back a list."""
        return bool(sys.meta_path) and sys.meta_path[0] is self

    def put_first(self) -> None:
        """Hear of every module from now on."""
        while self in sys.meta_path:
            sys.meta_path.remove(self)
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders after this one say of an awaited module; None of any other."""
        finders = list(sys.meta_path)
        if fullname not in self._awaited or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)  # as importlib asks, which is lenient
            spec: Any = find(fullname, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _TellingLoader(spec.loader, self._loaded)
                return cast("ModuleSpec", spec)
        return None


class _TellingLoader(Loader):
    """Another loader, and the word that it has loaded its module."""

    def __init__(self, loader: Loader, loaded: Callable[[str], object]) -> None:
        self._loader = loader
        self._loaded = loaded

    def __getattr__(self, name: str) -> Any:
        """Whatever else the other loader does, for who looks for a module and does not load it."""
        return getattr(object.__getattribute__(self, "_loader"), name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """The same, with nothing of ours to be seen in the module."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._loaded(module.__name__)
