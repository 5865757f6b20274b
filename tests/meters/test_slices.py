"""What a slice is told of by each clock, with files that stand for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopbudget.meters import slices
from pytest_flopbudget.meters.slices import SliceTimer


def test_the_time_queued_for_a_cpu_is_what_the_kernel_adds_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "schedstat"
    told.write_text("700000000 1000000 12\n")
    monkeypatch.setattr(slices, "_SCHEDSTAT", told)
    counts = iter((1_500_000, 3_500_000))

    def robbed() -> None:
        told.write_text(f"700000000 {next(counts)} 13\n")

    with SliceTimer(robbed, (), {}) as timer:
        piece = timer.run(2)
    # From 1 ms to 3.5 ms, in nanoseconds.
    assert piece.queued_s == pytest.approx(0.0025)
    assert piece.calls == 2


def test_where_the_kernel_does_not_tell_nothing_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "_SCHEDSTAT", tmp_path / "absent")
    with SliceTimer(lambda: None, (), {}) as timer:
        assert timer.run(1).queued_s == 0.0


def test_what_was_queued_is_part_of_the_wall_time() -> None:
    with SliceTimer(lambda: sum(range(1000)), (), {}) as timer:
        pieces = [timer.run(20) for _ in range(20)]
    assert all(0 <= piece.queued_s <= piece.wall_s for piece in pieces)
