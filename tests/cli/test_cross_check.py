"""`flopbudget measure --cross-check`: other counters beside ours."""

from __future__ import annotations

import sys

import pytest

from pytest_flopbudget.cli.main import main
from pytest_flopbudget.core.measurement import Counts, Measurement, ModuleSpending, OperatorSpending
from pytest_flopbudget.core.opinion import Opinion
from pytest_flopbudget.render.second_opinion import render_opinions

CODE = """
import torch
from torch import nn

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(5, 7)
    def forward(self, x):
        q = self.up(x)[None, None]
        return nn.functional.scaled_dot_product_attention(q, q, q)

def linear():
    return nn.Linear(5, 7)

def grouped():
    return nn.Conv2d(4, 6, 3, groups=2)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    # The command adds the file's folder, which the tests after this one must not see.
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "cross_checked.py"
    file.write_text(CODE, "utf-8")
    return str(file)


def _said(capsys, *arguments):
    assert main(["measure", *arguments, "--cross-check"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    shown = captured.out.partition("second opinions")[2]
    assert shown
    assert all(len(line) <= 80 for line in captured.out.splitlines())
    return " ".join(shown.split())


def test_agreement_is_said_with_both_conventions(place, capsys):
    said = _said(capsys, f"{place}:linear", "--input", "f32[3,5]")
    flops = 2 * 3 * 5 * 7
    assert "ours FlopCounterMode fvcore" in said
    assert f"as it reports it {flops} FLOP {flops} FLOP {flops // 2} FLOP" in said
    assert f"at 2 FLOP for each MAC {flops} FLOP {flops} FLOP {flops} FLOP" in said
    assert "ratio to ours 1 1 1" in said
    assert "FlopCounterMode agrees; it counts a multiply-add as 2 FLOP, as we do" in said
    assert "fvcore agrees; it counts a multiply-add as 1 and calls it a FLOP" in said
    assert "not explained" not in said
    # The bias.
    assert "hold 21 FLOP that are no multiply-adds (aten.addmm 21)" in said


def test_operator_that_is_left_out_explains_the_whole_difference(place, capsys):
    said = _said(capsys, f"{place}:Layer", "--input", "f32[3,5]")
    attention = 2 * 2 * 3 * 3 * 7
    assert f"FlopCounterMode differs by -{attention} FLOP" in said
    name = "aten._scaled_dot_product_flash_attention_for_cpu"
    assert f"-{attention} FLOP {name}: it has no formula for it" in said
    assert "not explained: 0 FLOP" in said


def test_groups_explain_the_excess_in_training(place, capsys):
    said = _said(capsys, f"{place}:grouped", "--input", "f32[2,4,9,9]", "--train")
    # The input needs no gradient: forward and weight gradient.
    one = 2 * 2 * 4 * 6 * 9 * 7 * 7 // 2
    assert f"+{one:,} FLOP aten.convolution_backward: its weight gradient lacks" in said
    assert "ratio to ours 1 1.5 0.5" in said
    assert f"-{one:,} FLOP backward pass: it traces the forward pass alone" in said


def test_report_on_standard_output_leaves_no_place_for_it(place, capsys):
    assert main(["measure", f"{place}:linear", "--cross-check", "--json"]) == 2
    err = capsys.readouterr().err
    assert "--cross-check is printed beside the table, which --json replaces" in err
    assert err.count("\n") == 1


def test_report_in_a_file_is_written_beside_it(place, tmp_path, capsys):
    path = tmp_path / "report.json"
    _said(capsys, f"{place}:linear", "--input", "f32[3,5]", "--json", str(path))
    assert "FlopCounterMode" not in path.read_text("utf-8")


def _measurement(macs):
    row = OperatorSpending(
        operator="aten.mm", calls=1, counts=Counts(flops=2 * macs, macs=macs, ops=1)
    )
    spent = ModuleSpending(path="", type="", calls=0, operators=(row,))
    return Measurement(values={}, modules=(spent,))


def test_what_has_no_cause_is_shown_as_not_explained():
    opinion = Opinion(counter="Other", ours=2_000_000, total=2_000_002)
    text = render_opinions((opinion,), _measurement(1_000_000))
    assert "not explained: +2 FLOP" in text
    # Different counts never print as the ratio 1.
    assert text.splitlines()[3].split()[-1] == "1.000001"
    assert "ours holds no other arithmetic" in text


def test_counter_without_a_number_has_its_reason_and_no_column():
    opinion = Opinion(counter="Other", ours=4, failure="raises TypeError: no")
    text = render_opinions((opinion,), _measurement(2))
    assert "Other: raises TypeError: no" in text
    assert text.splitlines()[0].split() == ["second", "opinions", "ours"]
