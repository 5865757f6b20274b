"""Whether two machines are so alike that what depends on them may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pytest_flopbudget.core.report import Report

_KERNELS: Final = ("system", "arch", "cpu", "cpu_capability", "gpu", "cuda")
"""Facts that decide which kernels run, and so how much scratch they take: with another
instruction set the peak of one ResNet-18 training step was 39 % higher."""
_PACE: Final = (
    *_KERNELS,
    *("cpu_flags", "cores", "cpu_quota", "governor", "python", "torch", "blas", "onednn"),
    *("torch_threads", "torch_interop_threads"),
)
"""Facts that decide how long a call takes. The amount of memory does not, as long as what is
measured fits, and two machines of one kind tell amounts that differ a little."""


def machine_difference(base: Mapping[str, object], head: Mapping[str, object]) -> str:
    """How the two differ, such as `cpu_capability AVX2, here AVX512`; empty where they do not.

    Of two whose memory peaks are to be compared. What neither tells is taken for different.
    """
    return _difference(base, head, _KERNELS)


def pace_difference(base: Report, head: Report) -> str:
    """How what decides latencies differs between the machines of two reports.

    In the words of `machine_difference`, with the versions of Python and torch. Empty says
    that they look alike, not that latencies of two separate runs can be compared.
    """
    before, after = ({**report.versions, **report.machine} for report in (base, head))
    return _difference(before, after, _PACE)


def _difference(
    base: Mapping[str, object], head: Mapping[str, object], telling: Sequence[str]
) -> str:
    known = [name for name in telling if base.get(name) or head.get(name)]
    if not known:
        return "neither tells what it is"
    return ", ".join(
        f"{name} {base.get(name) or 'unknown'}, here {head.get(name) or 'unknown'}"
        for name in known
        if base.get(name) != head.get(name)
    )
