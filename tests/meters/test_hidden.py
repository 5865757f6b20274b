"""Compiled code that runs in a region and does not show its operators is reported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch._inductor.debug  # what the compiler made looks at it
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.output_code import CompiledFxGraph
from torch.export.pt2_archive._package import AOTICompiledModel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopbudget import FlopCounter
from pytest_flopbudget.meters.hidden import COMPILED

X = torch.randn(3, 4)
HAS_ONEDNN = torch.backends.mkldnn.is_available()


def _kernel(graph, _inputs):
    """A backend whose code calls torch for nothing, as a kernel in C++ would."""

    def run(args):
        with _disable_current_modes():
            return graph(*args)

    run._boxed_call = True
    return run


def _names(counter):
    return [(row.operator, row.calls, row.shapes) for row in counter.uncounted]


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("memory", [True, False])
def test_backward_that_was_compiled_before_is_reported(memory):
    model = nn.Linear(4, 2)
    compiled = torch.compile(model, backend=aot_autograd(fw_compiler=_kernel))
    loss = compiled(X).sum()
    with FlopCounter(memory=memory) as counter:
        loss.backward()
    assert counter.macs == 0
    # What the forward has saved, and the gradient of the result.
    assert _names(counter) == [(COMPILED, 1, ("f32[3,4], f32[3,2]",))]
    torch.testing.assert_close(model.weight.grad, X.sum(0).expand(2, 4))
    with FlopCounter() as counter:
        compiled(X).sum().backward()
    assert counter.macs == 2 * 3 * 4 * 2  # all of it in the region, where nothing is compiled
    assert counter.uncounted == ()


def test_backward_that_was_compiled_to_operators_is_counted():
    compiled = torch.compile(nn.Linear(4, 2), backend="aot_eager")
    loss = compiled(X).sum()
    with FlopCounter() as counter:
        loss.backward()
    assert (counter.macs, counter.uncounted) == (3 * 4 * 2, ())


def test_backward_is_reported_to_the_region_of_its_thread_alone():
    loss = torch.compile(nn.Linear(4, 2), backend=aot_autograd(fw_compiler=_kernel))(X).sum()
    with FlopCounter() as outer:
        with FlopCounter() as inner:
            loss.backward()
        with FlopCounter() as other:
            pass
    assert [len(counter.uncounted) for counter in (outer, inner, other)] == [1, 1, 0]


LOADED_IN_THE_REGION = """
import sys, torch
from torch.utils import _pytree as pytree
from pytest_flopbudget import FlopCounter

x = torch.ones(3, 4)
with FlopCounter() as counter:
    assert "torch.export.pt2_archive._package" not in sys.modules
    from torch.export.pt2_archive._package import AOTICompiledModel

    class Loader:
        def get_call_spec(self):
            _, given = pytree.tree_flatten(((x,), {}))
            _, returned = pytree.tree_flatten(x)
            return [pytree.treespec_dumps(given), pytree.treespec_dumps(returned)]

        def boxed_run(self, tensors):
            return [torch.from_numpy(tensors[0].numpy() * 2)]

    AOTICompiledModel(Loader())(x)
print(*counter.uncounted[0].shapes, counter.uncounted[0].operator)
"""


def test_program_that_torch_can_only_run_since_the_region_began_is_reported():
    assert _told_by(LOADED_IN_THE_REGION) == [f"f32[3,4] {COMPILED}"]


@pytest.mark.filterwarnings("ignore")  # the compiler uses what torch means to replace
@pytest.mark.slow  # torch's compiler calls a C++ compiler, which takes its time
def test_backward_of_torchs_own_compiler_is_reported_though_its_products_are_seen():
    loss = torch.compile(nn.Linear(4, 2))(X).square().sum()
    with FlopCounter() as counter:
        loss.backward()
    assert counter.macs == 3 * 4 * 2
    assert [name for name, *_ in _names(counter)] == [COMPILED]


@pytest.mark.parametrize("memory", [True, False])
def test_what_torchs_own_compiler_made_is_reported_whoever_calls_it(memory):
    graph = object.__new__(CompiledFxGraph)
    vars(graph).update(_compile_context=None, fx_kwargs={}, compiled_fn_runner=None)
    graph.current_callable = lambda args: [torch.from_numpy(args.pop().numpy() * 2)]
    with FlopCounter(memory=memory) as counter:
        (result,) = graph([X])
    assert torch.equal(result, 2 * X)
    assert _names(counter) == [(COMPILED, 1, ("f32[3,4]",))]


@pytest.mark.slow  # torch's compiler calls a C++ compiler, which takes its time
@pytest.mark.filterwarnings("ignore")  # the compiler uses what torch means to replace
def test_function_that_torch_compiled_ahead_of_time_is_reported():
    with torch.no_grad():
        function = torch.compile(lambda x: (x * 2 + 1).relu(), fullgraph=True)
        compiled = function.aot_compile(((X,), {}))
        with FlopCounter() as counter:
            compiled(X)
    assert _names(counter) == [(COMPILED, 1, ("f32[3,4]",))]


class _Loader:
    """What torch wraps its own in: it takes a list of tensors and returns another one."""

    def get_call_spec(self):
        _, given = pytree.tree_flatten(((X,), {}))
        _, returned = pytree.tree_flatten(X)
        return [pytree.treespec_dumps(given), pytree.treespec_dumps(returned)]

    def boxed_run(self, tensors):
        return [torch.from_numpy(tensors[0].numpy() * 2)]


@pytest.mark.parametrize("memory", [True, False])
def test_program_that_was_compiled_ahead_of_time_is_reported(memory):
    program = AOTICompiledModel(_Loader())
    with FlopCounter(memory=memory) as counter:
        result = program(X)
    assert torch.equal(result, 2 * X)
    assert counter.flops == 0
    assert _names(counter) == [(COMPILED, 1, ("f32[3,4]",))]


@pytest.mark.filterwarnings("ignore")  # the compiler uses what torch means to replace
@pytest.mark.slow  # torch's compiler calls a C++ compiler, which takes its time
def test_program_that_torch_compiled_ahead_of_time_is_reported(tmp_path):
    with torch.no_grad():
        exported = torch.export.export(nn.Linear(4, 2), (X,))
        path = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(tmp_path / "linear.pt2")
        )
        program = torch._inductor.aoti_load_package(path)
        with FlopCounter() as counter:
            program(X)
    assert [name for name, *_ in _names(counter)] == [COMPILED]


FUSED_BY_ONEDNN = """
import warnings, torch
from torch import nn
from pytest_flopbudget import FlopCounter

warnings.simplefilter("ignore")
torch.jit.enable_onednn_fusion(True)
call = torch._C.ScriptMethod.__call__
model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
with torch.no_grad():
    script = torch.jit.freeze(torch.jit.trace(model, x))
    for _ in range(3):  # it is fused when it has run
        script(x)
    for memory in (True, False):
        with FlopCounter(memory=memory) as counter:
            script(x)
        print(counter.macs, counter.uncounted[0].operator, *counter.uncounted[0].shapes)
    with FlopCounter() as counter:
        torch.jit.script(nn.Linear(8, 2))(x)
    print(counter.macs, *counter.uncounted)
print(torch._C.ScriptMethod.__call__ == call)
"""


# Torch for some processors is built without oneDNN: there nothing is fused, and nothing hidden.
@pytest.mark.skipif(not HAS_ONEDNN, reason="this build of torch has no oneDNN, which fuses here")
def test_what_onednn_fuses_in_a_script_is_reported():
    linear = 3 * 8 * 8 * 2
    told = 2 * ["0 prim::oneDNNFusionGroup f32[1,3,8,8]"] + [f"{linear}", "True"]
    assert _told_by(FUSED_BY_ONEDNN) == told


FUSED_BY_TORCH = """
import warnings, torch
from pytest_flopbudget import FlopCounter
from scripted import pointwise

warnings.simplefilter("ignore")
torch._C._jit_override_can_fuse_on_cpu(True)
torch._C._jit_set_te_must_use_llvm_cpu(False)
script = torch.jit.script(pointwise)
x = torch.randn(8, 8)
with torch.no_grad():
    for _ in range(3):  # it is fused when it has run
        script(x, x)
    with FlopCounter() as counter:
        script(x, y=x)
print(counter.flops, counter.uncounted[0].operator, *counter.uncounted[0].shapes)
"""


def test_what_torch_fuses_in_a_script_is_reported(tmp_path):
    # A script is made from source, which code that is given as text has none of.
    function = "def pointwise(x, y):\n    return (x * y + x).sigmoid() * y\n"
    (tmp_path / "scripted.py").write_text(function)
    told = ["0 prim::TensorExprGroup f32[8,8], f32[8,8]"]
    assert _told_by(FUSED_BY_TORCH, cwd=tmp_path) == told


def _told_by(code, cwd=None):
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=120, cwd=cwd
    )
    return ran.stdout.splitlines()
