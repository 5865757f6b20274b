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
ACTIONS = sorted((ROOT / "action").glob("**/action.yml"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def pinned(name: str) -> bool:
    """Whether it is ours, or another's at one commit."""
    return name.startswith("./") or PINNED.fullmatch(name) is not None


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


def action(path: Path = ACTION) -> dict[str, Any]:
    definition: dict[str, Any] = yaml.safe_load(path.read_text())
    return definition


def steps(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = action(path)["runs"]["steps"]
    return found


def pasted_workflows() -> list[str]:
    """The workflows that the pages give to paste."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    blocks = [
        b for page in pages for b in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    return [block for block in blocks if "uses: OWNER/pytest-flopbudget/action" in block]


PASTED = pasted_workflows()


@pytest.fixture(params=ACTIONS, ids=lambda path: path.parent.name)
def each(request: pytest.FixtureRequest) -> Path:
    """The file of each action."""
    path: Path = request.param
    return path


def test_there_are_actions_to_check() -> None:
    assert [path.parent.name for path in ACTIONS] == ["action", "baseline", "comment", "gate"]


def test_an_action_satisfies_the_published_schema(each: Path) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.github-actions", str(each))
    assert done.returncode == 0, done.stdout


def test_an_action_has_no_security_finding(each: Path) -> None:
    done = zizmor("actions", each)
    assert done.returncode == 0, done.stdout


def test_an_expression_in_a_script_would_be_found(tmp_path: Path) -> None:
    # The control of the test above.
    text = ACTION.read_text().replace('"$PYTHON" -m', "${{ inputs.python }} -m", 1)
    (tmp_path / "action.yml").write_text(text)
    done = zizmor("actions", tmp_path / "action.yml")
    assert done.returncode != 0
    assert "template-injection" in done.stdout


def test_every_script_names_its_shell_and_has_no_expression(each: Path) -> None:
    scripts = [step for step in steps(each) if "uses" not in step]
    assert [step["shell"] for step in scripts] == ["bash"] * len(scripts)
    assert [step["name"] for step in scripts if "${{" in step["run"]] == []


def test_what_an_action_uses_from_others_is_pinned(each: Path) -> None:
    assert [name for name in re.findall(r"uses: (.+)", each.read_text()) if not pinned(name)] == []


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("action.yml", ["Put them together", "Judge", "Comment"]),
        ("gate/action.yml", ["Judge", "Comment"]),
    ],
)
def test_no_step_that_runs_the_project_is_given_the_token(path: str, names: list[str]) -> None:
    given = [
        step["name"]
        for step in steps(ROOT / "action" / path)
        if "token" in str(step.get("env", "")).lower()
    ]
    assert given == names


@pytest.mark.parametrize("name", ["baseline", "comment", "gate"])
def test_an_action_that_installs_nothing_is_started_in_isolation(name: str) -> None:
    scripts = "".join(step["run"] for step in steps(ROOT / "action" / name / "action.yml"))
    started = re.findall(r"python3.*?(?=\"\$GITHUB_ACTION_PATH/)", scripts)
    assert started
    assert set(started) == {"python3 -I -S -B "}
    assert "pip " not in scripts


def test_the_comment_step_alone_may_fail_without_failing_the_job(each: Path) -> None:
    forgiven = [step["name"] for step in steps(each) if step.get("continue-on-error")]
    expected = ["Comment"] if each.parent.name in {"action", "gate"} else []
    assert forgiven == expected


WRITTEN = [f"pasted {number}" for number in range(len(PASTED))]


@pytest.fixture(params=[*WRITTEN, *(path.name for path in WORKFLOWS)])
def workflow(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A workflow of this project, or one that the documentation gives to paste."""
    if request.param not in WRITTEN:
        return ROOT / ".github" / "workflows" / request.param
    # Users pin the action as they pin any other; the placeholder is not to be judged.
    text = PASTED[WRITTEN.index(request.param)].replace("@COMMIT", "@" + "0" * 40 + " # v0.1.0")
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
    used = re.findall(r"uses: (\S.+)", workflow.read_text())
    assert used
    assert [name for name in used if not pinned(name.split(" # zizmor")[0])] == []


def test_there_are_workflows_to_check() -> None:
    assert [path.name for path in WORKFLOWS] == ["budget-comment.yml", "budget.yml", "ci.yml"]
    assert len(PASTED) == 5


def test_a_workflow_gives_the_actions_inputs_that_they_have(workflow: Path) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        for step in job["steps"]:
            own = re.fullmatch(
                r"(?:\.|OWNER/pytest-flopbudget)/action(/\w+)?(?:@.*)?", step.get("uses", "")
            )
            if own:
                declared = action(ROOT / "action" / (own[1] or "").strip("/") / "action.yml")
                assert step.get("with", {}).keys() <= declared["inputs"].keys()


def test_a_job_may_write_only_what_its_action_writes(workflow: Path) -> None:
    """Comments, and the data branch in a job that runs none of the project's code."""
    definition = yaml.safe_load(workflow.read_text())
    assert definition["permissions"] == {}
    for job in definition["jobs"].values():
        writes = {name for name, level in job["permissions"].items() if level == "write"}
        used = " ".join(step.get("uses", "") for step in job["steps"])
        if "pull-requests" in writes:
            assert "/action" in used
        if "contents" in writes:
            assert "/action/baseline" in used
            assert "checkout" not in used
            assert "environment" in job
        assert writes <= {"pull-requests", "contents"}
