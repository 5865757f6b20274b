"""The variable that makes a process of pytest a worker of `flopbudget ab`."""

from __future__ import annotations

from typing import Final

TURNS: Final = "FLOPBUDGET_TURNS"
"""Names the two file descriptors of a worker's channel: read there, write there.

In a module of its own, as every start of pytest looks for it, and needs nothing else of ours.
"""
