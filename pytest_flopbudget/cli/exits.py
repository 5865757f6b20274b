"""The exit codes of every `flopbudget` subcommand."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a subcommand ends with."""

    WITHIN = 0
    """Everything is within its budget."""
    OVER = 1
    """Something is over budget or regressed."""
    USAGE = 2
    """The command or its input is wrong."""
    NOTHING_MEASURED = 3
