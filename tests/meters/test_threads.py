"""Work that a region hands to other threads counts like its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest
import torch
from torch import nn

from pytest_flopbudget import FlopCounter, measure
from pytest_flopbudget.core.measurement import UNFINISHED

A, B = torch.randn(4, 5), torch.randn(5, 6)
ONE = 4 * 5 * 6
"""Multiply-accumulates of A times B."""


def _in_a_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(A @ B))
    thread.start()
    thread.join()
    return results[0]


def test_work_of_a_thread_counts():
    before = threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.imap
    m = measure(_in_a_thread)
    assert (m.macs, m.flops, m.uncounted) == (ONE, 2 * ONE, ())
    assert torch.equal(m.output, A @ B)
    assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPool.imap) == before


def _submit(pool):
    return [future.result() for future in [pool.submit(torch.mm, A, B) for _ in range(4)]]


@pytest.mark.parametrize(
    ("make", "work"),
    [
        (ThreadPoolExecutor, _submit),
        (ThreadPoolExecutor, lambda pool: list(pool.map(torch.mm, [A] * 4, [B] * 4))),
        (ThreadPool, lambda pool: pool.starmap(torch.mm, [(A, B)] * 4)),
        (ThreadPool, lambda pool: pool.map(A.mm, [B] * 4)),
        (ThreadPool, lambda pool: list(pool.imap(A.mm, [B] * 4))),
        (ThreadPool, lambda pool: list(pool.imap_unordered(A.mm, [B] * 4))),
        (ThreadPool, lambda pool: [pool.apply(torch.mm, (A, B)) for _ in range(4)]),
    ],
)
@pytest.mark.parametrize("is_old", [False, True], ids=["pool made within", "pool made before"])
def test_work_of_a_pool_counts_wherever_the_pool_was_made(make, work, is_old):
    def within():
        with make(2) as pool:
            work(pool)

    with make(2) as old:
        old.map(abs, range(2))  # its threads are running now
        m = measure(work, old) if is_old else measure(within)
    assert (m.macs, m.uncounted) == (4 * ONE, ())


def test_pool_computes_on_after_the_region_and_nothing_is_left_on_its_threads():
    with ThreadPoolExecutor(1) as pool:
        m = measure(_submit, pool)
        after = pool.submit(torch.utils._python_dispatch._get_current_dispatch_mode)
        assert torch.equal(pool.submit(torch.mm, A, B).result(), A @ B)
        assert after.result() is None
    assert m.macs == 4 * ONE


def test_thread_that_outlives_the_region_is_reported():
    may_go_on = threading.Event()

    def start():
        def late():
            may_go_on.wait(10)
            A @ B

        thread = threading.Thread(target=late)
        thread.start()
        return thread

    m = measure(start)
    may_go_on.set()
    m.output.join()
    assert m.macs == 0
    assert [u.operator for u in m.uncounted] == [UNFINISHED]


def test_thread_works_for_the_module_that_started_it():
    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(8, 3, bias=False), nn.Linear(8, 5, bias=False)

        def forward(self, x):
            with ThreadPoolExecutor(2) as pool:
                halves = [pool.submit(half, x) for half in (self.left, self.right)]
                extra = pool.submit(torch.relu, x).result()
            return torch.cat([half.result() for half in halves], 1), extra

    m = measure(nn.Sequential(Parallel()), torch.randn(2, 8))
    own = {path: counts.own.flops for path, counts in m.by_module.items()}
    assert own == {"": 0, "0": 16, "0.left": 2 * 2 * 8 * 3, "0.right": 2 * 2 * 8 * 5}


def test_memory_that_a_thread_allocates_is_in_the_peak():
    x = torch.zeros(1000)
    with ThreadPoolExecutor(1) as pool:
        m = measure(lambda: pool.submit(torch.add, x, 1).result())
    assert (m.activation_memory, m.peak_memory) == (4000, 8000)


def test_many_threads_lose_no_count():
    x = torch.zeros(3)

    def add():
        for _ in range(200):
            torch.add(x, 1)

    with ThreadPoolExecutor(8) as pool:
        m = measure(lambda: [future.result() for future in [pool.submit(add) for _ in range(8)]])
    assert (m.flops, m.ops) == (8 * 200 * 3, 8 * 200)
    assert m.activation_memory % 12 == 0
    assert m.bytes_moved == 8 * 200 * (12 + 12)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_forked_script_counts():
    m = measure(lambda: torch.jit.wait(torch.jit.fork(torch.mm, A, B)))
    assert (m.macs, m.uncounted) == (ONE, ())


def test_thread_that_raises_leaves_its_exception_as_it_is():
    def fails():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(torch.mm, A, A).result()

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measure(fails)


@pytest.fixture
def counting_elsewhere():
    """A counter whose region is open on another thread until it is asked to end."""
    is_open, is_over, counter = threading.Event(), threading.Event(), FlopCounter()

    def count():
        with counter:
            is_open.set()
            is_over.wait(timeout=60)
            torch.mm(A, B)

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    assert is_open.wait(timeout=60)

    def ended():
        is_over.set()
        thread.join(timeout=60)
        return counter

    yield ended
    is_over.set()


def test_thread_is_not_counted_by_a_region_that_did_not_start_it(counting_elsewhere):
    _in_a_thread()
    assert counting_elsewhere().macs == ONE  # its own product alone


def test_pool_is_not_counted_by_a_region_that_gave_it_no_work(counting_elsewhere):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.mm, A, B).result(timeout=60)
    assert counting_elsewhere().macs == ONE


def test_counter_beside_another_threads_counts_its_own_threads_alone(counting_elsewhere):
    with FlopCounter() as here:
        _in_a_thread()
        _in_a_thread()
    assert (here.macs, counting_elsewhere().macs) == (2 * ONE, ONE)


def test_counters_within_each_other_all_hear_of_a_thread():
    with FlopCounter() as outer:
        with FlopCounter() as inner:
            _in_a_thread()
        _in_a_thread()
    assert (inner.macs, outer.macs) == (ONE, 2 * ONE)


def test_what_others_put_around_a_start_stays_and_counts_once():
    before, started = threading.Thread.start, []
    try:
        with FlopCounter():
            ours = threading.Thread.start

            def theirs(thread):
                started.append(thread)
                ours(thread)

            threading.Thread.start = theirs
        assert threading.Thread.start is theirs
        _in_a_thread()
        for _ in range(2):
            with FlopCounter() as counter:
                _in_a_thread()
            assert counter.macs == ONE
        assert threading.Thread.start is theirs
        assert len(started) == 3
    finally:
        threading.Thread.start = before
