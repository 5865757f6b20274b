"""Which calls of modules are heard, and what is learnt of a root when its first one begins."""

from __future__ import annotations

import importlib.util
import operator
import subprocess
import sys
import threading
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registry

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.meters import module_calls
from pytest_flopbudget.meters.detours import REGIONS, Detour

X = torch.ones(2, 4)
LINEAR = 2 * 2 * 4 * 4 + 2 * 4  # 2 rows times [4, 4], and the bias
F32 = 4


def _own_flops(counter: FlopCounter) -> dict[str, int]:
    return {path: counts.own.flops for path, counts in counter.by_module.items()}


# --- whose an operator is


def test_module_compiled_in_place_has_its_path() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].compile(backend="eager")
    with FlopCounter() as counter:
        model(X)
    assert _own_flops(counter) == {"": 0, "0": LINEAR, "1": LINEAR}


class _Doubles(nn.Module):
    """Has a forward of its own: the compiler leaves torch's alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


@pytest.mark.parametrize("is_compiled_before", [True, False])
def test_module_compiled_in_place_is_compiled_after_the_region(is_compiled_before) -> None:
    graphs = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    model = _Doubles()
    if is_compiled_before:
        model.compile(backend=backend)
    with FlopCounter() as counter:
        if not is_compiled_before:
            model.compile(backend=backend)
        model(X)
    assert (counter.flops, graphs) == (8, [])
    for _ in range(2):
        assert torch.equal(model(X), 2 * X)
    assert graphs == [[operator.mul]]  # once, with nothing of ours in it
    with FlopCounter() as counter:
        model(X)
    model(X)
    assert (counter.flops, len(graphs)) == (8, 1)  # nor need it be compiled again


COMPILER_LOADED_IN_A_REGION = """
import sys, torch
from torch import nn
from pytest_flopbudget import FlopCounter

with FlopCounter():
    assert "torch._dynamo" not in sys.modules
    torch.compile(torch.relu)
from torch._dynamo import utils

assert utils.unpatched_nn_module_call_impl is nn.Module._call_impl
assert "pytest_flopbudget" not in nn.Module._call_impl.__code__.co_filename
"""


def test_compiler_that_a_region_loads_knows_torchs_own_call() -> None:
    subprocess.run([sys.executable, "-c", COMPILER_LOADED_IN_A_REGION], check=True, timeout=120)


COMPILER_IMPORTED_IN_A_REGION = """
import sys, torch
from torch import nn
from pytest_flopbudget import FlopCounter

model, x = nn.Linear(4, 4), torch.ones(2, 4)
before = {name: vars(nn.Module).get(name) for name in ("_call_impl", "_compiled_call_impl")}
for _ in range(2):
    with FlopCounter() as counter:
        torch.optim.Adam(model.parameters())  # the first one imports the compiler
        model(x)
    assert "torch._dynamo" in sys.modules
    assert {name: vars(nn.Module).get(name) for name in before} == before
    assert model(x).shape == (2, 4)
    assert counter.macs == 32
from torch._dynamo import utils

assert utils.unpatched_nn_module_call_impl is nn.Module._call_impl
"""


def test_compiler_that_is_imported_in_a_region_leaves_modules_as_they_are() -> None:
    subprocess.run([sys.executable, "-c", COMPILER_IMPORTED_IN_A_REGION], check=True, timeout=120)


def test_work_of_a_modules_hooks_is_the_modules() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].register_forward_hook(lambda _module, _args, out: out + 1)
    model[1].register_forward_pre_hook(lambda _module, args: (args[0] * 2,))
    with FlopCounter() as counter:
        model(X)
    assert _own_flops(counter) == {"": 0, "0": LINEAR + 8, "1": LINEAR + 8}


class _Iterates(nn.Module):
    """Calls the members of what it holds, and never the holder."""

    def __init__(self, holder: nn.Module) -> None:
        super().__init__()
        self.holder = holder

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.holder.children():
            x = layer(x)
        return x


@pytest.mark.parametrize("kind", [nn.ModuleList, lambda layers: nn.Sequential(*layers)])
@pytest.mark.parametrize("depth", [2, 60])
def test_members_of_a_list_have_its_name(kind, depth) -> None:
    model = _Iterates(kind([nn.Linear(4, 4) for _ in range(depth)]))
    with FlopCounter(memory=False) as counter:
        model(X)
    own = _own_flops(counter)
    assert own == {"": 0, "holder": 0} | {f"holder.{n}": LINEAR for n in range(depth)}


def test_member_that_took_anothers_place_in_a_long_list_has_its_name() -> None:
    model = _Iterates(nn.ModuleList([nn.Identity() for _ in range(60)]))
    with FlopCounter(memory=False) as counter:
        model(X)
        model.holder[7] = nn.Linear(4, 4)
        model(X)
    assert {path: flops for path, flops in _own_flops(counter).items() if flops} == {
        "holder.7": LINEAR
    }


def _calls(counter: FlopCounter) -> dict[str, int]:
    return {module.path: module.calls for module in counter.measurement.modules}


def test_counters_within_each_other_all_hear_of_a_call() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with FlopCounter() as outer:
        with FlopCounter() as inner:
            model(X)
        model(X)
        with FlopCounter(model[0]) as part:
            model(X)
    model(X)
    assert _calls(inner) == {"": 1, "0": 1, "1": 1}
    assert _calls(outer) == {"": 3, "0": 3, "1": 3}
    assert _calls(part) == {"Sequential": 1, "Sequential.0": 1, "Sequential.1": 1}


class _Hears:
    """Notes what it is told, with its name."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told

    def begin(self, module: nn.Module) -> None:
        self.told.append(f"{self.name} begins")

    def end(self, module: nn.Module) -> None:
        self.told.append(f"{self.name} ends")


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ("", ["a begins", "b begins", "c begins", "c ends", "b ends", "a ends"]),
        ("a", ["b begins", "c begins", "c ends", "b ends"]),
        ("b", ["a begins", "c begins", "c ends", "a ends"]),
        ("c", ["a begins", "b begins", "b ends", "a ends"]),
        ("ab", ["c begins", "c ends"]),
        ("ca", ["b begins", "b ends"]),
        ("bca", []),
    ],
)
def test_listeners_of_one_thread_go_in_any_order(gone, left) -> None:
    told: list[str] = []
    listeners = {name: _Hears(name, told) for name in "abc"}
    for listener in listeners.values():
        module_calls.listen(threading.get_ident(), listener)
    try:
        for name in gone:
            module_calls.unlisten(threading.get_ident(), listeners[name])
        with FlopCounter():  # while it counts, calls are heard at all
            nn.ReLU()(X)
    finally:
        for listener in listeners.values():
            module_calls.unlisten(threading.get_ident(), listener)
    assert told == left


def test_call_that_raises_is_over() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fails, self.layer = Fails(), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.fails(x)
            except ZeroDivisionError:
                return self.layer(x) + 1

    with FlopCounter() as counter:
        Catches()(X)
    assert _own_flops(counter) == {"": 8, "fails": 0, "layer": LINEAR}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_script_made_in_a_region_is_as_it_would_be() -> None:
    with FlopCounter() as counter:
        scripted = torch.jit.script(nn.Linear(4, 4))
        scripted(X)
    assert counter.flops == LINEAR
    assert scripted(X).shape == (2, 4)


# --- what a root owns


class _Grows(nn.Module):
    """Makes its layer when it is called first."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.layer = None

    def forward(self, x: Tensor) -> Tensor:
        if self.layer is None:
            self.layer = nn.Linear(4, 4)
        return self.layer(x * self.scale)


@pytest.mark.parametrize("has_root", [True, False])
def test_layer_that_the_first_call_makes_is_counted(has_root) -> None:
    model = _Grows()
    with FlopCounter(model if has_root else None) as counter:
        model(X)
    assert counter.params == 4 + 20
    assert counter.by_module["layer"].params == 20


def test_gradient_of_a_layer_that_the_first_call_makes_is_the_layers() -> None:
    model = _Grows()
    with FlopCounter(memory=False) as counter:
        model(X).sum().backward()
        model(X).sum().backward()  # adds to the first
    sums = {
        module.path: row.counts.flops
        for module in counter.measurement.modules
        for row in module.operators
        if row.operator == "aten.add_"
    }
    assert sums["layer"] == 20


class _Averages(nn.Module):
    """Keeps a running mean, for which each call makes a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1000))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean * 0.5
        return self.mean.sum() + x


def test_buffer_that_a_call_replaces_is_counted_once() -> None:
    assert measure(_Averages(), torch.ones(1)).model_size == 1000 * F32


def test_buffer_that_a_call_replaces_dies_when_it_is_replaced() -> None:
    m = measure(_Averages(), torch.ones(1))
    # The old mean, the new one, and the input. The sum comes when the old one is gone.
    assert m.peak_memory == (2 * 1000 + 1) * F32
    assert m.activation_memory == 1000 * F32


def test_root_that_is_given_counts_as_it_is_when_it_is_called() -> None:
    model = nn.Linear(4, 4)
    with FlopCounter(model) as counter:
        (X.half() + 1).sum()  # before the weights take their dtype
        model.half()(X.half())
    assert (counter.params, counter.model_size) == (20, 20 * 2)


def test_root_that_is_given_and_never_called_counts() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with FlopCounter(model) as counter:
        model[1](X)
    assert counter.params == 2 * 20
    assert counter.by_module["1"].own.flops == LINEAR


def test_weights_made_and_frozen_before_the_call_count_so() -> None:
    model = nn.Linear(4, 4)
    with FlopCounter() as counter:
        model.requires_grad_(False)
        model(X)
    assert (counter.params, counter.trainable_params) == (20, 0)


def test_weights_with_their_channels_last_are_whole() -> None:
    model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    m = measure(model, torch.ones(1, 3, 8, 8))
    assert (m.params, m.model_size) == (8 * 27 + 8, (8 * 27 + 8) * F32)


def test_gradient_of_a_model_that_ran_without_a_graph_is_its_owners() -> None:
    """Sums of gradients are booked to their parameters, which nobody had asked for until then."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self) -> None:
            with torch.enable_grad():
                self.weight.mul(2).sum().backward()
                self.weight.mul(2).sum().backward()  # adds to the first

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self) -> None:
            self.inner()

    model = Outer()
    with torch.no_grad(), FlopCounter(memory=False) as counter:
        model()
    adds = {
        module.path: row.counts.flops
        for module in counter.measurement.modules
        for row in module.operators
        if row.operator == "aten.add_"
    }
    assert adds == {"inner": 3}


# --- what is put in place, and put back


def test_everything_is_put_back() -> None:
    def state() -> list[object]:
        attributes = [
            nn.Module._call_impl.__code__,
            vars(threading.Thread)["start"],
            vars(torch.UntypedStorage).get("resize_"),
            torch.compile,
        ]
        return [*attributes, *(dict(hooks) for hooks in _registries())]

    before = state()
    with FlopCounter():
        assert state() != before
        with FlopCounter():
            pass
        assert state() != before
    assert state() == before
    assert REGIONS.open == ()


def test_method_of_a_modules_call_stays_the_same_object() -> None:
    method = nn.Module._call_impl
    with FlopCounter():
        assert nn.Module._call_impl is method  # the compiler knows torch's own by that


def _wrapping(original: Any, heard: list[str]) -> Any:
    @wraps(original)
    def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        heard.append(type(module).__name__)
        return original(module, *args, **kwargs)

    return _call_impl


def _closing_over(original: Any, heard: list[str]) -> Any:
    def theirs(module: nn.Module, *args: Any, scale: int = 1, **kwargs: Any) -> Any:
        heard.append(type(module).__name__)
        return original(module, *args, **kwargs) * scale

    theirs.__kwdefaults__ = {"scale": 2}
    return theirs


@pytest.mark.parametrize(("around", "scale"), [(_wrapping, 1), (_closing_over, 2)])
def test_method_that_others_put_around_torchs_is_called_as_ever(around, scale, monkeypatch) -> None:
    heard: list[str] = []
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    expected = model(X)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "_call_impl", around(nn.Module._call_impl, heard))
        for _ in range(2):
            heard.clear()
            with FlopCounter() as counter:
                result = model(X)
            assert torch.equal(result, expected * scale**3)  # of its three calls
            assert heard == ["Sequential", "Linear", "ReLU"]
            assert counter.by_module["0"].macs == 2 * 4 * 4
    with FlopCounter() as counter:
        assert torch.equal(model(X), expected)
    assert counter.by_module["0"].macs == 2 * 4 * 4


def test_method_that_others_put_around_torchs_meanwhile_stays(monkeypatch) -> None:
    heard: list[str] = []
    model = nn.Sequential(nn.Linear(4, 4))
    with FlopCounter() as counter:
        monkeypatch.setattr(nn.Module, "_call_impl", _wrapping(nn.Module._call_impl, heard))
        model(X)
    assert counter.by_module["0"].macs == 2 * 4 * 4
    model(X)
    assert heard == 2 * ["Sequential", "Linear"]


def test_another_copy_of_this_package_hears_too(monkeypatch) -> None:
    spec = importlib.util.spec_from_file_location("flopbudget_copy", module_calls.__file__)
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "flopbudget_copy", copy)
    spec.loader.exec_module(copy)
    code = nn.Module._call_impl.__code__
    told: list[str] = []
    for name, module in (("copy", copy), ("original", module_calls)):
        module.listen(threading.get_ident(), _Hears(name, told))
    for first, second in ((copy, module_calls), (module_calls, copy)):
        told.clear()
        first.CALL.replace()
        second.CALL.replace()
        nn.ReLU()(X)
        second.CALL.restore()
        first.CALL.restore()
        assert sorted(told) == ["copy begins", "copy ends", "original begins", "original ends"]
        assert nn.Module._call_impl.__code__ is code


def _registries() -> tuple[dict[int, object], ...]:
    return (
        registry._global_parameter_registration_hooks,
        registry._global_buffer_registration_hooks,
        registry._global_module_registration_hooks,
    )


class _Base:
    def method(self) -> str:
        return "base"


class _Heir(_Base):
    pass


def _told(original):
    return lambda self: f"told {original(self)}"


def test_detour_of_an_inherited_method_leaves_nothing_behind() -> None:
    detour = Detour(_Heir, "method", _told)
    for _ in range(2):
        detour.replace()
        assert (_Heir().method(), _Base().method()) == ("told base", "base")
        detour.restore()
        assert "method" not in vars(_Heir)


def test_what_others_replaced_meanwhile_stays() -> None:
    detour = Detour(_Heir, "method", _told)
    detour.replace()
    ours = vars(_Heir)["method"]
    _Heir.method = lambda self: f"theirs, {ours(self)}"
    detour.restore()
    assert _Heir().method() == "theirs, told base"
    detour.replace()
    assert _Heir().method() == "told theirs, told base"
    detour.restore()
    assert _Heir().method() == "theirs, told base"
    del _Heir.method
