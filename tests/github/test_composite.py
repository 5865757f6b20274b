"""The executor of composite actions, on small actions whose outcome GitHub documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from .composite import Result, Runner
from .expressions import evaluate, interpolate

STATUS = {"success": lambda: True, "always": lambda: True, "failure": lambda: False}


def run_steps(tmp_path: Path, *steps: dict[str, Any], **given: str) -> Result:
    action = {
        "inputs": {"word": {"default": "${{ github.event_name }}"}},
        "outputs": {"said": {"value": "${{ steps.say.outputs.said }}"}},
        "runs": {
            "using": "composite",
            "steps": [
                {"name": f"{number}", "shell": "bash", **step} for number, step in enumerate(steps)
            ],
        },
    }
    file = tmp_path / "action.yml"
    file.write_text(yaml.safe_dump(action))
    runner = Runner(
        workspace=tmp_path, temp=tmp_path / "temp", github={"event_name": "push"}, env={}
    )
    return runner.run(file, **given)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'it''s'", "it's"),
        ("inputs.comment == 'TRUE' && github.event_name == 'pull_request'", True),
        ("inputs.comment != 'true' || github.event_name == 'push'", False),
        ("!(inputs.comment == 'true') || always()", True),
        ("steps.gone.outputs.nothing", None),
        ("success() && failure()", False),
    ],
)
def test_expressions_have_the_runner_s_values(expression: str, value: Any) -> None:
    contexts = {
        "inputs": {"comment": "true"},
        "github": {"event_name": "pull_request"},
        "steps": {},
    }
    assert evaluate(expression, contexts, STATUS) == value


def test_null_and_booleans_are_written_as_the_runner_writes_them() -> None:
    contexts = {"steps": {}, "inputs": {"x": "1"}}
    text = "[${{ steps.a.b }}] ${{ inputs.x == '1' }} ${{ inputs.x }}"
    assert interpolate(text, contexts, STATUS) == "[] true 1"


def test_outputs_and_variables_reach_the_steps_after(tmp_path: Path) -> None:
    result = run_steps(
        tmp_path,
        {
            "id": "say",
            "env": {"WORD": "${{ inputs.word }}"},
            "run": 'echo "said<<X\nline 1\n$WORD\nX" >> "$GITHUB_OUTPUT"\n'
            'echo SHARED=yes >> "$GITHUB_ENV"\necho sum >> "$GITHUB_STEP_SUMMARY"',
        },
        {"env": {"SAID": "${{ steps.say.outputs.said }}"}, "run": 'echo "$SAID $SHARED"'},
    )
    assert result.outputs == {"said": "line 1\npush"}
    assert result.steps["1"].log == "line 1\npush yes\n"
    assert result.summary == "sum\n"


def test_a_failure_skips_the_steps_after_it_but_not_the_outputs(tmp_path: Path) -> None:
    result = run_steps(
        tmp_path,
        {"id": "say", "run": 'echo said=hello >> "$GITHUB_OUTPUT"; false; echo unreached'},
        {"run": "echo skipped"},
        {"if": "always()", "run": "echo cleaned"},
        {"if": "failure()", "run": "echo told"},
    )
    assert result.conclusion == "failure"
    assert [step.conclusion for step in result.steps.values()] == [
        "failure",
        "skipped",
        "success",
        "success",
    ]
    assert result.outputs == {"said": "hello"}
    assert "unreached" not in result.log


def test_a_failure_that_may_go_on_is_a_success_with_a_failed_outcome(tmp_path: Path) -> None:
    result = run_steps(
        tmp_path,
        {"id": "say", "continue-on-error": True, "run": "false | true"},
        {"env": {"OUTCOME": "${{ steps.say.outcome }}"}, "run": 'echo "$OUTCOME"'},
    )
    assert result.conclusion == "success"
    assert result.steps["1"].log == "failure\n"


def test_an_input_that_the_action_does_not_declare_is_told(tmp_path: Path) -> None:
    assert run_steps(tmp_path, {"run": "true"}, wrod="x").warnings == ["unknown input wrod"]


@pytest.mark.parametrize("line", ["said<<X\nno end", "no assignment"])
def test_a_malformed_output_file_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(AssertionError, match=r"GITHUB_OUTPUT"):
        run_steps(tmp_path, {"run": f"printf '%s' '{line}' >> \"$GITHUB_OUTPUT\""})


def test_a_summary_beyond_the_limit_is_dropped_whole(tmp_path: Path) -> None:
    kept = "head -c 1048576 /dev/zero | tr '\\0' x >> \"$GITHUB_STEP_SUMMARY\""
    result = run_steps(tmp_path, {"run": kept}, {"run": f"{kept}; echo >> $GITHUB_STEP_SUMMARY"})
    assert len(result.summary) == 1_048_576


def test_a_step_sees_nothing_of_the_environment_of_these_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "secret")
    result = run_steps(tmp_path, {"run": 'echo "[${LEAKED:-}${INPUT_WORD:-}]"'})
    assert result.log == "[]\n"


def test_an_expression_inside_a_script_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="injection"):
        run_steps(tmp_path, {"run": "echo ${{ inputs.word }}"})
