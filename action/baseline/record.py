"""Runs the package's own files beside this one, with nothing installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pytest_flopbudget.github.record import main

raise SystemExit(main())
