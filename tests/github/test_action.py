"""The action and the workflows as files: their schema, their security, their documentation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action" / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCS = (ROOT / "docs" / "action.md").read_text()
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A checker installed next to this Python, whatever PATH says."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(name)), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def zizmor(kind: str, path: Path) -> subprocess.CompletedProcess[str]:
    return tool(
        "zizmor", "--offline", "--no-progress", "--no-config", f"--collect={kind}", str(path)
    )


def action() -> dict[str, Any]:
    definition: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    return definition


def pasted_workflow() -> str:
    return DOCS.split("```yaml\n")[1].split("```")[0]


def test_the_action_satisfies_the_published_schema() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.github-actions", str(ACTION))
    assert done.returncode == 0, done.stdout


def test_the_action_has_no_security_finding() -> None:
    done = zizmor("actions", ACTION)
    assert done.returncode == 0, done.stdout


def test_an_expression_in_a_script_would_be_found(tmp_path: Path) -> None:
    # The control of the test above.
    text = ACTION.read_text().replace('"$PYTHON" -m', "${{ inputs.python }} -m", 1)
    (tmp_path / "action.yml").write_text(text)
    done = zizmor("actions", tmp_path / "action.yml")
    assert done.returncode != 0
    assert "template-injection" in done.stdout


def test_every_step_names_its_shell_and_has_no_expression_in_its_script() -> None:
    steps = action()["runs"]["steps"]
    assert [step["shell"] for step in steps] == ["bash"] * len(steps)
    assert [step["name"] for step in steps if "${{" in step["run"]] == []


def test_only_the_comment_step_is_given_the_token() -> None:
    given = [
        s["name"] for s in action()["runs"]["steps"] if "token" in str(s.get("env", "")).lower()
    ]
    assert given == ["Comment"]


def test_the_comment_step_alone_may_fail_without_failing_the_job() -> None:
    steps = action()["runs"]["steps"]
    assert [step["name"] for step in steps if step.get("continue-on-error")] == ["Comment"]


@pytest.fixture(params=["pasted", *(path.name for path in WORKFLOWS)])
def workflow(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A workflow of this project, or the one that the documentation gives to paste."""
    if request.param != "pasted":
        return ROOT / ".github" / "workflows" / request.param
    # Users pin the action as they pin any other; the placeholder is not to be judged.
    text = pasted_workflow().replace("@COMMIT", "@" + "0" * 40 + " # v0.1.0")
    path = tmp_path / ".github" / "workflows" / "budget.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_workflow_satisfies_the_published_schema(workflow: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(workflow))
    assert done.returncode == 0, done.stdout


def test_a_workflow_has_no_security_finding(workflow: Path) -> None:
    done = zizmor("workflows", workflow)
    assert done.returncode == 0, done.stdout


def test_a_workflow_pins_what_it_uses_from_others(workflow: Path) -> None:
    used = re.findall(r"uses: (.+)", workflow.read_text())
    assert used
    assert [name for name in used if not name.startswith("./") and not PINNED.fullmatch(name)] == []


def test_there_are_workflows_to_check() -> None:
    assert [path.name for path in WORKFLOWS] == ["budget.yml", "ci.yml"]


def test_the_pasted_workflow_gives_the_action_inputs_that_it_has() -> None:
    job = yaml.safe_load(pasted_workflow())["jobs"]["budget"]
    given = job["steps"][-1]["with"]
    assert given.keys() <= action()["inputs"].keys()
    assert job["permissions"] == {"contents": "read", "pull-requests": "write"}
