"""What `flopbudget doctor` says, of this machine and of broken ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

import pytest_flopbudget.meters.measure as measure_module
from pytest_flopbudget.cli import checks
from pytest_flopbudget.cli.main import main
from pytest_flopbudget.core.measurement import Measurement, Value
from pytest_flopbudget.core.noise import detectable_growth
from pytest_flopbudget.core.series import Slice, Turn, TurnSeries
from pytest_flopbudget.core.stopping import Rules
from pytest_flopbudget.meters import allocator, roof
from pytest_flopbudget.meters.resident import ResidentPeak
from pytest_flopbudget.meters.roof import Roof

ROOF = Roof(
    rates={"float64": 36e9, "float32": 80e9, "bfloat16": 2.5e9, "int8": 2.4e9},
    absent={"float16": "not implemented for 'Half'"},
    bandwidth=6.0 * 2**30,
    array_bytes=128 * 2**20,
    cache_bytes=32 * 2**20,
    threads=1,
)


@pytest.fixture(autouse=True)
def quick_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roof and noise are not what these tests are about, and cost twelve seconds."""
    monkeypatch.setattr(roof, "measure_roof", lambda *, threads: replace(ROOF, threads=threads))
    monkeypatch.setattr(checks, "measure_noise", lambda: NOISE)


def _pair(ratio: float, *, is_steady: bool = True) -> TurnSeries:
    """A pair whose head took so many times as long as its base, at 2 s for four calls."""
    base = Slice(calls=4, wall_s=2.0, cpu_s=2.0)
    head = Slice(calls=4, wall_s=2.0 * ratio, cpu_s=2.0 * ratio)
    return TurnSeries(turns=(Turn(base=base, head=head),) * 4, is_steady=is_steady)


NOISE = (_pair(1 / 1.05), _pair(1.0), _pair(1.05, is_steady=False))
"""Logarithms -x, 0, x, whose standard deviation is x = log(1.05)."""


def _run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    code = main(["doctor", *args])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def _checks(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    code, out = _run(capsys, "--json", *args)
    return code, {check["name"]: check for check in json.loads(out)["checks"]}


def test_a_machine_on_which_the_counter_works_is_well(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, found = _checks(capsys, "--settings", str(tmp_path / "pyproject.toml"))
    assert code == 0
    # A multiply and an add for each of 32 * 48 * 64 terms.
    assert found["counter"]["detail"] == "[32,48] @ [48,64] is 196608 FLOP, as derived by hand"
    assert found["torch"]["detail"] == metadata.version("torch")
    assert found["settings"]["state"] == "no"


def test_a_counter_that_miscounts_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Measurement(values={"flops": Value(value=196607)})
    monkeypatch.setattr(measure_module, "measure", lambda *_: wrong)
    code, found = _checks(capsys)
    assert code == 2
    assert found["counter"]["state"] == "fault"
    assert found["counter"]["detail"] == "counts 196607 FLOP for [32,48] @ [48,64]; it is 196608"


def test_a_counter_that_breaks_is_a_fault_and_the_other_checks_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise AttributeError("torch moved it")

    monkeypatch.setattr(measure_module, "measure", breaks)
    code, found = _checks(capsys)
    assert code == 2
    assert found["counter"]["detail"] == "cannot be tried: AttributeError: torch moved it"
    assert found["clock"]["state"] == "ok"


def test_without_torch_the_answer_is_a_fault_and_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name in {"torch", "fvcore"}:
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, measure_module.__name__)
    code, found = _checks(capsys)
    assert code == 2
    assert found["torch"]["detail"] == "not installed: nothing can be counted"
    assert found["counter"]["detail"].startswith("cannot be tried: ModuleNotFoundError")
    assert found["fvcore"]["state"] == "no"


@pytest.mark.parametrize(("is_there", "state"), [(True, "ok"), (False, "no")])
def test_mkldnn_and_cuda_are_said_to_be_there_or_not(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
    state: str,
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    code, found = _checks(capsys)
    assert code == 0
    assert (found["mkldnn"]["state"], found["cuda"]["state"]) == (state, state)


def test_the_noise_is_the_spread_between_pairs_and_says_what_can_be_resolved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, found = _checks(capsys)
    noise = found["noise"]
    said = "3 pairs that ran the same 500 ms differed by 5.0% in CPU time; 1 of them never settled"
    assert said in noise["detail"]
    numbers = noise["numbers"]
    assert (numbers["pairs"], numbers["clock"], numbers["call_seconds"]) == (3, "cpu", 0.5)
    assert numbers["noise"] == pytest.approx(0.05)
    expected = detectable_growth(0.05, 5, Rules(allowed=0.05), 0.9)
    assert numbers["resolves"]["5"] == pytest.approx(expected)
    percent = f"{numbers['resolves']['5']:.1%}"
    assert f"can resolve latency changes of about {percent} with 5 pairs" in noise["detail"]
    assert numbers["resolves"]["10"] < numbers["resolves"]["5"]


def test_a_quick_look_leaves_the_noise_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "measure_noise", None)
    code, found = _checks(capsys, "--quick")
    assert code == 0
    assert "noise" not in found


def test_the_roof_is_told_by_dtype_and_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = _checks(capsys)
    detail = found["roof"]["detail"]
    for said in (
        "on 1 thread: float64 36 GFLOP/s, float32 80 GFLOP/s, bfloat16 2.5 GFLOP/s",
        "int8 2.4 GOP/s, float16 not (not implemented for 'Half')",
        "memory 6 GiB/s (STREAM triad of 128 MiB arrays)",
    ):
        assert said in detail
    assert found["roof"]["numbers"]["rates"] == ROOF.rates
    assert found["roof"]["numbers"]["bandwidth"] == 6.0 * 2**30
    assert found["roof"]["numbers"]["absent"] == ROOF.absent


def test_arrays_that_the_caches_may_hold_are_said_to_be_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(ROOF, cache_bytes=32 * 2**20 + 1)
    monkeypatch.setattr(roof, "measure_roof", lambda *, threads: small)
    _, found = _checks(capsys)
    assert "(STREAM triad of 128 MiB arrays, which the caches may help)" in found["roof"]["detail"]


def test_the_machine_is_told_as_settings_name_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"cpu": "AMD EPYC", "cores": 4, "memory_bytes": 2**34, "system": "Linux"}
    monkeypatch.setattr(checks, "machine_facts", lambda: facts)
    _, found = _checks(capsys)
    assert found["machine"]["detail"] == "cpu = AMD EPYC, cores = 4, memory = 16 GiB"


@pytest.mark.parametrize(
    ("readings", "state", "detail"),
    [
        (chain.from_iterable((n * 1e-6, n * 1e-6) for n in count()), "ok", "resolves 1000 ns"),
        (repeat(5.0), "no", "did not move in 1000 readings: short calls read as zero"),
    ],
)
def test_the_clock_resolves_the_smallest_step_it_makes(
    readings: Iterator[float], state: str, detail: str
) -> None:
    check = checks._clock_check(lambda: next(readings))
    assert (check.state.value, check.detail) == (state, detail)


def test_valid_settings_are_counted_and_the_machine_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.flopbudget.budgets.small]\nflops = "1 MFLOP"\n'
        '[tool.flopbudget.machines.any]\ncpu = "*"\n'
        "[tool.flopbudget.machines.huge]\ncores = 4096\n",
        encoding="utf-8",
    )
    code, found = _checks(capsys, "--settings", str(path))
    assert code == 0
    assert found["settings"]["detail"] == f"{path}: budgets 1, machines 2; this machine is any"


def test_a_mistake_in_the_settings_is_a_fault_that_says_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.flopbudget.budgets.small]\nflop = "1 MFLOP"\n', encoding="utf-8")
    code, found = _checks(capsys, "--settings", str(path))
    assert code == 2
    assert found["settings"]["state"] == "fault"
    assert "tool.flopbudget.budgets.small" in found["settings"]["detail"]


def test_the_table_fits_80_columns_and_has_a_line_for_every_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = _run(capsys)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    names = [line.split()[1] for line in out.splitlines() if not line.startswith(" ")]
    _, found = _checks(capsys)
    assert names == list(found)


def test_what_is_of_this_machine_is_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = _checks(capsys)
    # 32 numbers in float64.
    detail = "a tensor of 256 B is seen as 256 B handed out"
    assert (found["allocator_peak"]["state"], found["allocator_peak"]["detail"]) == ("ok", detail)
    if sys.platform.startswith("linux"):
        assert found["rss_peak"]["state"] == "ok"

    def missing() -> None:
        raise AttributeError("no memory events")

    monkeypatch.setattr(allocator, "_start_profiler", missing)
    monkeypatch.setattr(checks, "ResidentPeak", lambda: ResidentPeak(Path("/nowhere")))
    code, found = _checks(capsys)
    assert code == 0
    assert found["allocator_peak"]["state"] == found["rss_peak"]["state"] == "no"
    assert found["allocator_peak"]["detail"].endswith("does not tell: no memory events")
    assert found["rss_peak"]["detail"].startswith("cannot be measured: the system keeps no mark")


def test_a_trace_that_miscounts_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "_stop_profiler", lambda: [(1, 255)])
    code, found = _checks(capsys)
    # The real profiler is still to be stopped.
    torch._C._autograd._disable_profiler()
    assert code == 2
    assert found["allocator_peak"]["detail"] == "is 255 B for a tensor of 256 B"
