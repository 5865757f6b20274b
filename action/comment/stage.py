"""Starts the second stage from the action's own files, with no library but Python's own.

Python's isolated mode puts no folder of the runner on the path, and so not this one either.
"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the runner's own Python, which nobody chose
    sys.exit("::error title=Compute budget::python3 on this runner is older than 3.10")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pytest_flopbudget.github.stage import main

sys.exit(main())
