"""A layer that has become twice as wide as its budget allows: this test fails."""

import pytest
import torch
from torch import nn

FEATURES = 100
HIDDEN = 400  # was 200 when the budget was written


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(FEATURES, HIDDEN)
        self.down = nn.Linear(HIDDEN, FEATURES)

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Mlp()

    def forward(self, x):
        return x + self.mlp(x)


@pytest.mark.flop_budget("mlp")
def test_mlp(flopbudget):
    model = Model()
    with torch.inference_mode():
        flopbudget(model, torch.rand(50, FEATURES))
