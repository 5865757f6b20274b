"""Starts a part of the package from the action's own files, with no library but Python's own.

start.py gate|posting ARGUMENTS...
"""

import sys
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - the runner's own Python, which nobody chose
    sys.exit("::error title=Compute budget::python3 on this runner is older than 3.10")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pytest_flopbudget.github import gate, posting

part = {"gate": gate.main, "posting": posting.main}[sys.argv[1]]
sys.exit(part(sys.argv[2:]))
