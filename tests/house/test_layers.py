"""The import contract of the layers, on this package and on copies that break it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's answer for the package under `root`, whatever else is installed."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pytest_flopbudget", tmp_path / "pytest_flopbudget", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_layer_imports_only_what_is_below_it(copy: Path) -> None:
    result = _lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Contracts: 3 kept, 0 broken." in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/metrics.py", "import pytest_flopbudget.meters.latency", "Each layer imports only"),
        ("store/git.py", "import pytest_flopbudget.session", "Each layer imports only"),
        ("meters/machine.py", "import pytest_flopbudget.render", "Each layer imports only"),
        ("core/metrics.py", "import torch", "What decides, prints and stores"),
        ("render/__init__.py", "import pytest", "What decides, prints and stores"),
        ("meters/machine.py", "import pytest", "Only the plugin knows pytest"),
    ],
)
def test_a_forbidden_import_breaks_the_contract(
    copy: Path, file: str, line: str, contract: str
) -> None:
    path = copy / "pytest_flopbudget" / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    result = _lint(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(text.startswith(contract) for text in broken), result.stdout
