"""Regions hear of modules that are loaded, also while they are open, and change none of them."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_flopbudget.meters.detours import Detour, Regions

NAME = "flopbudget_test_late"
SOURCE = "attribute = 'theirs'\nloader = __loader__\nspec_loader = __spec__.loader\n"


@pytest.fixture(autouse=True)
def _module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that is not loaded yet, and `sys.meta_path` as it was afterwards."""
    (tmp_path / f"{NAME}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield
    sys.modules.pop(NAME, None)
    sys.meta_path[:] = before


def _awaiting() -> Regions:
    regions = Regions()

    def make() -> list[Detour]:
        module = sys.modules[NAME]
        assert module.attribute
        return [Detour(module, "attribute", _ours)]

    regions.once_loaded(NAME, make)
    return regions


def _ours(original: str) -> str:
    return f"ours for {original}"


def _load() -> Any:
    return importlib.import_module(NAME)


@pytest.mark.parametrize(
    "when", ["before the first region", "between regions", "in a region", "in the inner region"]
)
def test_what_is_loaded_is_replaced_while_a_region_is_open(when: str) -> None:
    regions = _awaiting()
    if when == "before the first region":
        _load()
    if when == "between regions":
        regions.enter("earlier")
        regions.leave("earlier")
        _load()
    regions.enter("outer")
    if when == "in the inner region":
        regions.enter("inner")
        _load()
        regions.leave("inner")
    module = _load()
    assert module.attribute == "ours for theirs"
    regions.leave("outer")
    assert module.attribute == "theirs"
    regions.enter("later")
    assert module.attribute == "ours for theirs"
    regions.leave("later")
    assert module.attribute == "theirs"


def test_module_is_loaded_as_ever() -> None:
    plain = _load()
    del sys.modules[NAME]
    regions = _awaiting()
    regions.enter("region")
    heard = _load()
    regions.leave("region")
    assert heard is not plain
    for module in (plain, heard):
        assert type(module.loader) is type(module.spec_loader) is type(plain.__loader__)
        assert module.__loader__ is module.__spec__.loader is module.loader
    assert heard.__spec__.origin == plain.__spec__.origin


def test_finder_stands_there_once_and_first() -> None:
    before, regions = list(sys.meta_path), _awaiting()
    assert sys.meta_path == before  # the first region puts it there
    for _ in range(2):
        regions.enter("region")
        regions.leave("region")
        assert sys.meta_path[1:] == before
    ours = sys.meta_path[0]
    sys.meta_path.insert(0, before[0])
    regions.enter("region")
    regions.leave("region")
    assert sys.meta_path == [ours, before[0], *before]


class _Own(MetaPathFinder):
    """A finder that answers by itself, as it knows where things are."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return PathFinder.find_spec(fullname, path) if fullname == NAME else None


@pytest.mark.parametrize("is_open", [False, True])
def test_what_a_finder_before_ours_has_loaded_is_taken_in_by_the_next_region(is_open: bool) -> None:
    regions = _awaiting()
    regions.enter("region")
    if not is_open:
        regions.leave("region")
    sys.meta_path.insert(0, _Own())
    module = _load()
    if is_open:
        regions.leave("region")
    regions.enter("region")
    assert module.attribute == "ours for theirs"
    regions.leave("region")


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("is_reloaded", [False, True])
def test_module_that_is_loaded_anew_is_taken_in_again(is_open: bool, is_reloaded: bool) -> None:
    regions = _awaiting()
    module = _load()
    for _ in range(2):
        regions.enter("region")
        if not is_open:
            regions.leave("region")
        if is_reloaded:
            importlib.reload(module)
        else:
            del sys.modules[NAME]
            module = _load()
        if not is_open:
            assert module.attribute == "theirs"
            regions.enter("region")
        assert module.attribute == "ours for theirs"
        regions.leave("region")
        assert module.attribute == "theirs"


def test_who_puts_the_finders_of_before_back_loses_nothing() -> None:
    before, regions = list(sys.meta_path), _awaiting()
    regions.enter("region")
    regions.leave("region")
    sys.meta_path[:] = before
    module = _load()
    regions.enter("region")
    assert module.attribute == "ours for theirs"
    regions.leave("region")


def test_module_that_another_thread_is_loading_is_taken_in_later(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(threading, "flopbudget_test", (begun, may_go_on), raising=False)
    waiting = "import threading\nthreading.flopbudget_test[0].set()\n"
    waiting += "threading.flopbudget_test[1].wait(60)\n"
    (tmp_path / f"{NAME}.py").write_text(waiting + SOURCE)
    loading = threading.Thread(target=_load)
    loading.start()
    assert begun.wait(60)
    regions = _awaiting()
    for _ in range(2):
        regions.enter("region")
        regions.leave("region")
    may_go_on.set()
    loading.join()
    regions.enter("region")
    assert _load().attribute == "ours for theirs"
    regions.leave("region")


def test_who_only_looks_for_a_module_finds_its_loader() -> None:
    regions = _awaiting()
    regions.enter("region")
    spec = importlib.util.find_spec(NAME)
    regions.leave("region")
    assert spec is not None
    loader: Any = spec.loader
    assert loader.get_source(NAME) == SOURCE
    assert loader.path == copy.copy(loader).path == spec.origin


def test_module_that_fails_to_load_is_awaited_further(tmp_path: Any) -> None:
    path = tmp_path / f"{NAME}.py"
    path.write_text("raise OSError('not now')\n")
    regions = _awaiting()
    regions.enter("region")
    with pytest.raises(OSError, match="not now"):
        _load()
    path.write_text(SOURCE + "# and longer, so that no compiled file stands for it\n")
    importlib.invalidate_caches()
    assert _load().attribute == "ours for theirs"
    regions.leave("region")


def test_two_copies_of_this_package_hear_of_it() -> None:
    one, other = _awaiting(), _awaiting()
    one.enter("region")
    other.enter("region")
    assert _load().attribute == "ours for ours for theirs"
    other.leave("region")
    one.leave("region")
    assert _load().attribute == "theirs"


def test_module_that_is_taken_away_again_is_awaited_further() -> None:
    regions = _awaiting()
    regions.enter("region")
    regions.leave("region")
    _load()
    del sys.modules[NAME]
    regions.enter("region")
    assert _load().attribute == "ours for theirs"
    regions.leave("region")


def test_module_that_is_kept_from_being_imported_is_none() -> None:
    regions = _awaiting()
    modules: dict[str, Any] = sys.modules
    modules[NAME] = None  # as importlib has it
    regions.enter("region")
    regions.leave("region")
    del sys.modules[NAME]
    _load()
    regions.enter("region")
    assert _load().attribute == "ours for theirs"
    regions.leave("region")


def test_what_stands_for_a_module_may_have_less_in_it() -> None:
    regions = _awaiting()
    modules: dict[str, Any] = sys.modules
    modules[NAME] = SimpleNamespace()
    regions.enter("region")
    regions.leave("region")
    del sys.modules[NAME]
    regions.enter("region")
    assert _load().attribute == "ours for theirs"
    regions.leave("region")
