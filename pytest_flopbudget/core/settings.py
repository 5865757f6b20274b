"""Settings: `[tool.flopbudget]` of a pyproject.toml, with every mistake as one line."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeVar

from pytest_flopbudget.core.budgets import Limit
from pytest_flopbudget.core.errors import QuantityError, SettingsError
from pytest_flopbudget.core.limits import check_key, parse_limit, unknown
from pytest_flopbudget.core.metrics import Dimension
from pytest_flopbudget.core.quantity import parse_quantity
from pytest_flopbudget.core.report import Settings

_T = TypeVar("_T")

_KEYS: Final = ("baseline", "strict", "budgets", "defaults", "match", "machines")
_BASELINE: Final = ".flopbudget/baseline.json"
"""Where the baseline is when the settings do not say."""


_FROM_TORCH: Final = frozenset(
    {"cpu_capability", "blas", "onednn", "torch_threads", "torch_interop_threads", "gpu"}
)
"""Facts of a machine that only torch can tell."""
_NUMBERS: Final = ("cores", "torch_threads", "torch_interop_threads")
_LEAST_MEMORY_LEFT: Final = Fraction(9, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """Gives the tests whose id matches a pattern a named budget."""

    tests: str
    """In which `*` and `?` are wildcards, and nothing else is."""
    budget: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePattern:
    """When a runner counts as a machine; a fact that is not given may be any."""

    cpu: str | None = None
    """This and the other texts may have the wildcards `*` and `?`."""
    cpu_flags: str | None = None
    """Instruction sets that it must have, with blanks between them, such as `avx2 fma`."""
    cores: int | None = None
    memory: Fraction | None = None
    """In bytes. Firmware and kernel keep some: a machine has it that tells 90 to 100 % of it."""
    governor: str | None = None
    system: str | None = None
    arch: str | None = None
    ci: str | None = None
    runner: str | None = None
    python: str | None = None
    torch: str | None = None
    cpu_capability: str | None = None
    blas: str | None = None
    onednn: str | None = None
    torch_threads: int | None = None
    torch_interop_threads: int | None = None
    gpu: str | None = None

    @property
    def asks_torch(self) -> bool:
        """Whether torch must be imported to tell whether a machine counts as this one."""
        return any(getattr(self, name) is not None for name in _FROM_TORCH)

    def matches(self, facts: Mapping[str, object]) -> bool:
        """Whether a machine with these facts counts as this one.

        facts: of the machine, with the versions of Python and torch.
        """
        return all(
            wanted is None or _is_as_wanted(name, wanted, facts)
            for name, wanted in ((fact.name, getattr(self, fact.name)) for fact in fields(self))
        )


def _is_as_wanted(name: str, wanted: object, facts: Mapping[str, object]) -> bool:
    """Whether the machine has this one fact of a pattern."""
    found = facts.get("memory_bytes" if name == "memory" else name)
    if found is None:
        return False
    if isinstance(wanted, Fraction):
        return isinstance(found, int) and _LEAST_MEMORY_LEFT * wanted <= found <= wanted
    if name == "cpu_flags":
        return set(str(wanted).split()) <= set(str(found).split())
    return matches_glob(str(found), wanted) if isinstance(wanted, str) else wanted == found


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """What a project's settings file says of its budgets."""

    file: str | None = None
    """The settings file, as messages name it."""
    baseline: str = _BASELINE
    """Path of the baseline, relative to the settings file."""
    strict: bool = True
    budgets: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    defaults: tuple[Limit, ...] = ()
    match: tuple[MatchRule, ...] = ()
    machines: Mapping[str, MachinePattern] = field(default_factory=dict)
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The table as it was written."""

    def as_report(self, mode: str = "enforce", configured_mode: str = "enforce") -> Settings:
        """The settings as a report keeps them, the budgets in the words they were written in."""
        return Settings(
            mode=mode,
            configured_mode=configured_mode,
            strict=self.strict,
            file=self.file,
            budgets=self.written.get("budgets", {}),
            defaults=self.written.get("defaults", {}),
            match=tuple(self.written.get("match", ())),
        )


def load_settings(path: Path | None, *, display: str) -> ProjectSettings:
    """The settings in the file at `path`, or the default ones where there is none.

    `display` is the file's name in messages. Raises SettingsError for a file that
    cannot be read and for any mistake in its `[tool.flopbudget]`.
    """
    if path is None:
        return ProjectSettings()
    tool = _read_toml(path, display).get("tool", {})
    table = tool.get("flopbudget", {}) if isinstance(tool, dict) else {}
    return _Table(table, f"{display}: tool.flopbudget").project(display)


@functools.lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in re.split(r"([*?])", pattern))
    wild = {re.escape("*"): ".*", re.escape("?"): "."}
    return re.compile("".join(wild.get(part, part) for part in parts), re.DOTALL)


def matches_glob(text: str, pattern: str) -> bool:
    """Whether the whole text matches, `*` standing for anything and `?` for one character.

    Unlike in fnmatch, brackets stand for themselves, as test ids have them.
    """
    return _glob(pattern).fullmatch(text) is not None


def _read_toml(path: Path, display: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{display}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{display}: is not UTF-8, as TOML must be") from error
    except tomllib.TOMLDecodeError as error:
        fault, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where = f"{display}:{line[1]}" if line else display
        raise SettingsError(f"{where}: is not TOML: {fault}") from error
    except ValueError as error:
        # Python reads no whole number of more than 4300 digits.
        raise SettingsError(f"{display}: has a number that is too long to be read") from error


class _Table:
    """One table of the settings and its key path, to read typed values from."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise SettingsError(f"{path}: must be a table, not {value!r}")
        self.value: dict[str, object] = value
        self.path = path

    def project(self, display: str) -> ProjectSettings:
        for key in self.value:
            check_key(key, _KEYS, self.path)
        machines = {name: table.machine() for name, table in self.tables("machines").items()}
        budgets = {name: table.limits(machines) for name, table in self.tables("budgets").items()}
        return ProjectSettings(
            file=display,
            baseline=self.get("baseline", str, "a path") or _BASELINE,
            strict=self.get("strict", bool, "true or false") is not False,
            budgets=budgets,
            defaults=_Table(self.value.get("defaults", {}), f"{self.path}.defaults").limits(
                machines
            ),
            match=self.rules(budgets),
            machines=machines,
            written=self.value,
        )

    def get(self, key: str, type_: type[_T], wanted: str) -> _T | None:
        """The value of this type at the key, or None where there is none."""
        if key not in self.value:
            return None
        value = self.value[key]
        # True is an int to Python, but not to who writes `cores = true`.
        if isinstance(value, type_) and type(value) is type_:
            return value
        raise SettingsError(f"{self.path}.{_key(key)}: must be {wanted}, not {value!r}")

    def tables(self, key: str) -> dict[str, _Table]:
        """The tables inside the table at the key, by name."""
        path = f"{self.path}.{key}"
        inside = _Table(self.value.get(key, {}), path)
        return {name: _Table(value, f"{path}.{_key(name)}") for name, value in inside.value.items()}

    def limits(self, machines: Mapping[str, MachinePattern]) -> tuple[Limit, ...]:
        return tuple(
            parse_limit(metric, raw, where=self.path, machines=machines)
            for metric, raw in self.value.items()
        )

    def machine(self) -> MachinePattern:
        known = [fact.name for fact in fields(MachinePattern)]
        for key in self.value:
            check_key(key, known, self.path)
        if not self.value:
            raise SettingsError(f"{self.path}: says nothing of the machine; write 'cpu' or 'cores'")
        facts: dict[str, Any] = {
            key: self.get(key, int, f"a number of {key.rpartition('_')[2]}")
            if key in _NUMBERS
            else self.get(key, str, "a text")
            for key in self.value
        }
        try:
            if "memory" in facts:
                facts["memory"] = parse_quantity(facts["memory"], Dimension.BYTE)
        except QuantityError as error:
            raise SettingsError(f"{self.path}.memory: {error}") from None
        return MachinePattern(**facts)

    def rules(self, budgets: Mapping[str, tuple[Limit, ...]]) -> tuple[MatchRule, ...]:
        rows = self.value.get("match", [])
        path = f"{self.path}.match"
        if not isinstance(rows, list):
            raise SettingsError(f"{path}: must be [[tool.flopbudget.match]], not {rows!r}")
        return tuple(_Table(row, f"{path}[{n}]").rule(budgets) for n, row in enumerate(rows))

    def rule(self, budgets: Mapping[str, tuple[Limit, ...]]) -> MatchRule:
        for key in self.value:
            check_key(key, ("tests", "budget"), self.path)
        tests = self.get("tests", str, "a pattern of test ids")
        budget = self.get("budget", str, "the name of a budget")
        if not tests or not budget:
            missing = "budget" if tests else "tests"
            raise SettingsError(f"{self.path}: needs '{missing}'")
        if budget not in budgets:
            raise SettingsError(f"{self.path}.budget: {unknown('budget', budget, budgets)}")
        return MatchRule(tests=tests, budget=budget)


def _key(name: str) -> str:
    """The key as TOML writes it in a path."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
