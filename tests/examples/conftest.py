"""What the tests of the examples share: the models, their layers, and a run of an example."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """The module `models` of the vision example."""
    path = EXAMPLES / "vision" / "models.py"
    spec = importlib.util.spec_from_file_location("examples_vision_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call of one module, and the shapes of its last tensor argument and of its result."""

    path: str
    layer: nn.Module
    given: torch.Size
    returned: torch.Size

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


@pytest.fixture(scope="session")
def see_layers() -> Callable[[nn.Module, torch.Tensor], list[Seen]]:
    """Runs a model once and returns the calls of its modules that take and give a tensor.

    The oracles work on these. They know layers and shapes, and share nothing with the
    counter, which sees operators.
    """

    def see(model: nn.Module, x: torch.Tensor) -> list[Seen]:
        calls: list[Seen] = []

        def note(path: str, layer: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            given = [arg.shape for arg in args if isinstance(arg, torch.Tensor)]
            result = out[0] if isinstance(out, tuple) else out
            if given and isinstance(result, torch.Tensor):
                calls.append(Seen(path=path, layer=layer, given=given[-1], returned=result.shape))

        hooks = [
            layer.register_forward_hook(partial(note, path))
            for path, layer in model.named_modules()
        ]
        with torch.inference_mode():
            model(x)
        for hook in hooks:
            hook.remove()
        return calls

    return see


@pytest.fixture(scope="session")
def copy_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Copies an example project to a folder of its own, as a user would have it."""

    def copy(name: str) -> Path:
        skipped = shutil.ignore_patterns("__pycache__", ".*")
        copied = tmp_path_factory.mktemp(name) / name
        return Path(shutil.copytree(EXAMPLES / name, copied, ignore=skipped))

    return copy


@pytest.fixture(scope="session")
def run_pytest() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs pytest on a project in a process of its own, on a terminal 200 columns wide."""

    def run(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
        # The options and the worker's name of the outer run are no business of the inner one.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
            cwd=project,
            env=kept | {"COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
