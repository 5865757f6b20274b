"""Say what can be measured on this machine, and what not and why."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pytest_flopbudget.cli.checks import (
    Check,
    State,
    machine_checks,
    program_checks,
    settings_check,
)
from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.meters.machine import machine_facts
from pytest_flopbudget.meters.versions import versions

_WIDTH: Final = 80
_INDENT: Final = 26


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out how noisy the machine is, which takes about ten seconds",
    )
    parser.add_argument(
        "--settings",
        type=Path,
        default=Path("pyproject.toml"),
        metavar="FILE",
        help="the settings file to check (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> Exit:
    """Print the checks. Exit.USAGE when one that must work does not, else Exit.WITHIN."""
    checks = [
        *program_checks(),
        *machine_checks(has_noise=not args.quick),
        settings_check(args.settings),
    ]
    sys.stdout.write(_as_json(checks) if args.json else _as_table(checks))
    has_fault = any(check.state is State.FAULT for check in checks)
    return Exit.USAGE if has_fault else Exit.WITHIN


def _as_table(checks: Iterable[Check]) -> str:
    """One check a line, wrapped at 80 columns."""
    lines = [
        textwrap.fill(
            f"{check.state.value:<6}{check.name:<{_INDENT - 6}}{check.detail}",
            width=_WIDTH,
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for check in checks
    ]
    return "\n".join(lines) + "\n"


def _as_json(checks: Iterable[Check]) -> str:
    answer = {
        "machine": machine_facts(),
        "versions": versions(),
        "checks": [
            {
                "name": check.name,
                "state": check.state.value,
                "detail": check.detail,
                **({"numbers": dict(check.numbers)} if check.numbers else {}),
            }
            for check in checks
        ],
    }
    return json.dumps(answer, indent=2) + "\n"
