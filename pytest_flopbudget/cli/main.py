"""The `flopbudget` command: finds the subcommand, and turns errors into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.errors import FlopBudgetError

_COMMANDS: Final = ("measure", "compare", "ab", "comment", "doctor")
"""Each is a module of this package with `add_arguments(parser)` and `run(args) -> Exit`;
the first line of its docstring is its help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns the exit code: 0 within budget, 1 over budget or regressed, 2 usage or
    unreadable input, 3 nothing measured.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        exit_code: Exit = args.run(args)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget {args.command}: error: {error}\n")
        return Exit.USAGE
    except BrokenPipeError:
        # The reader of our output, such as `head`, has left: not an error of ours.
        sys.stderr.close()
        return Exit.WITHIN
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flopbudget",
        description="Compute budgets for PyTorch code.",
        epilog="Exit codes: 0 within budget, 1 over budget or regressed, "
        "2 usage or unreadable input, 3 nothing measured.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        module = import_module(f"pytest_flopbudget.cli.{command}")
        first_line = (module.__doc__ or "").splitlines()[0]
        subparser = subparsers.add_parser(command, help=first_line, description=first_line)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
