"""The same digits at any number of threads and on any instruction set of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, torch
from torch import nn
from pytest_flopbudget import measure
torch.manual_seed(0)
cnn = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, groups=4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
)
encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
lstm = nn.LSTM(12, 7, num_layers=2)
found = [
    measure(cnn, torch.randn(2, 3, 20, 20), train=True),
    measure(encoder, torch.randn(2, 9, 32), train=True),
    measure(lstm, torch.randn(6, 2, 12)),
]
print(json.dumps([
    {
        "values": {name: value.value for name, value in m.values.items()},
        "modules": [
            [module.path, row.operator, row.calls, row.counts.as_dict()]
            for module in m.modules for row in module.operators
        ],
    }
    for m in found
]))
"""

SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def _measured(settings):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **settings},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout)


@pytest.mark.slow
def test_every_exact_metric_is_the_same_whatever_the_threads_and_the_instruction_set():
    found = {name: _measured(settings) for name, settings in SETTINGS.items()}
    first = found["one thread"]
    assert first[0]["values"]["activation_memory"] > 0
    assert {name: result == first for name, result in found.items()} == dict.fromkeys(found, True)
