"""The ways in which a user's input can be wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final


class FlopBudgetError(Exception):
    """Something the user can mend. The message is one line: where, what, and what to write."""


@final
class QuantityError(FlopBudgetError):
    """A text that is no quantity, or one of the wrong dimension. Says nothing of where."""


@final
class SettingsError(FlopBudgetError):
    """A settings file or a marker with a mistake in it."""


@final
class ReportError(FlopBudgetError):
    """A report file that cannot be read or written."""


@final
class MeasureError(FlopBudgetError):
    """A callable that cannot be measured in the way that was asked for."""


@final
class LockError(FlopBudgetError):
    """Nothing keeps other processes from timing at the same time."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known spelling that `word` was most likely meant to be, if one is near."""
    import difflib

    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
