"""What `flopbudget doctor` says, of this machine and of broken ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

import pytest_flopbudget.meters.measure as measure_module
from pytest_flopbudget.cli import doctor
from pytest_flopbudget.cli.main import main
from pytest_flopbudget.core.measurement import Measurement, Samples, Value
from pytest_flopbudget.meters import allocator
from pytest_flopbudget.meters.resident import ResidentPeak


@pytest.fixture(autouse=True)
def quick_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is not what these tests are about, and costs two seconds."""
    monkeypatch.setattr(doctor, "LatencyTimer", _Timer)


class _Timer:
    """A timer whose series have the medians 1.00, 1.01, ... 1.04 ms, each within 2 %."""

    threads = 1

    def __init__(self, **_: Any) -> None:
        self._medians = (0.001 + 0.00001 * n for n in count())

    def measure(self, _probe: Callable[[], object]) -> Samples:
        median = next(self._medians)
        return Samples(
            rounds=20,
            warmup_rounds=20,
            threads=1,
            median=median,
            low=0.98 * median,
            high=1.02 * median,
            confidence=0.95,
            p95=median,
            p99=median,
            minimum=median,
            maximum=median,
            is_steady=True,
        )


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
    code, checks = _checks(capsys, "--settings", str(tmp_path / "pyproject.toml"))
    assert code == 0
    # A multiply and an add for each of 32 * 48 * 64 terms.
    assert checks["counter"]["detail"] == "[32,48] @ [48,64] is 196608 FLOP, as derived by hand"
    assert checks["torch"]["detail"] == metadata.version("torch")
    assert checks["settings"]["state"] == "no"


def test_a_counter_that_miscounts_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = Measurement(values={"flops": Value(value=196607)})
    monkeypatch.setattr(measure_module, "measure", lambda *_: wrong)
    code, checks = _checks(capsys)
    assert code == 2
    assert checks["counter"]["state"] == "fault"
    assert checks["counter"]["detail"] == "counts 196607 FLOP for [32,48] @ [48,64]; it is 196608"


def test_a_counter_that_breaks_is_a_fault_and_the_other_checks_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise AttributeError("torch moved it")

    monkeypatch.setattr(measure_module, "measure", breaks)
    code, checks = _checks(capsys)
    assert code == 2
    assert checks["counter"]["detail"] == "cannot be tried: AttributeError: torch moved it"
    assert checks["clock"]["state"] == "ok"


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
    code, checks = _checks(capsys)
    assert code == 2
    assert checks["torch"]["detail"] == "not installed: nothing can be counted"
    assert checks["counter"]["detail"].startswith("cannot be tried: ModuleNotFoundError")
    assert checks["fvcore"]["state"] == "no"


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
    code, checks = _checks(capsys)
    assert code == 0
    assert (checks["mkldnn"]["state"], checks["cuda"]["state"]) == (state, state)


def test_the_noise_is_the_spread_of_the_medians(capsys: pytest.CaptureFixture[str]) -> None:
    _, checks = _checks(capsys)
    # Medians from 1.00 to 1.04 ms, intervals of +-2 %.
    assert "lie within 4.0% of each other, each known to +-2.0%" in checks["latency"]["detail"]


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
    check = doctor._clock_check(lambda: next(readings))
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
    code, checks = _checks(capsys, "--settings", str(path))
    assert code == 0
    assert checks["settings"]["detail"] == f"{path}: budgets 1, machines 2; this machine is any"


def test_a_mistake_in_the_settings_is_a_fault_that_says_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.flopbudget.budgets.small]\nflop = "1 MFLOP"\n', encoding="utf-8")
    code, checks = _checks(capsys, "--settings", str(path))
    assert code == 2
    assert checks["settings"]["state"] == "fault"
    assert "tool.flopbudget.budgets.small" in checks["settings"]["detail"]


def test_the_table_fits_80_columns_and_has_a_line_for_every_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = _run(capsys)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    names = [line.split()[1] for line in out.splitlines() if not line.startswith(" ")]
    _, checks = _checks(capsys)
    assert names == list(checks)


def test_what_is_of_this_machine_is_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checks = _checks(capsys)
    # 32 numbers in float64.
    detail = "a tensor of 256 B is seen as 256 B handed out"
    assert (checks["allocator_peak"]["state"], checks["allocator_peak"]["detail"]) == ("ok", detail)
    if sys.platform.startswith("linux"):
        assert checks["rss_peak"]["state"] == "ok"

    def missing() -> None:
        raise AttributeError("no memory events")

    monkeypatch.setattr(allocator, "_start_profiler", missing)
    monkeypatch.setattr(doctor, "ResidentPeak", lambda: ResidentPeak(Path("/nowhere")))
    code, checks = _checks(capsys)
    assert code == 0
    assert checks["allocator_peak"]["state"] == checks["rss_peak"]["state"] == "no"
    assert checks["allocator_peak"]["detail"].endswith("does not tell: no memory events")
    assert checks["rss_peak"]["detail"].startswith("cannot be measured: the system keeps no mark")


def test_a_trace_that_miscounts_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocator, "_stop_profiler", lambda: [(1, 255)])
    code, checks = _checks(capsys)
    # The real profiler is still to be stopped.
    torch._C._autograd._disable_profiler()
    assert code == 2
    assert checks["allocator_peak"]["detail"] == "is 255 B for a tensor of 256 B"
