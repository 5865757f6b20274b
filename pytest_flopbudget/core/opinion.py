"""What another counter says of the same call, and what each difference comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FLOPS_PER_MAC: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part of the difference between two counters, and its cause."""

    operator: str
    """Such as `aten.convolution_backward`, or words for several together."""
    flops: int
    """What the other counts more than we do; negative where it counts less."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Another counter's count of the multiply-adds that one measurement holds."""

    counter: str
    """The other counter's name, such as `FlopCounterMode`."""
    ours: int
    """Our multiply-adds in FLOP, two for each."""
    total: int | None = None
    """What the other reports, in its own unit; None where it gave no number."""
    per_mac: int = FLOPS_PER_MAC
    """How much it counts for one multiply-add."""
    differences: tuple[Difference, ...] = ()
    failure: str = ""
    """Why it gave no number."""

    @property
    def flops(self) -> int | None:
        """Its total at two FLOP for each multiply-add."""
        return None if self.total is None else self.total * FLOPS_PER_MAC // self.per_mac

    @property
    def ratio(self) -> float | None:
        """Its FLOP for each one of ours; None where either has none to compare."""
        return None if self.flops is None or not self.ours else self.flops / self.ours

    @property
    def unexplained(self) -> int:
        """The part of the difference that no cause was found for."""
        if self.flops is None:
            return 0
        return self.flops - self.ours - sum(part.flops for part in self.differences)
