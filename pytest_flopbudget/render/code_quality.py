"""Comparisons as GitLab's Code Quality, a list of issues that a merge request shows.

Source: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable
from typing import Any, Final

from pytest_flopbudget.core.comparison import Comparison
from pytest_flopbudget.render.findings import Finding, Weight, findings
from pytest_flopbudget.render.words import clean

_SEVERITIES: Final = {
    Weight.FAILING: "major",
    Weight.MINOR: "minor",
    Weight.INFORMATION: "info",
}
_SETTINGS: Final = "pyproject.toml"
"""Where an issue stands that is about no test: every issue needs a file."""


def render_code_quality(comparison: Comparison, *, locate: Callable[[str], str] = str) -> str:
    """A JSON list with an issue for each finding, an empty one where all is well.

    locate: the path from the root of the repository, for one from the root of the run.
    An issue keeps its fingerprint while it is of the same test, region, metric and kind,
    whatever the numbers: so the tracker knows which are new.
    """
    issues: dict[str, dict[str, Any]] = {}
    for finding in findings(comparison):
        issue = _issue(finding, locate)
        issues.setdefault(issue["fingerprint"], issue)
    return json.dumps(list(issues.values()), indent=2) + "\n"


def _issue(finding: Finding, locate: Callable[[str], str]) -> dict[str, Any]:
    return {
        "description": finding.message,
        "check_name": f"flopbudget/{finding.kind}",
        "fingerprint": _fingerprint(finding),
        "severity": _SEVERITIES[finding.weight],
        "location": {
            "path": _path(locate(finding.place.file or _SETTINGS)),
            "lines": {"begin": max(1, finding.place.line)},
        },
    }


def _fingerprint(finding: Finding) -> str:
    place = finding.place
    parts = (place.test, place.region, place.metric, finding.kind, finding.what, *place.legs)
    # A list as JSON has one reading, whatever the names hold.
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _path(file: str) -> str:
    """Relative to the root of the repository, with forward slashes and no `./`."""
    return posixpath.normpath(clean(file).replace("\\", "/")).lstrip("/")
