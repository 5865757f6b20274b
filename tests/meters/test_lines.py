"""Counts by source line: the user's own lines, forward and backward, and they add up."""

from __future__ import annotations

import inspect

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_flopbudget import FlopCounter
from pytest_flopbudget.core.measurement import Counts

HERE = "test_lines.py"


def _flops_by_text(counter):
    """FLOPs by the text of the line, this file's lines alone."""
    source = inspect.getsource(inspect.getmodule(_flops_by_text)).splitlines()
    found = {}
    for line, counts in counter.by_line.items():
        path, _, number = line.rpartition(":")
        assert path.endswith(HERE), line
        found[source[int(number) - 1].strip()] = counts.flops
    return found


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 16, bias=False)
        self.b = nn.Linear(16, 4, bias=False)

    def forward(self, x):
        x = self.a(x)
        x = x.relu()
        return self.b(x)


def test_lines_hold_forward_and_backward_of_what_they_call():
    net, x = _Net(), torch.ones(2, 8)
    with FlopCounter(lines=True) as counter:
        y = net(x).sum()
        y.backward()
    assert _flops_by_text(counter) == {
        "x = self.a(x)": 2 * (2 * 2 * 8 * 16),  # no gradient of the input
        "x = x.relu()": 32 + 32,
        "return self.b(x)": 3 * (2 * 2 * 16 * 4),
        "y = net(x).sum()": 7,
        "y.backward()": 0,
    }


def test_lines_add_up_to_the_totals():
    net, x = _Net(), torch.ones(2, 8)
    with FlopCounter(lines=True) as counter:
        checkpoint(net, x, use_reentrant=False).sum().backward()
    total = Counts.total(counter.by_line.values())
    assert (total.flops, total.macs) == (counter.flops, counter.macs)
    assert (total.bytes_moved, total.ops) == (counter.bytes_moved, counter.ops)


def test_counting_by_line_changes_no_count():
    net, x = _Net(), torch.ones(2, 8)
    with FlopCounter() as plain:
        net(x)
    with FlopCounter(lines=True) as by_line:
        net(x)
    assert plain.by_line == {}
    assert plain.by_module == by_line.by_module
    assert plain.by_operator == by_line.by_operator


def test_backward_of_a_view_belongs_to_the_line_that_viewed():
    x = torch.ones(3, 1, requires_grad=True)
    with FlopCounter(lines=True) as counter:
        wide = x.expand(3, 5)
        y = wide.exp()
        y.backward(torch.ones(3, 5))
    by_text = _flops_by_text(counter)
    assert by_text["wide = x.expand(3, 5)"] == 3 * 4  # the sum over the expanded dimension
    assert by_text["y = wide.exp()"] == 15 + 15


def test_line_of_a_thread_is_its_own():
    import threading

    def work():
        torch.ones(5) + 1

    with FlopCounter(lines=True) as counter:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert _flops_by_text(counter) == {"torch.ones(5) + 1": 5}
