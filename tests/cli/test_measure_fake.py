"""`flopbudget measure --fake`: a model larger than the machine, from its factory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_flopbudget
from pytest_flopbudget.cli.main import main

CODE = """
import torch
from torch import nn

WIDTH = 1_000_000

def large():
    # Two terabytes of weights in bfloat16.
    return nn.Linear(WIDTH, WIDTH, bias=False).to(torch.bfloat16)

class Reads(nn.Module):
    def forward(self, x):
        return x * x.max().item()

class Picky(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        if self.scale.sum() > 2:
            self.scale = None

model = nn.Linear(4, 3)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    # The command adds the file's folder, which the tests after this one must not see.
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "measured_fake", raising=False)
    file = tmp_path / "measured_fake.py"
    file.write_text(CODE, "utf-8")
    return str(file)


def _metrics(place, *arguments):
    script = "import sys; from pytest_flopbudget.cli.main import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", script, "measure", place, *arguments, "--fake", "--json"],
        env={"PYTHONPATH": str(Path(pytest_flopbudget.__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    (test,) = json.loads(result.stdout)["tests"]
    metrics = test["measurements"][0]["metrics"]
    return {name: metric["value"] for name, metric in metrics.items()}


def test_model_of_terabytes_is_measured_forward_and_backward(place):
    values = _metrics(f"{place}:large", "--input", "bf16[5,1000000]", "--train")
    # The product, and the gradient of the weight; the input needs none.
    assert values["macs"] == 2 * 5 * 10**12
    assert values["params"] == values["trainable_params"] == 10**12
    assert values["model_size"] == 2 * 10**12
    assert values["peak_memory"] > 2 * values["model_size"]


def test_module_of_the_file_itself_is_taken_for_fake(place, capsys):
    assert main(["measure", f"{place}:model", "--input", "f32[2,4]", "--fake"]) == 0
    assert "24 MAC" in capsys.readouterr().out
    assert type(sys.modules["measured_fake"].model.weight.data).__name__ == "Tensor"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{place}:Reads", "--input", "f32[3]"], "`return x * x.max().item()` reads a value out"),
        (["{place}:Picky", "--input", "f32[3]"], "`if self.scale.sum() > 2:` reads a value out"),
        (["{place}:model", "--input", "f32[2,5]"], "raised RuntimeError: a and b must have same"),
        (["{place}:model", "--input", "f32[2,4]", "--latency"], "there is no latency"),
    ],
)
def test_mistake_is_one_line_and_no_verdict(place, capsys, arguments, said):
    filled = [argument.format(place=place) for argument in arguments]
    assert main(["measure", *filled, "--fake"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
