"""How the dependencies that two trees declare differ."""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

Declared: TypeAlias = "dict[str, str]"
"""What a file asks for, by what it is asked for: `torch` to `torch>=2.11`."""
Reader: TypeAlias = Callable[[str], Declared]

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_SHOWN: Final = 3
"""Differences that a sentence names; a new lock file may have hundreds."""

_UNREAD: Final = "base and head differ in it"


def dependency_differences(base: Path, head: Path) -> tuple[str, ...]:
    """What two trees ask for differently, one sentence for each file. Nothing is installed.

    base, head: the same directory in either tree, such as the project's.
    """
    sentences = []
    for name, read in _files(base, head):
        texts = (_text(base / name), _text(head / name))
        if texts[0] == texts[1]:
            continue
        differences = _differences(read, *texts)
        if differences:
            sentences.append(f"{name}: {differences}; both sides run with what is installed here")
    return tuple(sentences)


def project_name(directory: Path) -> str | None:
    """The name that the directory's pyproject.toml gives to the project, where it does."""
    try:
        content = _toml(_text(directory / "pyproject.toml") or "")
        name = content.get("project", {}).get("name") or content["tool"]["poetry"]["name"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return name if isinstance(name, str) else None


def _files(base: Path, head: Path) -> Iterator[tuple[str, Reader | None]]:
    """Each file that either tree has, and how it is read."""
    for pattern, read in _READERS.items():
        found = {
            str(path.relative_to(tree)) for tree in (base, head) for path in tree.glob(pattern)
        }
        for name in sorted(found):
            yield name, read


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _differences(read: Reader | None, base: str | None, head: str | None) -> str:
    """What differs, or `""` when what is asked for is the same."""
    if read is None:
        return _UNREAD
    try:
        old, new = (read(text) if text is not None else {} for text in (base, head))
    except (ValueError, KeyError, TypeError, AttributeError, configparser.Error):
        # Not what such a file holds; whether that matters is for whoever reads the sentence.
        return _UNREAD
    parts = [_difference(old.get(key), new.get(key)) for key in sorted({*old, *new})]
    parts = [part for part in parts if part]
    if len(parts) > _SHOWN:
        parts = [*parts[:_SHOWN], f"and {len(parts) - _SHOWN} more"]
    return f"dependencies differ: {'; '.join(parts)}" if parts else ""


def _difference(base: str | None, head: str | None) -> str:
    if base is None or head is None:
        return f"only base has {base}" if head is None else f"only head has {head}"
    if "".join(base.split()) == "".join(head.split()):
        return ""
    return f"base has {base}, head has {head}"


def _pyproject(text: str) -> Declared:
    content = _toml(text)
    project = content.get("project", {})
    declared = _requirements(project.get("dependencies", []))
    if "requires-python" in project:
        declared["python"] = f"Python {project['requires-python']}"
    groups = {
        **project.get("optional-dependencies", {}),
        **content.get("dependency-groups", {}),
        "build": content.get("build-system", {}).get("requires", []),
    }
    for group, requirements in groups.items():
        # A group may include another, which is compared by itself.
        declared |= _requirements((r for r in requirements if isinstance(r, str)), group)
    poetry = content.get("tool", {}).get("poetry", {})
    for group, entry in {"": poetry, **poetry.get("group", {})}.items():
        versions = entry.get("dependencies", {}).items()
        declared |= _requirements((f"{name} {_version(asked)}" for name, asked in versions), group)
    return declared


def _version(asked: object) -> object:
    """The version of Poetry's entry, which is a table when more is asked for."""
    return asked.get("version", asked) if isinstance(asked, dict) else asked


def _setup_cfg(text: str) -> Declared:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    declared: Declared = {}
    if parser.has_option("options", "python_requires"):
        declared["python"] = f"Python {parser['options']['python_requires']}"
    if parser.has_option("options", "install_requires"):
        declared |= _listed(parser["options"]["install_requires"])
    if parser.has_section("options.extras_require"):
        for group, requirements in parser["options.extras_require"].items():
            declared |= _requirements(requirements.splitlines(), group)
    return declared


def _listed(text: str) -> Declared:
    """A requirements file, without its comments, hashes and line ends."""
    lines = text.replace("\\\n", " ").splitlines()
    plain = (re.sub(r"(^|\s)#.*|\s--hash=\S+", "", line).strip() for line in lines)
    return _requirements(line for line in plain if line)


def _requirements(requirements: Iterable[str], group: str = "") -> Declared:
    """By name; requirements of the same name, for different machines, are one entry."""
    declared: Declared = {}
    for requirement in requirements:
        text = " ".join(requirement.split())
        name = _NAME.match(text)
        # An option, such as another file or index, is known by itself.
        key = f"{group} {re.sub('[-_.]+', '-', name.group()).lower() if name else text}"
        shown = f"{text} ({group})" if group else text
        declared[key] = f"{declared[key]} and {shown}" if key in declared else shown
    return declared


def _locked(text: str) -> Declared:
    """A lock file in TOML: of uv, Poetry and PDM, and the standard `pylock.toml`."""
    content = _toml(text)
    packages = content.get("package", content.get("packages", []))
    return _requirements(
        f"{package['name']} {package.get('version', '')}"
        for package in packages
        # The project itself is locked at its own version.
        if not {"editable", "virtual"} & set(package.get("source", {}))
    )


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    content: dict[str, Any] = tomllib.loads(text)
    return content


_READERS: Final[Mapping[str, Reader | None]] = {
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": None,
    "*requirements*.txt": _listed,
    "*requirements*.in": _listed,
    "requirements/*.txt": _listed,
    "requirements/*.in": _listed,
    "*constraints*.txt": _listed,
    "uv.lock": _locked,
    "poetry.lock": _locked,
    "pdm.lock": _locked,
    "pylock*.toml": _locked,
    "pixi.toml": None,
    "pixi.lock": None,
    "Pipfile": None,
    "Pipfile.lock": None,
    "environment*.y*ml": None,
    "conda-lock.y*ml": None,
}
"""What dependencies are written in, and how each is read; the others are compared as text."""
