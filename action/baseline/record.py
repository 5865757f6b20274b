"""Runs the package's own files beside this one, with nothing installed."""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the runner's own Python, which nobody chose
    sys.exit("::error title=Compute budget::python3 on this runner is older than 3.10")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pytest_flopbudget.github.record import main

sys.exit(main())
