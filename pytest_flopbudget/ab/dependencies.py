"""How the dependencies that two trees declare differ."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_FILES: Final = (
    "requirements*.txt",
    "requirements*.in",
    "requirements/*.txt",
    "requirements/*.in",
    "constraints*.txt",
    "setup.cfg",
    "setup.py",
    "environment*.yml",
    "environment*.yaml",
    "Pipfile",
    "*.lock",
    "pylock*.toml",
)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SAME: Final = "both sides run with what is installed here"


def dependency_differences(base: Path, head: Path) -> tuple[str, ...]:
    """What the two trees ask for differently, one sentence for each file.

    base, head: the project's directory in either tree.
    """
    found = []
    declared = _declared_differences(_declared(base), _declared(head))
    if declared:
        found.append(f"pyproject.toml: dependencies differ: {'; '.join(declared)}; {_SAME}")
    found += [
        f"{name} differs between base and head; {_SAME}"
        for name in _names(base, head)
        if _content(base / name) != _content(head / name)
    ]
    return tuple(found)


def _declared_differences(base: Mapping[str, str], head: Mapping[str, str]) -> list[str]:
    differences = []
    for key in sorted({*base, *head}):
        if base.get(key) != head.get(key):
            sides = [
                f"{side} has {has[key]}"
                for side, has in (("base", base), ("head", head))
                if key in has
            ]
            differences.append(", ".join(sides))
    return differences


def _declared(directory: Path) -> dict[str, str]:
    """What pyproject.toml declares, by name."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(
            (directory / "pyproject.toml").read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    project = content.get("project", {})
    declared: dict[str, str] = _by_name(project.get("dependencies", []))
    for requirements in project.get("optional-dependencies", {}).values():
        declared |= _by_name(requirements)
    return declared


def _by_name(requirements: Sequence[str]) -> dict[str, str]:
    return {match.group().lower(): text for text in requirements if (match := _NAME.match(text))}


def _names(base: Path, head: Path) -> list[str]:
    return sorted(
        {
            str(path.relative_to(tree))
            for tree in (base, head)
            for pattern in _FILES
            for path in tree.glob(pattern)
        }
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
