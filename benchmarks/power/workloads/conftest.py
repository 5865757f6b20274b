"""The cases of a run, from the environment, as parameters of the tests.

POWER_CASES: names such as `w5-2-0`: workload, growth of the head in per cent, number of the copy.
POWER_SIDE: `base` or `head`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from blocks import built


@pytest.fixture(params=os.environ["POWER_CASES"].split())
def call(request: pytest.FixtureRequest) -> Callable[[], object]:
    workload, growth, _ = request.param.split("-")
    return built(workload, int(growth) if os.environ["POWER_SIDE"] == "head" else 0)


if find_spec("pytest_benchmark") is None:
    pytest_plugins = ["rounds"]
