"""`flopbudget measure`: one callable, with no test."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_flopbudget.cli.main import main

CODE = """
import torch

calls = {"forward": 0, "backward": 0}

class Told(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        calls["forward"] += 1
        return x.clone()
    @staticmethod
    def backward(ctx, grad):
        calls["backward"] += 1
        return grad.clone()

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(10, 20, bias=False)
    def forward(self, x):
        return Told.apply(self.up(x))

model = Model()

def product(a, b):
    return a @ b

number = 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    # The command adds the file's folder, which the tests after this one must not see.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "measured_alone", raising=False)
    file = tmp_path / "measured_alone.py"
    file.write_text(CODE, "utf-8")
    return str(file)


def test_function_takes_the_inputs_in_order(place, capsys):
    target = f"{place}:product"
    assert main(["measure", target, "--input", "f32[4,5]", "--input", "f32[5,6]"]) == 0
    out = capsys.readouterr().out
    assert f"{4 * 5 * 6} MAC" in out
    assert "240 FLOP" in out


def test_class_of_a_module_is_its_factory_and_the_report_is_read_by_compare(
    place, tmp_path, capsys
):
    path = tmp_path / "report.json"
    target = f"{place}:Model"
    assert main(["measure", target, "--input", "f32[3,10]", "--json", str(path)]) == 0
    (test,) = json.loads(path.read_text("utf-8"))["tests"]
    assert test["measurements"][0]["metrics"]["macs"]["value"] == 3 * 10 * 20
    assert {row["path"] for row in test["modules"]} == {"", "up"}
    capsys.readouterr()
    assert main(["compare", str(path), str(path)]) == 0
    capsys.readouterr()
    assert main(["measure", target, "--input", "f32[3,10]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tests"][0]["id"] == target


def test_training_counts_and_times_the_backward(place, capsys):
    assert main(["measure", f"{place}:model", "--input", "f32[3,10]", "--train", "--latency"]) == 0
    out = capsys.readouterr().out
    # The gradient of the input is not needed.
    assert f"{2 * 3 * 10 * 20} MAC" in out.replace("1.2 kMAC", "1200 MAC")
    calls = sys.modules["measured_alone"].calls
    assert calls["forward"] == calls["backward"] > 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "write FILE.py:CALLABLE or MODULE:CALLABLE"),
        (["nowhere.py:f"], "nowhere.py: there is no such file"),
        (["no_such_module:f"], "no_such_module: cannot be imported"),
        (["{place}:modle"], "has no 'modle'; did you mean 'model'?"),
        (["{place}:number"], "is a int, which cannot be called"),
        (["{place}:model", "--input", "f31[2]"], "unknown dtype 'f31'; did you mean 'f32'?"),
        (["{place}:model", "--input", "2,3"], "write a dtype and sizes"),
        (["{place}:model", "--input", "f32[a]"], "the sizes must be whole numbers"),
        (["{place}:model", "--input", "f32[-1]"], "a size cannot be negative"),
        (["{place}:model"], "raised TypeError: Model.forward() missing 1 required positional"),
        (["{place}:model"], "does it need an argument, such as --input 'f32[1,3,224,224]'?"),
        (["{place}:model", "--input", "f32[3,11]"], "raised RuntimeError: mat1 and mat2 shapes"),
    ],
)
def test_mistake_is_one_line_and_no_verdict(place, capsys, arguments, said):
    assert main(["measure", *(argument.format(place=place) for argument in arguments)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_process_memory_stands_below_the_exact_peak_where_it_is_asked_for(place, capsys):
    call = ["measure", f"{place}:product", "--input", "f32[4,5]", "--input", "f32[5,6]"]
    assert main(call) == 0
    assert "allocator peak" not in capsys.readouterr().out
    assert main([*call, "--process-memory"]) == 0
    lines = [line.split()[:4] for line in capsys.readouterr().out.splitlines()]
    # The product alone, of 4 * 6 numbers in float32, has no scratch.
    at = lines.index(["activation", "memory", "96", "B"])
    assert lines[at + 1] == ["allocator", "peak", "96", "B"]
    assert lines[at + 2][:2] == ["process", "peak"]
