"""The plugin's options: declared here, and read here alone."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

MODES: Final = ("off", "report", "enforce")
_LATENCY: Final = ("auto", "always", "never")


def add_options(parser: pytest.Parser) -> None:
    """Declare the options, in a group of their own."""
    group = parser.getgroup("flopbudget", "compute budgets (pytest-flopbudget)")
    group.addoption(
        "--flopbudget",
        choices=MODES,
        default="enforce",
        help="off: measure nothing; report: never fail a test; enforce: fail what is over "
        "budget (default)",
    )
    group.addoption(
        "--flopbudget-json",
        metavar="PATH",
        help="write the report of the run as JSON to this file",
    )
    group.addoption(
        "--flopbudget-html",
        metavar="PATH",
        help="write the report of the run as one HTML page to this file",
    )
    group.addoption(
        "--flopbudget-baseline",
        metavar="PATH",
        help="the report that vs_baseline limits are held against (default: `baseline` in "
        "[tool.flopbudget], if that file is there)",
    )
    group.addoption(
        "--flopbudget-latency",
        choices=_LATENCY,
        default="auto",
        help="when to time: auto, where a budget asks for it (default); always; never",
    )
    group.addoption(
        "--flopbudget-strict-latency",
        action="store_true",
        help="fail the run also where a latency budget is inconclusive: where this machine could "
        "not tell in the time given",
    )
    group.addoption(
        "--flopbudget-lines",
        action="store_true",
        help="keep the counts by source line too, and show the lines that spent the most; "
        "counting then takes longer",
    )
    group.addoption(
        "--flopbudget-process-memory",
        action="store_true",
        help="take the allocator's and the process's peak of every measured test, not only where "
        "a budget asks for the allocator's",
    )
    group.addoption(
        "--flopbudget-update",
        action="store_true",
        help="write what is measured into the named budgets of pyproject.toml and into the "
        "baseline, and say every change; no test fails for its budget then; refused where CI is "
        "set",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for."""

    mode: str
    json: Path | None
    html: Path | None
    baseline: Path | None
    latency: str
    strict_latency: bool
    lines: bool
    process_memory: bool
    update: bool

    @property
    def needs_hooks(self) -> bool:
        """Whether an option asks for something even of a suite without budgets."""
        return self.is_reported or self.baseline is not None or self.update

    @property
    def is_reported(self) -> bool:
        """Whether a report of the run is written to a file."""
        return self.json is not None or self.html is not None


def read_options(config: pytest.Config) -> Options:
    """The options of this run; paths are relative to where pytest was started."""
    option: argparse.Namespace = config.option
    start = config.invocation_params.dir

    def path(text: str | None) -> Path | None:
        return None if text is None else start / text

    mode: str = option.flopbudget
    if option.flopbudget_update and mode == "enforce":
        mode = "report"  # a run that moves the bounds cannot also fail by them
    return Options(
        mode=mode,
        json=path(option.flopbudget_json),
        html=path(option.flopbudget_html),
        baseline=path(option.flopbudget_baseline),
        latency=option.flopbudget_latency,
        strict_latency=option.flopbudget_strict_latency,
        lines=option.flopbudget_lines,
        process_memory=option.flopbudget_process_memory,
        update=option.flopbudget_update,
    )


def configured_mode(config: pytest.Config) -> str:
    """The mode that `addopts` in the project's configuration asks for."""
    mode = "enforce"
    words: list[str] = [*config.getini("addopts")]
    for n, word in enumerate(words):
        name, is_joined, value = word.partition("=")
        if name == "--flopbudget":
            mode = value if is_joined else "".join(words[n + 1 : n + 2])
    return mode


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for a controller of xdist."""
    return hasattr(config, "workerinput")


def is_controller(config: pytest.Config) -> bool:
    """Whether this process hands its tests to workers of xdist."""
    return not is_worker(config) and getattr(config.option, "dist", "no") != "no"


def is_only_looking(config: pytest.Config) -> bool:
    """Whether the run shows tests or fixtures, and calls no test."""
    options = (
        "collectonly",
        "setuponly",
        "setupplan",
        "showfixtures",
        "show_fixtures_per_test",
    )
    return any(getattr(config.option, option, False) for option in options)


def plain_id(config: pytest.Config, test_id: str) -> str:
    """The id as it is without xdist, which puts `@group` behind it under --dist loadgroup."""
    option = config.option
    is_grouped = getattr(option, "dist", "no") == "loadgroup" or getattr(option, "loadgroup", False)
    # An @ of the test's own can only be among its parameters.
    name, bracket, group = test_id.rpartition("]")
    return f"{name}{bracket}{group.partition('@')[0]}" if is_grouped else test_id


def selection_of(config: pytest.Config) -> tuple[str, ...]:
    """The options and paths that may leave tests of the suite out, as the user wrote them."""
    option = config.option
    found: list[str] = []
    if option.keyword:
        found.append(f"-k {option.keyword}")
    if option.markexpr:
        found.append(f"-m {option.markexpr}")
    found += [f"--deselect {prefix}" for prefix in option.deselect or ()]
    folders = [text for text in config.args if not _is_file_or_test(text)]
    is_asked_for = config.args_source is config.ArgsSource.ARGS
    return (*found, *uncollected_of(config), *(folders if is_asked_for else ()))


def uncollected_of(config: pytest.Config) -> tuple[str, ...]:
    """Those of these options whose tests are not even collected, so that none is listed.

    A folder is not among them: it is how most suites name the whole of themselves.
    """
    option = config.option
    found = [
        flag
        for name, flag in (("lf", "--lf"), ("stepwise", "--stepwise"))
        if getattr(option, name, False)
    ]
    found += [text for text in config.args if _is_file_or_test(text)]
    return tuple(found)


def _is_file_or_test(argument: str) -> bool:
    return "::" in argument or argument.endswith(".py")
