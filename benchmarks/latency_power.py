"""False alarms and power of gates on latency: `flopbudget ab` against what others do.

A repetition times a workload against itself, and against itself made 2, 5, 10 and 20 %
longer, on a quiet machine or beside a busy neighbour: first as `flopbudget ab` does, then with
pytest-benchmark, one process for each side and the same seconds of timed calls. Every
repetition is measured; nothing is resampled. It is added to a file, so that the rates become
sharper with each run, and the table is made of all of them:

    python benchmarks/latency_power.py --out power.jsonl --minutes 30
    python benchmarks/latency_power.py --table power.jsonl

The machine must have nothing else to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from power import records
from power.cases import FOLDER, WORKLOADS, Case, cases_of, environ
from power.neighbour import busy_neighbour
from power.ours import repeat_ours
from power.outcomes import our_trial
from power.peers import environments, repeat_peers, tool
from power.rules import ALLOWED
from power.table import CONDITIONS, render

from pytest_flopbudget.ab.environment import pinned
from pytest_flopbudget.meters.machine import machine_facts

COPIES = "0=8,2=1,5=4,10=1,20=1"


def setup() -> str:
    """Where and with what it was measured, in one paragraph."""
    facts = machine_facts()
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {platform.platform()}, Python "
        f"{platform.python_version()}, torch {metadata.version('torch')}; peers: {tool()}, one "
        "thread."
    )


def seconds_a_side(tests: Mapping[str, Mapping[str, object]]) -> float:
    """What ours timed of each side, as the mean over the first copies."""
    return statistics.fmean(
        our_trial(records.read_series(test), ALLOWED[0]).seconds
        for name, test in tests.items()
        if Case.named(name).copy == 0
    )


def repeat(args: argparse.Namespace, condition: str, number: int) -> None:
    """One repetition under one condition: first ours, which finds the seconds for the peers."""
    cases = cases_of(args.copies, args.workloads)
    first = [case for case in cases if case.copy == 0]
    head = {"condition": condition, "repetition": number}
    is_noisy = condition == "noisy"
    with busy_neighbour(number) if is_noisy else contextlib.nullcontext():
        ours = {"kind": "ours", **head, **repeat_ours(cases, args.side_seconds)}
        records.add(args.out, ours)
        if args.peers:
            seconds = seconds_a_side(ours["tests"])
            for name, pins in environments().items():
                found = repeat_peers(first, seconds, pins)
                records.add(args.out, {"kind": "peers", "environment": name, **head, **found})


def find_true_growths(path: Path, growths: Sequence[int], seconds: float) -> None:
    """Record how much longer the grown workloads take in one process."""
    names = [f"{workload}-{growth}" for workload in WORKLOADS for growth in growths]
    printed = subprocess.run(
        [sys.executable, "true_growth.py", str(seconds), *names],
        cwd=FOLDER,
        env=environ("head", [], pinned({}, allocator="warm")),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    for line in printed.splitlines():
        records.add(path, {"kind": "true", **json.loads(line)})


def run(args: argparse.Namespace) -> None:
    """Repeat until another repetition would not fit into the time."""
    end_s = time.monotonic() + 60 * args.minutes
    records.add(args.out, {"kind": "setup", "text": setup()})
    if args.true_growth:
        find_true_growths(args.out, sorted(args.copies), args.true_growth)
    taken_s: dict[str, float] = {}
    number = len([r for r in records.read(args.out) if r["kind"] == "ours"])
    while True:
        for condition in args.conditions:
            started_s = time.monotonic()
            expected_s = taken_s.get(condition, max(taken_s.values(), default=0.0))
            if started_s + expected_s > end_s:
                return
            repeat(args, condition, number)
            number += 1
            taken_s[condition] = time.monotonic() - started_s
            left_min = max(0.0, end_s - time.monotonic()) / 60
            print(
                f"{condition}: {taken_s[condition]:.0f} s, {left_min:.0f} min left",
                file=sys.stderr,
                flush=True,
            )


def copies(text: str) -> dict[int, int]:
    """How many copies of each growth, from `0=8,5=4`."""
    found = {int(g): int(n) for g, _, n in (part.partition("=") for part in text.split(","))}
    if found.get(0, 0) < 1 or min(found.values()) < 1:
        raise argparse.ArgumentTypeError("give one copy at least of each, and 0=1 among them")
    return found


def positive(text: str) -> float:
    """A number above zero."""
    if (number := float(text)) <= 0:
        raise argparse.ArgumentTypeError("give a number above zero")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="print the table of these raw results alone")
    parser.add_argument("--out", type=Path, default=Path("latency_power.jsonl"))
    parser.add_argument("--minutes", type=positive, default=30.0, help="(default: 30)")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument(
        "--copies",
        type=copies,
        default=copies(COPIES),
        help=f"how many tests of each growth in per cent a repetition has (default: {COPIES})",
    )
    parser.add_argument(
        "--side-seconds",
        type=positive,
        default=0.5,
        help="of each side's turns in one pair; `flopbudget ab` takes 0.25 to 1, by the time "
        "that it has (default: 0.5, as for 35 tests in its 5 minutes)",
    )
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours alone")
    parser.add_argument(
        "--true-growth",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="first find for so long each how much longer the grown workloads take in one process",
    )
    args = parser.parse_args()
    if args.table is None:
        run(args)
    print(render(records.read(args.table or args.out)), end="")


if __name__ == "__main__":
    main()
