"""The `flopbudget` command: finds the subcommand, and turns errors into one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from pytest_flopbudget.cli.exits import Exit
from pytest_flopbudget.core.errors import FlopBudgetError

_COMMANDS: Final = {
    "measure": "Measure one callable, with no test, and print what it costs.",
    "compare": "Compare the report of a base with that of a head, and say what the change did.",
    "ab": "Measure a commit and the one it is held against side by side, latency by turns.",
    "comment": "Post the comparison of two reports as a pull request's one comment, or update it.",
    "doctor": "Say what can be measured on this machine, and what not and why.",
}
"""What each does. It is a module of this package with `add_arguments(parser)` and
`run(args) -> Exit`, and the first line of its docstring is what stands here: so that the help
of all is shown, and one is run, with no other in memory."""

_INTERRUPTED: Final = 130
"""What a shell gives for a program that Ctrl-C ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns the exit code: 0 within budget, 1 over budget or regressed, 2 usage or
    unreadable input, 3 nothing measured.
    """
    words = sys.argv[1:] if argv is None else argv
    args = _parser(next((word for word in words if not word.startswith("-")), "")).parse_args(words)
    try:
        exit_code: Exit = args.run(args)
    except FlopBudgetError as error:
        sys.stderr.write(f"flopbudget {args.command}: error: {error}\n")
        return Exit.USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"\nflopbudget {args.command}: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as `head`, has left: not an error of ours.
        sys.stderr.close()
        return Exit.WITHIN
    return exit_code


def _parser(wanted: str) -> argparse.ArgumentParser:
    """What reads the command line, with the arguments of the subcommand that is wanted."""
    parser = argparse.ArgumentParser(
        prog="flopbudget",
        description="Compute budgets for PyTorch code.",
        epilog="Exit codes: 0 within budget, 1 over budget or regressed, "
        "2 usage or unreadable input, 3 nothing measured.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, title in _COMMANDS.items():
        subparser = subparsers.add_parser(command, help=title, description=title)
        if command == wanted:
            module = import_module(f"pytest_flopbudget.cli.{command}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
