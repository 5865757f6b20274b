"""The executor of composite actions, on small actions whose outcome GitHub documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from .composite import Outcome, Result, Runner, Stub, Use
from .expressions import evaluate, interpolate
from .uploads import Uploads

PIN = "0" * 40
STATUS = {"success": lambda: True, "always": lambda: True, "failure": lambda: False}


def write_action(file: Path, *steps: dict[str, Any]) -> Path:
    """An action whose steps are named by their numbers."""
    action = {
        "inputs": {"word": {"default": "${{ github.event_name }}"}},
        "outputs": {"said": {"value": "${{ steps.say.outputs.said }}"}},
        "runs": {
            "using": "composite",
            "steps": [
                {"name": f"{number}"} | ({} if "uses" in step else {"shell": "bash"}) | step
                for number, step in enumerate(steps)
            ],
        },
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(action))
    return file


def run_steps(
    tmp_path: Path,
    *steps: dict[str, Any],
    stubs: Mapping[str, Stub | Path] | None = None,
    **given: str,
) -> Result:
    runner = Runner(
        workspace=tmp_path,
        temp=tmp_path / "temp",
        github={"event_name": "push"},
        env={"JOB": "job"},
        stubs=stubs or {},
    )
    return runner.run(write_action(tmp_path / "action.yml", *steps), **given)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'it''s'", "it's"),
        ("inputs.comment == 'TRUE' && github.event_name == 'pull_request'", True),
        ("inputs.comment != 'true' || github.event_name == 'push'", False),
        ("!(inputs.comment == 'true') || always()", True),
        ("steps.gone.outputs.nothing", None),
        ("success() && failure()", False),
        ("true && !false && null == ''", True),
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


def test_the_action_of_another_repository_is_a_stub_that_sees_inputs_and_variables(
    tmp_path: Path,
) -> None:
    seen: list[Use] = []

    def stub(use: Use) -> Outcome:
        seen.append(use)
        return Outcome(outputs={"said": "by the stub"}, log="stubbed\n")

    result = run_steps(
        tmp_path,
        {
            "id": "say",
            "uses": f"owner/name/sub@{PIN}",
            "env": {"ASIDE": "here"},
            "with": {"word": "${{ inputs.word }}", "on": True},
        },
        stubs={"owner/name/sub": stub},
    )
    (use,) = seen
    assert (use.action, use.ref) == ("owner/name/sub", PIN)
    assert use.inputs == {"word": "push", "on": "true"}
    assert (use.env["ASIDE"], use.env["JOB"]) == ("here", "job")
    assert result.outputs == {"said": "by the stub"}
    assert result.log == "stubbed\n"


def test_a_stub_that_fails_fails_the_job_unless_it_may_go_on(tmp_path: Path) -> None:
    uses = {"uses": f"owner/name@{PIN}"}
    stubs = {"owner/name": lambda use: Outcome(is_failed=True)}
    goes_on = {**uses, "continue-on-error": "${{ inputs.word == 'push' }}"}
    assert run_steps(tmp_path / "1", uses, stubs=stubs).conclusion == "failure"
    result = run_steps(tmp_path / "2", goes_on, stubs=stubs)
    assert (result.conclusion, result.steps["0"].outcome) == ("success", "failure")


@pytest.mark.parametrize(
    ("uses", "message"),
    [
        ("owner/name@v4", "not pinned"),
        ("owner/name@" + "0" * 39, "not pinned"),
        ("owner/name", "not pinned"),
        (f"owner/other@{PIN}", "no such action"),
        ("./nowhere", "there is no"),
    ],
)
def test_an_action_that_is_not_pinned_or_not_there_is_refused(
    tmp_path: Path, uses: str, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        run_steps(tmp_path, {"uses": uses}, stubs={"owner/name": lambda use: Outcome()})


@pytest.mark.parametrize(
    "step",
    [
        {"run": "true", "timeout-minutes": 1},
        {"run": "true", "with": {"word": "x"}},
        {"uses": f"owner/name@{PIN}", "working-directory": "."},
    ],
)
def test_a_step_with_a_key_that_composite_actions_lack_is_refused(
    tmp_path: Path, step: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match="knows no"):
        run_steps(tmp_path, step, stubs={"owner/name": lambda use: Outcome()})


@pytest.mark.parametrize("uses", ["./inner", f"owner/name/inner@{PIN}"])
def test_a_nested_action_has_its_own_folder_inputs_steps_and_status(
    tmp_path: Path, uses: str
) -> None:
    inner = write_action(
        tmp_path / "inner" / "action.yml",
        {
            "id": "say",
            "run": 'echo "said=$ASIDE from ${GITHUB_ACTION_PATH##*/}" >> "$GITHUB_OUTPUT"',
        },
        # Nothing failed in here yet, whatever happened outside.
        {"if": "success()", "env": {"W": "${{ inputs.word }}"}, "run": "echo inner $W; exit 3"},
        {"run": "echo unreached"},
    )
    result = run_steps(
        tmp_path,
        {"run": "false"},
        {
            "id": "say",
            "if": "always()",
            "uses": uses,
            "with": {"word": "given", "wrod": "x"},
            "env": {"ASIDE": "aside"},
        },
        {
            "if": "always()",
            "env": {"WHERE": "${{ github.action_path }}"},
            "run": 'echo "$GITHUB_ACTION_PATH|$WHERE|${ASIDE:-}"',
        },
        stubs={"owner/name/inner": inner},
    )
    nested = result.steps["1"]
    assert [step.conclusion for step in nested.steps.values()] == ["success", "failure", "skipped"]
    assert nested.conclusion == "failure"
    assert nested.log == "inner given\n"
    assert result.outputs == {"said": "aside from inner"}
    assert result.warnings == [f"unknown input wrod of {uses}"]
    # The outer action's own folder again, and nothing left of the nested one's variables.
    assert result.steps["2"].log == f"{tmp_path}|{tmp_path}|\n"


def test_variables_and_paths_of_a_nested_action_reach_the_steps_after_it(tmp_path: Path) -> None:
    write_action(
        tmp_path / "inner" / "action.yml",
        {
            "run": 'echo SHARED=yes >> "$GITHUB_ENV"; echo /first >> "$GITHUB_PATH"\n'
            'echo /last >> "$GITHUB_PATH"; echo inner >> "$GITHUB_STEP_SUMMARY"'
        },
    )
    result = run_steps(
        tmp_path,
        {"uses": "./inner"},
        {"env": {"SAID": "${{ env.SHARED }}"}, "run": 'echo "$SHARED $SAID ${PATH:0:12}"'},
    )
    assert result.steps["1"].log == "yes yes /last:/first\n"
    assert result.summary == "inner\n"


def test_a_masked_value_is_hidden_from_then_on_in_every_log(tmp_path: Path) -> None:
    result = run_steps(
        tmp_path,
        {"run": "echo hush 100%; echo ::add-mask::hush; echo ' ::add-mask::100%25%0Atwo'"},
        {"run": "echo hush hush 100% two three"},
        {"uses": f"owner/name@{PIN}"},
        stubs={"owner/name": lambda use: Outcome(log="hush again\n")},
    )
    assert result.steps["0"].log == "hush 100%\n::add-mask::***\n::add-mask::***\n"
    assert result.steps["1"].log == "*** *** *** *** three\n"
    assert result.steps["2"].log == "*** again\n"


def test_two_steps_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="two steps are named x"):
        run_steps(tmp_path, {"name": "x", "run": "true"}, {"name": "x", "run": "true"})


class TestUploads:
    @pytest.fixture
    def uploads(self) -> Uploads:
        return Uploads()

    def upload(self, uploads: Uploads, tmp_path: Path, **inputs: str) -> Result:
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        step = {"id": "say", "uses": f"actions/upload-artifact@{PIN}", "with": given}
        return run_steps(tmp_path, step, stubs={"actions/upload-artifact": uploads.upload})

    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        for name in ("out/a.json", "out/deep/b.json", "out/.hidden", ".dot/c.json"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path

    @pytest.mark.parametrize(
        ("path", "hidden", "members"),
        [
            ("out", "false", ["a.json", "deep/b.json"]),
            ("out", "true", [".hidden", "a.json", "deep/b.json"]),
            ("out/a.json", "false", ["a.json"]),
            (".dot/c.json", "false", ["c.json"]),
            ("out/a.json\nout/deep/b.json\n", "false", ["a.json", "deep/b.json"]),
        ],
    )
    def test_the_archive_starts_at_what_the_paths_share(
        self, uploads: Uploads, files: Path, path: str, hidden: str, members: list[str]
    ) -> None:
        given = {"name": "leg", "path": path, "include_hidden_files": hidden}
        assert self.upload(uploads, files, **given).conclusion == "success"
        (artifact,) = uploads.artifacts
        assert artifact.name == "leg"
        assert sorted(artifact.members()) == members
        assert all(content.decode().endswith(name) for name, content in artifact.members().items())

    @pytest.mark.parametrize("path", ["nothing", ".dot"])
    @pytest.mark.parametrize(
        ("do", "conclusion", "log"),
        [
            ("warn", "success", "::warning::No files"),
            ("ignore", "success", "No files"),
            ("error", "failure", "::error::No files"),
        ],
    )
    def test_nothing_to_upload_is_told_as_asked_for(
        self, uploads: Uploads, files: Path, path: str, do: str, conclusion: str, log: str
    ) -> None:
        result = self.upload(uploads, files, path=path, if_no_files_found=do)
        assert result.conclusion == conclusion
        assert result.log.startswith(log)
        assert uploads.artifacts == []

    def test_a_name_is_taken_once_unless_it_may_be_overwritten(
        self, uploads: Uploads, files: Path
    ) -> None:
        def again(path: str, **inputs: str) -> Result:
            return self.upload(uploads, files, name="leg", path=path, **inputs)

        assert again("out").conclusion == "success"
        refused = again("out/a.json")
        assert (refused.conclusion, "409" in refused.log) == ("failure", True)
        assert again("out/a.json", overwrite="true").conclusion == "success"
        assert [sorted(artifact.members()) for artifact in uploads.artifacts] == [["a.json"]]

    @pytest.mark.parametrize("name", ["a/b", "a:b", "a\nb", "a*"])
    def test_a_name_that_the_service_refuses_fails(
        self, uploads: Uploads, files: Path, name: str
    ) -> None:
        assert self.upload(uploads, files, name=name, path="out").conclusion == "failure"
        assert uploads.artifacts == []
