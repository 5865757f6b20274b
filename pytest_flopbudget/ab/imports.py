"""Which modules a side imported from elsewhere than its own tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final, final

from pytest_flopbudget.ab.dependencies import project_name

_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Directories of installed packages: a virtual environment may be inside the repository."""
_BEFORE_THE_PATH: Final = (
    "an import hook, or code that changes sys.path, stands before PYTHONPATH; take it out, or "
    "uninstall the project here"
)
_FIRST: Final = (".", "src")
"""What stands first on a side's PYTHONPATH."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignModule:
    """A module of the project that came from another copy of it."""

    name: str
    file: Path
    place: str
    """The directory in the repository that its name is looked up in; `""` for an installed
    copy, which does not tell."""


def own_packages(directory: Path) -> frozenset[str]:
    """The top-level names of the installed copy of the project, where there is one.

    directory: where the project's pyproject.toml is, which has the name that it is installed
    by. An editable install has no copy.
    """
    name = project_name(directory)
    try:
        files = distribution(name).files if name else None
    except PackageNotFoundError:
        return frozenset()
    heads = {file.parts[0] for file in files or () if file.suffix in {".py", ".so", ".pyd"}}
    names = {head.partition(".")[0] for head in heads}
    return frozenset(name for name in names if name.isidentifier() and name[:2] != "__")


def foreign_modules(
    modules: Mapping[str, str],
    tree: Path,
    repository: Path,
    *,
    own: frozenset[str] = frozenset(),
) -> tuple[ForeignModule, ...]:
    """The project's modules that a side imported from elsewhere, though its tree is its own.

    modules: name to file, or to the first directory of a package that has no file.
    tree, repository: the tops of the side's tree and of the user's checkout.
    own: top-level names that are the project's wherever they are, as from `own_packages`.
    """
    tree, repository = tree.resolve(), repository.resolve()
    found = []
    for name, text in sorted(modules.items()):
        file = Path(text).resolve()
        if file.is_relative_to(tree):
            continue
        inside = file.relative_to(repository) if file.is_relative_to(repository) else None
        if inside is not None and _INSTALLED.isdisjoint(inside.parts):
            found.append(ForeignModule(name=name, file=file, place=_place(name, inside)))
        elif name.partition(".")[0] in own:
            found.append(ForeignModule(name=name, file=file, place=""))
    return tuple(found)


def refusal(side: str, foreign: Sequence[ForeignModule]) -> str:
    """Why a side's run says nothing, and what to do about it. One line.

    side: "base" or "head".
    foreign: at least one, as from `foreign_modules`.
    """
    first = foreign[0]
    others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    what = f"{side}: {first.name}{others} came from {first.file}, not from the {side}'s own tree"
    if not first.place:
        return f"{what}: pass '-- -o pythonpath=DIR', with the directory that has it in the tree"
    if first.place in _FIRST:
        return f"{what}: {_BEFORE_THE_PATH}"
    return f"{what}: pass '-- -o pythonpath={first.place}', or uninstall the project here"


def _place(name: str, file: Path) -> str:
    """The directory that the module's name is looked up in, for a file in the repository."""
    parts = file.with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    names = tuple(name.split("."))
    # A compiled module's file has the platform in its name.
    tail = tuple(part.partition(".")[0] for part in parts[-len(names) :])
    return Path(*parts[: -len(names)]).as_posix() if tail == names else "."
