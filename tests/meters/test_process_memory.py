"""What the allocator hands out and what is resident, against numbers derived by hand."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.autograd import profiler

from pytest_flopbudget import FlopCounter, MemoryTracker, measure
from pytest_flopbudget.core.errors import MeasureError
from pytest_flopbudget.meters import allocator
from pytest_flopbudget.meters.allocator import AllocatorTrace, peak_of
from pytest_flopbudget.meters.resident import ResidentPeak

F32 = 4
MIB = 2**20
linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="no other system lets a process reset its mark"
)


def _mlp():
    return nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 256))


def _taken(fn, *args, **kwargs):
    return measure(fn, *args, process_memory=True, **kwargs)


class TestBlocks:
    def test_the_peak_is_of_what_is_alive_at_once(self):
        assert peak_of([(1, 30), (2, 12), (1, -30), (3, 20), (2, -12), (3, -20)]) == 42

    def test_what_was_there_before_is_not_subtracted(self):
        # Address 9 was handed out before, and the size that comes with it may be wrong.
        assert peak_of([(9, -1000), (1, 30), (9, -7), (2, 12)]) == 42

    def test_a_block_is_given_back_with_the_size_it_had_whatever_is_told(self):
        assert peak_of([(1, 30), (1, -2_000), (2, 12), (3, 7)]) == 30

    def test_an_address_that_is_handed_out_again_was_given_back_unseen(self):
        assert peak_of([(1, 30), (1, 12), (2, 10)]) == 30

    def test_nothing_has_no_peak_but_zero(self):
        assert peak_of([]) == 0


class TestAllocatorPeak:
    def test_forward_holds_two_activations(self):
        with torch.no_grad():
            m = _taken(_mlp(), torch.randn(64, 512))
        assert m.allocator_peak == 2 * 64 * 1024 * F32 == 524_288

    def test_training_holds_output_hidden_gradient_and_all_gradients(self):
        m = _taken(_mlp(), torch.randn(64, 512), train=True)
        out, d_hidden = 64 * 256 * F32, 64 * 1024 * F32
        gradients = (512 * 1024 + 1024 + 1024 * 256 + 256) * F32
        loss_and_its_gradient = 2 * F32
        assert out + d_hidden + gradients == 3_478_528
        assert m.allocator_peak == 3_478_528 + loss_and_its_gradient == m.activation_memory

    def test_scratch_inside_an_operator_is_in_it(self):
        x = torch.randn(1_009)
        with torch.no_grad():
            m = _taken(x.sort, stable=True)
        # Values in float32 and indices in int64 are what comes out.
        assert m.activation_memory == 1_009 * (F32 + 8)
        assert m.allocator_peak > m.activation_memory

    def test_what_no_operator_takes_is_in_it(self):
        storage = torch.UntypedStorage(40)
        assert _taken(storage.resize_, 4_003).allocator_peak == 4_003

    def test_it_is_the_same_on_every_run_whatever_was_freed_unseen(self):
        # Gradients that were made unseen and are freed seen, and the other way round.
        model, x = _mlp(), torch.randn(64, 512)

        def step():
            model.zero_grad(set_to_none=True)
            model(x).sum().backward()

        peaks = set()
        for _ in range(5):
            step()
            peaks.add(_taken(step).allocator_peak)
        assert len(peaks) == 1

    def test_counts_are_the_same_with_and_without(self):
        model, x = _mlp(), torch.randn(3, 512)
        measure(model, x, train=True)
        alone, beside = measure(model, x, train=True), _taken(model, x, train=True)
        both = {name: beside.values[name] for name in alone.values}
        assert replace(beside, values=both, absent={}) == alone
        assert beside.values.keys() - alone.values.keys() <= {"allocator_peak", "rss_peak"}

    def test_it_is_taken_only_where_it_is_asked_for(self):
        m = measure(torch.ones, 3)
        with pytest.raises(AttributeError, match="'allocator_peak' was not measured"):
            _ = m.allocator_peak
        assert m.absent == {}

    def test_blocks_have_it_too(self):
        with MemoryTracker(process_memory=True) as memory:
            torch.ones(5, 7)
        assert memory.allocator_peak == 5 * 7 * F32
        with FlopCounter(process_memory=True) as counter:
            torch.ones(5, 7)
        assert counter.allocator_peak == 5 * 7 * F32


class TestAbsence:
    """A peak that is not known is absent, and says why: it is never zero or too low."""

    def test_other_threads_cannot_be_followed(self):
        def spread():
            thread = threading.Thread(target=lambda: torch.ones(3))
            thread.start()
            thread.join()

        m = _taken(spread)
        assert "allocator_peak" not in m.values
        assert m.absent["allocator_peak"] == "torch does not tell what its other threads take"
        with pytest.raises(AttributeError, match="could not be measured: torch does not tell"):
            _ = m.allocator_peak

    def test_a_profiler_of_the_code_runs_as_it_would_alone(self):
        def profiled():
            torch.ones(3)
            with profiler.profile() as prof:
                torch.ones(5)
            return {event.name for event in prof.function_events}

        m = _taken(profiled)
        assert "aten::ones" in m.output or "aten::fill_" in m.output
        assert m.absent["allocator_peak"].startswith("the code starts a profiler")
        assert _taken(torch.ones, 3).allocator_peak == 3 * F32

    def test_a_profiler_around_it_is_left_alone(self):
        with profiler.profile() as prof:
            m = _taken(torch.ones, 3)
        assert m.absent["allocator_peak"].startswith("a profiler is running")
        assert prof.function_events

    def test_of_two_regions_the_inner_has_it(self):
        with FlopCounter(process_memory=True) as outer:
            inner = _taken(torch.ones, 3)
        assert inner.allocator_peak == 3 * F32
        why = outer.measurement.absent["allocator_peak"]
        assert why == "a region within it has a peak of its own"

    def test_a_profiler_of_another_thread_is_refused_and_the_process_lives(self):
        trace, caught = AllocatorTrace(), []

        def profiled():
            try:
                with profiler.profile():
                    pass
            except MeasureError as error:
                caught.append(str(error))

        trace.start()
        thread = threading.Thread(target=profiled)
        thread.start()
        thread.join()
        torch.ones(3)
        trace.stop()
        assert trace.peak == 3 * F32
        assert "measure the process's memory without that profiler" in caught[0]

    def test_a_trace_of_another_thread_is_left_alone(self):
        first, second = AllocatorTrace(), AllocatorTrace()
        first.start()
        thread = threading.Thread(target=second.start)
        thread.start()
        thread.join()
        second.stop()
        first.stop()
        assert first.peak == 0
        assert second.why_absent.startswith("a profiler is running")

    def test_another_torch_may_tell_nothing(self, monkeypatch):
        def missing():
            raise AttributeError("no memory events")

        monkeypatch.setattr(allocator, "_start_profiler", missing)
        m = _taken(torch.ones, 3)
        assert m.absent["allocator_peak"] == (
            f"torch {torch.__version__} does not tell: no memory events"
        )

    def test_what_is_patched_while_it_runs_is_put_back(self):
        before = (profiler._prepare_profiler, profiler._enable_profiler)
        _taken(torch.ones, 3)
        assert (profiler._prepare_profiler, profiler._enable_profiler) == before


def _new_pages(size):
    """Write to memory that comes from the system: a heap that was grown before would hide it."""
    with mmap.mmap(-1, size) as pages:
        for start in range(0, size, mmap.PAGESIZE):
            pages[start] = 1


@linux
class TestResidentPeak:
    def test_it_holds_what_is_not_torchs(self):
        # What other tests have left would be given back meanwhile.
        gc.collect()
        base = measure(torch.ones, 3, process_memory=True).rss_peak
        m = _taken(_new_pages, 64 * MIB)
        assert m.rss_peak >= base + 60 * MIB

    def test_it_is_not_of_what_ran_before(self):
        high = _taken(_new_pages, 128 * MIB).rss_peak
        assert _taken(torch.ones, 3).rss_peak < high - 100 * MIB

    def test_a_region_within_does_not_lose_the_peak_of_the_one_around_it(self):
        outer, inner = ResidentPeak(), ResidentPeak()
        outer.start()
        _new_pages(128 * MIB)
        inner.start()
        inner.stop()
        outer.stop()
        assert outer.peak > inner.peak + 100 * MIB


def test_without_a_mark_that_can_be_reset_there_is_no_resident_peak(tmp_path):
    resident = ResidentPeak(tmp_path)
    resident.start()
    resident.stop()
    assert resident.peak is None
    assert resident.why_absent.startswith("the system keeps no mark that can be reset")


def test_a_system_that_shows_no_mark_has_no_resident_peak(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/clear_refs").touch()
    (tmp_path / "proc/self/status").write_text("VmRSS:\t 12 kB\n")
    resident = ResidentPeak(tmp_path)
    resident.start()
    resident.stop()
    assert resident.peak is None
    assert resident.why_absent.endswith("status shows no mark")


def test_torchs_profiler_announces_nothing(tmp_path):
    # In a process of its own: the level is read when a profiler is first started.
    code = "import torch; from pytest_flopbudget import measure; "
    code += "print(measure(torch.ones, 7, process_memory=True).allocator_peak)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("28\n", "")
