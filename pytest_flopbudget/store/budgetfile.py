"""The settings file as text: values are replaced in it, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.updating import Edit, Written
from pytest_flopbudget.store.files import replace_text


def rewrite_file(path: Path, edits: Iterable[Edit]) -> tuple[str, ...]:
    """Replace the values in the file, whole or not at all; one sentence for each.

    Raises SettingsError: the file cannot be read or written, or has changed since the
    edits were decided.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        new, said = rewrite(text, edits)
        # Through a link, the file that it names is the one to be replaced.
        replace_text(path.resolve(), new)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: cannot be rewritten: {error}") from error
    return said


def rewrite(text: str, edits: Iterable[Edit]) -> tuple[str, tuple[str, ...]]:
    """The text with the values replaced, and one sentence for each that was.

    Comments, layout, line endings, quotes and digit groups stay as they are. Raises
    SettingsError where a value is no longer the one that the edit is for.
    """
    import tomlkit

    document = tomlkit.parse(text)
    said = []
    for edit in edits:
        *above, key = edit.path
        table: Any = document
        for name in above:
            table = table.get(name) if isinstance(table, Mapping) else None
        item = table.get(key) if isinstance(table, Mapping) else None
        if item is None or item != edit.old:
            raise SettingsError(f"{edit.where}: was changed while the tests ran; run them again")
        before = item.as_string()
        after = _in_the_manner_of(before, edit.new)
        table[key] = after
        said.append(f"{edit.where}: {before} -> {after.as_string()} ({edit.why})")
    return tomlkit.dumps(document), tuple(said)


def _in_the_manner_of(before: str, new: Written) -> Any:
    """The new value with the quotes, or the groups of digits, that the old one has."""
    import tomlkit

    if isinstance(new, str):
        return tomlkit.string(new, literal=before.startswith("'"))
    is_grouped = "_" in before and isinstance(new, int)
    return tomlkit.value(f"{new:_}" if is_grouped else repr(new))
