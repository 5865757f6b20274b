"""Resident memory: the most that the system kept in memory for this process at one time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_RESET_PEAK: Final = "5"
"""What Linux takes in `clear_refs` for setting the high-water mark to what is resident now."""
_KIB: Final = 1024

_OPEN: Final[list[ResidentPeak]] = []
"""Those between start and stop: resetting the mark for one loses it for those around it."""


class ResidentPeak:
    """From `start` to `stop`, the high-water mark of the whole process.

    Linux alone lets a process reset its mark; without that the mark would be of
    everything that was run before, and there is none.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.peak: int | None = None
        """Bytes resident at the peak, with all that was resident at the start."""
        self.why_absent = ""
        """Why there is no peak."""
        self._process = root / "proc/self"

    def start(self) -> None:
        """Set the mark to what is resident now."""
        try:
            for outer in _OPEN:
                outer.note()
            with (self._process / "clear_refs").open("w") as clear_refs:
                clear_refs.write(_RESET_PEAK)
        except OSError as error:
            self.why_absent = f"the system keeps no mark that can be reset: {error}"
            return
        _OPEN.append(self)

    def stop(self) -> None:
        """Read the mark."""
        if self in _OPEN:
            _OPEN.remove(self)
            self.note()
            if self.peak is None:
                self.why_absent = f"{self._process / 'status'} shows no mark"

    def note(self) -> None:
        """Take the mark as it stands, where it is higher than what was noted before."""
        for line in (self._process / "status").read_text().splitlines():
            name, _, amount = line.partition(":")
            if name == "VmHWM":
                nbytes = _KIB * int(amount.split()[0])
                self.peak = max(nbytes, self.peak or 0)
