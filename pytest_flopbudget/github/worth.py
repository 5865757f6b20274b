"""Whether a comparison is worth a comment."""

from __future__ import annotations

import enum
from typing import Final

from pytest_flopbudget.core.comparison import Comparison, Standing
from pytest_flopbudget.github.rest import GitHubError

_GOOD: Final = frozenset({Standing.WITHIN, Standing.ACCEPTED})


class When(enum.Enum):
    """When a pull request gets a comment.

    One that is there is kept up to date in any case, except with `never`.
    """

    ALWAYS = "always"
    CHANGES = "changes"
    """When something costs more or less, is allowed more or less, or is new or gone."""
    FAILURES = "failures"
    NEVER = "never"


def parse_when(text: str) -> When:
    """What a workflow asks for, where `true` means always and `false` never.

    Raises GitHubError.
    """
    word = {"true": "always", "false": "never"}.get(text, text)
    words = [when.value for when in When]
    if word not in words:
        raise GitHubError(f"comment: {text!r} is none of {', '.join(words)}")
    return When(word)


def is_worth_posting(comparison: Comparison, when: When) -> bool:
    """Whether a first comment is to be posted."""
    if when is When.CHANGES:
        return comparison.standing is not Standing.WITHIN or _is_moved(comparison)
    if when is When.FAILURES:
        return comparison.standing not in _GOOD
    return when is When.ALWAYS


def _is_moved(comparison: Comparison) -> bool:
    return any(
        (
            comparison.loosened,
            comparison.tightened,
            comparison.added,
            comparison.over,
            comparison.warned,
            comparison.changed,
            comparison.new,
            comparison.removed,
            comparison.not_measured,
            comparison.renamed,
        )
    )
