"""Which budgets a test has: those of its markers, of the match rules, and the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_flopbudget.core.budgets import Budget, Limit, overlay
from pytest_flopbudget.core.errors import SettingsError
from pytest_flopbudget.core.limits import parse_limit, unknown
from pytest_flopbudget.core.settings import ProjectSettings, matches_glob


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What one marker says."""

    region: str = ""
    name: str | None = None
    strict: bool | None = None
    """None where the marker leaves it to the settings."""
    limits: tuple[Limit, ...] = ()


def read_marker(
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    settings: ProjectSettings,
    where: str,
) -> Marker:
    """What a marker with these arguments says, its own limits beating those it names.

    args: names of budgets in the settings, a later one beating an earlier.
    kwargs: `region`, `name`, `strict`, and metrics with their limits.
    Raises SettingsError, beginning with `where`, for a mistake in them.
    """
    named: tuple[Limit, ...] = ()
    for arg in args:
        named = overlay(named, _named_budget(arg, settings, where))
    region = _name(kwargs, "region", where) or ""
    if not args and not (kwargs.keys() - {"region"}) and not (settings.defaults and not region):
        raise SettingsError(
            f"{where}: bounds nothing; write the name of a budget, "
            "or a limit such as flops='1.5 GFLOP'"
        )
    strict = kwargs.get("strict")
    if not isinstance(strict, bool | None):
        raise SettingsError(f"{where}.strict: must be True or False, not {strict!r}")
    inline = tuple(
        parse_limit(metric, raw, where=where, machines=settings.machines)
        for metric, raw in kwargs.items()
        if metric not in ("region", "name", "strict")
    )
    return Marker(
        region=region,
        name=_name(kwargs, "name", where),
        strict=strict,
        limits=overlay(named, inline),
    )


def matches_any(test_id: str, settings: ProjectSettings) -> bool:
    """Whether a match rule gives the test a budget."""
    return any(_is_matched(test_id, rule.tests) for rule in settings.match)


def resolve_budgets(
    test_id: str, markers: Sequence[Marker], settings: ProjectSettings
) -> tuple[Budget, ...]:
    """The budgets of a test, one for each region; none where nothing asks for one.

    markers: those of the test, the closest first, which is the strongest. Metric by
    metric, markers beat match rules, of which the last is the strongest, and those
    beat the defaults. Rules and defaults bound the test's own call: the defaults
    only where a rule or a marker bounds that too.
    """
    regions: dict[str, Marker] = {}
    if matches_any(test_id, settings):
        regions[""] = Marker()
    for marker in markers:
        closer = regions.get(marker.region)
        regions[marker.region] = marker if closer is None else _merged(closer, marker)
    if "" in regions:
        weaker = settings.defaults
        for rule in settings.match:
            if _is_matched(test_id, rule.tests):
                weaker = overlay(weaker, settings.budgets[rule.budget])
        regions[""] = _merged(regions[""], Marker(limits=weaker))
    return tuple(
        Budget(
            region=marker.region,
            name=marker.name,
            limits=marker.limits,
            is_strict=settings.strict if marker.strict is None else marker.strict,
        )
        for marker in regions.values()
    )


def _merged(closer: Marker, farther: Marker) -> Marker:
    return Marker(
        region=closer.region,
        name=farther.name if closer.name is None else closer.name,
        strict=farther.strict if closer.strict is None else closer.strict,
        limits=overlay(farther.limits, closer.limits),
    )


def _is_matched(test_id: str, pattern: str) -> bool:
    """Whether the pattern matches the id, or the id without its parameters.

    So the id of a parametrised test, written without brackets, means all its cases.
    """
    return matches_glob(test_id, pattern) or matches_glob(test_id.partition("[")[0], pattern)


def _named_budget(arg: object, settings: ProjectSettings, where: str) -> tuple[Limit, ...]:
    if not isinstance(arg, str):
        raise SettingsError(
            f"{where}: {arg!r} is no name of a budget; write a limit with its metric, "
            "such as flops='1.5 GFLOP'"
        )
    if arg not in settings.budgets:
        raise SettingsError(f"{where}: {unknown('budget', arg, settings.budgets)}")
    return settings.budgets[arg]


def _name(kwargs: Mapping[str, object], key: str, where: str) -> str | None:
    value = kwargs.get(key)
    if value is None or isinstance(value, str):
        return value
    raise SettingsError(f"{where}.{key}: cannot read {value!r}; write a name")
