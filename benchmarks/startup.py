"""What the plugin costs a suite that has no budgets: with it against `-p no:flopbudget`.

Runs whole pytest processes, by turns with and without the plugin, and prints the
ratio of their medians, what a start-up gains in milliseconds, and what an unmarked
test gains in microseconds, with the middle half of the pairs. Times are CPU times of the
processes, which a busy neighbour disturbs less, and other plugins are left out of both
sides. Uses the standard library alone:

    python benchmarks/startup.py --pairs 15
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MANY = 2000
LIMIT_MS = 10.0


@dataclass(frozen=True)
class Comparison:
    """Medians over the pairs, in seconds, and the middle half of the differences."""

    without_s: float
    with_s: float
    added_s: float
    """Median of the pairs' differences, so that a slow moment of the machine hits both sides."""
    added_low_s: float
    added_high_s: float

    @property
    def ratio(self) -> float:
        return self.with_s / self.without_s


def without_other_plugins() -> list[str]:
    """Options that leave out every installed plugin but this one."""
    names = {entry.name for entry in metadata.entry_points(group="pytest11")}
    return [f"-pno:{name}" for name in sorted(names - {"flopbudget"})]


def time_pytest(folder: Path, options: Sequence[str]) -> float:
    """Seconds of CPU time, user and system, of one whole pytest process."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def compare(folder: Path, options: Sequence[str], pairs: int) -> Comparison:
    """Times both sides by turns; the side that goes first alternates."""
    sides: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(-1, pairs):
        for is_loaded in (pair % 2 == 0, pair % 2 == 1):
            switch = () if is_loaded else ("-p", "no:flopbudget")
            seconds = time_pytest(folder, [*options, *switch])
            if pair >= 0:  # the first pair only fills the disk cache
                sides[is_loaded].append(seconds)
    added = [loaded - bare for bare, loaded in zip(sides[False], sides[True], strict=True)]
    low, middle, high = statistics.quantiles(added, n=4, method="inclusive")
    return Comparison(
        without_s=statistics.median(sides[False]),
        with_s=statistics.median(sides[True]),
        added_s=middle,
        added_low_s=low,
        added_high_s=high,
    )


def describe(title: str, result: Comparison) -> str:
    return (
        f"{title:<22}{1e3 * result.without_s:7.0f} ms without{1e3 * result.with_s:7.0f} ms with"
        f"{result.ratio:8.3f}x   {1e3 * result.added_s:+.1f} ms "
        f"[{1e3 * result.added_low_s:+.1f}, {1e3 * result.added_high_s:+.1f}]"
    )


def verdict(start: Comparison) -> str:
    if 1e3 * start.added_low_s > LIMIT_MS:
        return "over"
    return "within" if 1e3 * start.added_high_s <= LIMIT_MS else "too noisy to tell"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15, help="pairs of runs (default: 15)")
    pairs = parser.parse_args().pairs
    if pairs < 2:
        parser.error("--pairs must be at least 2")
    with tempfile.TemporaryDirectory() as name:
        one, many = Path(name, "one"), Path(name, "many")
        for folder, count in ((one, 1), (many, MANY)):
            folder.mkdir()
            tests = "\n".join(f"def test_{n}():\n    pass\n" for n in range(count))
            (folder / "test_it.py").write_text(tests, encoding="utf-8")
        alone = without_other_plugins()
        start = compare(one, ["--collect-only", *alone], pairs)
        run = compare(many, alone, pairs)
    print(describe("collect 1 test", start))
    print(describe(f"run {MANY} tests", run))
    per_test_us = 1e6 * (run.added_s - start.added_s) / MANY
    print(f"per unmarked test: {per_test_us:+.1f} us")
    print(f"start-up against the limit of +{LIMIT_MS:.0f} ms: {verdict(start)}")
    return 1 if verdict(start) == "over" else 0


if __name__ == "__main__":
    raise SystemExit(main())
