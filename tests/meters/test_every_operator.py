"""Every operator that torch registers has a place: no new one slips in unseen."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from pytest_flopbudget import measure, register_formula
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters import plans
from pytest_flopbudget.meters.formulas import registry
from pytest_flopbudget.meters.formulas.uncounted import NOT_COUNTED
from pytest_flopbudget.meters.plans import Road, plan_for


def _overloads(namespace):
    """Name, with its overload, and operator of all that torch registers in a namespace."""
    for full in torch._C._dispatch_get_all_op_names():
        if full.startswith(f"{namespace}::"):
            name, _, overload = full.partition("::")[2].partition(".")
            packet = getattr(getattr(torch.ops, namespace), name)
            yield full, getattr(packet, overload or "default")


def _without_a_place(namespace):
    return {
        full.partition("::")[2].partition(".")[0]
        for full, operator in _overloads(namespace)
        if plan_for(operator).road in (Road.UNKNOWN, Road.OPAQUE)
    }


def test_each_of_torchs_operators_is_counted_free_composed_or_listed_as_not_counted():
    roads = Counter(plan_for(operator).road for _, operator in _overloads("aten"))
    assert sum(roads.values()) > 3000, "the operators were walked at all"
    assert roads[Road.COUNT] > 1500
    assert _without_a_place("aten") == set(NOT_COUNTED)


def test_control_an_operator_that_loses_its_formula_has_no_place(monkeypatch):
    monkeypatch.delitem(registry._FORMULAS, "aten::trace")
    assert _without_a_place("aten") == {*NOT_COUNTED, "trace"}


def test_quantised_operators_have_a_place_too():
    known_without = {"embedding_bag_2bit_prepack", "embedding_bag_4bit_prepack"}
    assert _without_a_place("quantized") <= known_without
    assert _without_a_place("_quantized") == set()


def test_primitives_count_as_what_they_call():
    m = measure(torch.ops.prims.add.default, torch.ones(3, 5), torch.ones(3, 5))
    assert (m.flops, m.uncounted) == (15, ())


def test_formula_that_fails_is_reported_and_the_code_runs_on(monkeypatch):
    def broken(*_args, out):
        raise TypeError

    monkeypatch.setitem(registry._FORMULAS, "aten::bmm", broken)
    monkeypatch.setattr(plans, "_KNOWN", {})
    x = torch.ones(2, 3, 3)
    m = measure(torch.bmm, x, x)
    assert torch.equal(m.output, torch.full((2, 3, 3), 3.0))
    assert [row.operator for row in m.uncounted] == ["aten.bmm.default"]


def test_formula_of_the_users_that_fails_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setattr(plans, "_KNOWN", {})
    monkeypatch.setattr(registry, "_FORMULAS", dict(registry._FORMULAS))
    monkeypatch.setattr(registry, "_TAUGHT", set())
    register_formula("aten::bmm", lambda a, *, out: 1)
    with pytest.raises(MeasureError, match=r"registered for aten\.bmm\.default raised TypeError"):
        measure(torch.bmm, torch.ones(2, 3, 3), torch.ones(2, 3, 3))
