"""What is replaced in other people's classes while a region is open, and the open regions."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import torch

from pytest_flopbudget.meters.loading import LoadingFinder

_NOTHING: Final = object()
"""What stands where a class has no attribute of its own, and inherits one."""
_UNKNOWN: Final = object()


class Replaceable(Protocol):
    """Something that is put in place while a region is open."""

    def replace(self) -> None:
        """Put it in place."""

    def restore(self) -> None:
        """Put back what was there."""


class Detour:
    """One attribute of a class or a module, and what is put in its place.

    It is made once, as regions are many.
    """

    def __init__(self, owner: Any, name: str, around: Callable[[Any], Any]) -> None:
        """`around` takes the attribute and returns what stands for it."""
        self._owner = owner
        # To be read in place of the attribute, which is slow right after a class was changed.
        self._own = vars(owner)
        self._name = name
        self.place = id(owner), name
        """Tells two of the same attribute; the owner is kept."""
        self._around = around
        self.original: Any = _UNKNOWN
        """What was there when it was put in place last."""
        self.replacement: Any = _UNKNOWN

    def replace(self) -> None:
        """Put the replacement in place."""
        original = self._own.get(self._name, _NOTHING)
        if original is self.replacement:
            return  # what an interrupted region has left
        if original is not self.original:
            self.original = original
            self.replacement = self._around(getattr(self._owner, self._name))
        setattr(self._owner, self._name, self.replacement)

    def restore(self) -> None:
        """Put the attribute back."""
        # Somebody else who replaced it meanwhile has ours inside, which hands things on.
        if self._own.get(self._name) is self.replacement:
            if self.original is _NOTHING:
                delattr(self._owner, self._name)
            else:
                setattr(self._owner, self._name, self.original)


def those_there(*known: tuple[Any, str, Callable[[Any], Any]]) -> tuple[Detour, ...]:
    """Detours of the attributes that there are: another torch may do things in another way."""
    return tuple(Detour(*each) for each in known if each[1] in vars(each[0]))


class Regions:
    """The regions that are open, which the detours tell of what no operator shows.

    The detours are in place while any region is open. They are one list, and no region puts up
    its own: entering is what a region around one short call costs most.
    """

    def __init__(self) -> None:
        self.open: tuple[Any, ...] = ()
        """In the order in which they began. Each is a `DispatchPass`."""
        self._detours: list[Replaceable] = []
        self._more: list[Replaceable] = []
        """Those in place that only some regions need."""
        self._late: dict[str, Callable[[], Iterable[Detour]]] = {}
        self._loaded: list[str] = []
        """Those of them that have been loaded since the last region, and are to be taken in."""
        self._taken: dict[str, Any] = {}
        """Those of them that were, by name; each may be loaded anew."""
        self._finder = LoadingFinder(self._late, self._has_loaded)
        self._lock = threading.RLock()

    def here(self) -> list[Any]:
        """Those that this thread works for; autograd's own threads work for those that wait."""
        here = [region for region in self.open if region.is_here]
        if here or not self.open or torch._C._current_autograd_node() is None:
            return here
        return list(self.open)

    def always(self, *detours: Replaceable) -> None:
        """Have these in place while a region is open."""
        self._detours += detours

    def once_loaded(self, module: str, make: Callable[[], Iterable[Detour]]) -> None:
        """The same for detours in a module that is not imported for their sake.

        `make` is not to import anything: another thread may be doing so, and wait for this one.
        """
        self._late[module] = make

    def enter(self, region: Any, more: tuple[Replaceable, ...] = ()) -> None:
        """A region begins, which needs `more` than the others do.

        Where that is interrupted, `leave` is still to be called.
        """
        with self._lock:
            if not self.open:
                if not self._finder.is_first:
                    self._begin_to_hear()
                if self._loaded:
                    self._take_loaded()
                for detour in self._detours:
                    detour.replace()
            if more:
                self.have(more)
            self.open += (region,)

    def have(self, more: tuple[Replaceable, ...]) -> None:
        """Have these in place too, until the last of the open regions is over."""
        with self._lock:
            for detour in more:
                if detour not in self._more:
                    self._more.append(detour)
                    detour.replace()

    def leave(self, region: Any) -> None:
        """A region is over."""
        with self._lock:
            self.open = tuple([other for other in self.open if other is not region])
            if self.open:
                return
            try:
                self._restore()
            except BaseException:  # an interrupt: the rest is put back all the same
                self._restore()
                raise

    def _restore(self) -> None:
        for detour in (*self._detours, *self._more):
            detour.restore()
        self._more.clear()

    def _begin_to_hear(self) -> None:
        """Hear of what is loaded from now on, and of what has been."""
        self._loaded += [name for name in self._late if name in sys.modules]
        self._finder.put_first()
        # And what another thread has loaded between the two.
        self._loaded += [name for name in self._late if name in sys.modules]

    def _take_loaded(self) -> None:
        """Take in what has been loaded; what another thread is still loading waits."""
        for name in self._loaded:
            if _is_loaded(name):
                self._take(name)
        self._loaded = [name for name in self._loaded if self._is_new(name)]

    def _has_loaded(self, name: str) -> None:
        """A module has been loaded that was awaited."""
        with self._lock:
            self._taken.pop(name, None)  # it may be the same module, loaded anew
            if not self.open:
                self._loaded.append(name)
                return
            self._take(name)
            for detour in self._detours:
                if isinstance(detour, Detour):  # which leaves alone what is in place
                    detour.replace()

    def _take(self, name: str) -> None:
        if not self._is_new(name):
            return
        known = [detour.place for detour in self._detours if isinstance(detour, Detour)]
        try:
            made = tuple(self._late[name]())
        except AttributeError:  # what stands for the module in somebody's test, with less in it
            made = ()
        self._detours += [detour for detour in made if detour.place not in known]
        self._taken[name] = sys.modules[name]

    def _is_new(self, name: str) -> bool:
        """Whether there is such a module, and it is another one than was taken in."""
        module = sys.modules.get(name)
        return module is not None and module is not self._taken.get(name)


def _is_loaded(name: str) -> bool:
    """Whether a module is there, and no other thread is still importing it."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return module is not None and not getattr(spec, "_initializing", False)


REGIONS: Final = Regions()
