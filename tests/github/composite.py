"""Executes the steps of a composite action as GitHub's runner does."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .expressions import evaluate, interpolate, to_text

FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
LARGEST_SUMMARY = 1024 * 1024
# Anything else in a step, such as timeout-minutes, makes the runner refuse the action.
OF_ANY_STEP = {"name", "id", "if", "env", "continue-on-error"}
OF_A_SCRIPT = OF_ANY_STEP | {"run", "shell", "working-directory"}
OF_A_USE = OF_ANY_STEP | {"uses", "with"}


@dataclass(frozen=True)
class Use:
    """What a step hands to the action of another repository."""

    action: str
    """As in `uses:`, without the ref."""
    ref: str
    inputs: dict[str, str]
    env: dict[str, str]
    workspace: Path


@dataclass(frozen=True)
class Outcome:
    """What that action made of it."""

    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    is_failed: bool = False


Stub = Callable[[Use], Outcome]


@dataclass
class Step:
    name: str
    outcome: str
    """Before `continue-on-error`; the conclusion is after it."""
    conclusion: str
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    steps: dict[str, Step] = field(default_factory=dict)
    """Those of the composite action that this step uses, by name."""


@dataclass
class Result:
    conclusion: str
    outputs: dict[str, str]
    steps: dict[str, Step]
    """By name."""
    summary: str
    warnings: list[str]

    @property
    def log(self) -> str:
        return "\n".join(step.log for step in self.steps.values())


@dataclass
class Runner:
    """One job: its workspace, its variables and its github context."""

    workspace: Path
    temp: Path
    github: dict[str, Any]
    env: dict[str, str]
    """The job's variables, beside those that the runner sets."""
    stubs: Mapping[str, Stub | Path] = field(default_factory=dict)
    """What stands for the actions of other repositories; a path is an action.yml to run."""

    def run(self, action_file: Path, **given: str) -> Result:
        """Run an action with these inputs; an underscore in a name stands for its hyphen."""
        job = _Job(self, env=dict(self.env))
        named = {name.replace("_", "-"): value for name, value in given.items()}
        done = _Action(job, action_file, named).run()
        return Result(
            conclusion=done.conclusion,
            outputs=done.outputs,
            steps=done.steps,
            summary=job.summary,
            warnings=job.warnings,
        )


@dataclass
class _Job:
    """What all steps share, those of nested actions too."""

    runner: Runner
    env: dict[str, str]
    path: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    summary: str = ""
    warnings: list[str] = field(default_factory=list)
    steps_run: int = 0

    def files(self) -> Path:
        """A new folder with the files through which one step talks to the runner."""
        folder = self.runner.temp / f"_step_{self.steps_run}"
        self.steps_run += 1
        folder.mkdir(parents=True)
        for file in FILES:
            (folder / file).touch()
        return folder

    def collect(self, files: Path) -> None:
        """What a step hands on to the steps after it."""
        assigned = assignments(files / "GITHUB_ENV")
        assert "NODE_OPTIONS" not in assigned, "the runner refuses NODE_OPTIONS"
        self.env |= assigned
        self.path = [*reversed((files / "GITHUB_PATH").read_text().split()), *self.path]
        summary = (files / "GITHUB_STEP_SUMMARY").read_bytes()
        # The runner drops a summary that is too long as a whole.
        if len(summary) <= LARGEST_SUMMARY:
            self.summary += summary.decode()

    def masked(self, output: str) -> str:
        """The output as the log shows it: a value is hidden from its `::add-mask::` on."""
        shown = []
        for line in output.splitlines(keepends=True):
            if command := re.match(r"\s*::add-mask::(.*)", line):
                value = _decoded(command[1])
                self.masks += [text for text in (value, *value.splitlines()) if text.strip()]
                shown.append("::add-mask::***\n")
            else:
                for value in self.masks:
                    line = line.replace(value, "***")  # noqa: PLW2901 - one mask after another
                shown.append(line)
        return "".join(shown)

    def check_inputs(self, of: str, given: Mapping[str, str], declared: Mapping[str, Any]) -> None:
        self.warnings += [f"unknown input {name}{of}" for name in given.keys() - declared.keys()]


class _Action:
    """One run of one composite action."""

    def __init__(self, job: _Job, file: Path, given: Mapping[str, str], of: str = "") -> None:
        self.definition: dict[str, Any] = yaml.safe_load(file.read_text())
        assert self.definition["runs"]["using"] == "composite"
        self.job = job
        self.folder = file.resolve().parent
        self.env: dict[str, str] = {}
        """Of the step that uses this action: its own steps see them."""
        self.is_failed = False
        self.steps: dict[str, Step] = {}
        self.functions = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "success": lambda: not self.is_failed,
            "failure": lambda: self.is_failed,
        }
        self.contexts: dict[str, Any] = {
            "env": job.env,
            "github": {**job.runner.github, "action_path": str(self.folder)},
            "inputs": {},
            "runner": {"temp": str(job.runner.temp)},
            "steps": {},
        }
        declared = self.definition.get("inputs", {})
        job.check_inputs(of, given, declared)
        self.contexts["inputs"] = {
            name: given.get(name, self.text(its.get("default", "")))
            for name, its in declared.items()
        }

    def text(self, template: object) -> str:
        return interpolate(to_text(template), self.contexts, self.functions)

    def texts(self, templates: Mapping[str, object]) -> dict[str, str]:
        return {name: self.text(template) for name, template in templates.items()}

    def run(self) -> Step:
        """This action as one step, named by nobody."""
        for step in self.definition["runs"]["steps"]:
            done = self.run_step(step)
            assert done.name not in self.steps, f"two steps are named {done.name}"
            self.steps[done.name] = done
            if "id" in step:
                self.contexts["steps"][step["id"]] = {
                    "outputs": done.outputs,
                    "outcome": done.outcome,
                    "conclusion": done.conclusion,
                }
            self.is_failed |= done.conclusion == "failure"
        declared = self.definition.get("outputs", {})
        conclusion = "failure" if self.is_failed else "success"
        return Step(
            name="",
            outcome=conclusion,
            conclusion=conclusion,
            # A failed action has outputs too.
            outputs={name: self.text(its["value"]) for name, its in declared.items()},
            log="".join(step.log for step in self.steps.values()),
            steps=self.steps,
        )

    def run_step(self, step: dict[str, Any]) -> Step:
        name = step.get("name") or f"Run {step.get('uses') or step['run']}"
        refused = step.keys() - (OF_A_USE if "uses" in step else OF_A_SCRIPT)
        assert not refused, f"{name}: the runner knows no {sorted(refused)} here"
        if not self.is_due(to_text(step.get("if", "success()"))):
            return Step(name=name, outcome="skipped", conclusion="skipped")
        done = self.use(step) if "uses" in step else self.script(name, step)
        done.name = name
        if done.outcome == "failure" and self.text(step.get("continue-on-error", False)) == "true":
            done.conclusion = "success"
        return done

    def script(self, name: str, step: dict[str, Any]) -> Step:
        assert step["shell"] == "bash", f"{name}: this runner has bash alone"
        assert "${{" not in step["run"], f"{name}: an expression inside run: is an injection"
        files = self.job.files()
        script = files / "script.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.job.runner.workspace / self.text(step.get("working-directory", ".")),
            env={
                **self.environment(step),
                **{file: str(files / file) for file in FILES},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.job.collect(files)
        outcome = "failure" if done.returncode else "success"
        return Step(
            name=name,
            outcome=outcome,
            conclusion=outcome,
            outputs=assignments(files / "GITHUB_OUTPUT"),
            log=self.job.masked(done.stdout),
        )

    def use(self, step: dict[str, Any]) -> Step:
        action: str = step["uses"]
        given = self.texts(step.get("with", {}))
        if action.startswith("./"):
            # From the workspace and not from this action's folder, as the runner has it.
            return self.nested(step, self.job.runner.workspace / action / "action.yml", given)
        action, _, ref = action.partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", ref), f"{step['uses']} is not pinned to a commit"
        assert action in self.job.runner.stubs, f"{action}: this runner has no such action"
        stub = self.job.runner.stubs[action]
        if isinstance(stub, Path):
            return self.nested(step, stub, given)
        env = self.environment(step)
        done = stub(Use(action, ref, given, env, self.job.runner.workspace))
        outcome = "failure" if done.is_failed else "success"
        return Step("", outcome, outcome, done.outputs, self.job.masked(done.log))

    def nested(self, step: dict[str, Any], file: Path, given: Mapping[str, str]) -> Step:
        assert file.is_file(), f"{step['uses']}: there is no {file}"
        inner = _Action(self.job, file, given, of=f" of {step['uses']}")
        inner.env = {**self.env, **self.texts(step.get("env", {}))}
        return inner.run()

    def is_due(self, condition: str) -> bool:
        condition = re.sub(r"^\$\{\{(.*)\}\}$", r"\1", condition.strip())
        if not re.search(r"\b(always|cancelled|success|failure)\(", condition):
            condition = f"success() && ({condition})"
        return bool(evaluate(condition, self.contexts, self.functions))

    def environment(self, step: dict[str, Any]) -> dict[str, str]:
        # A composite action gets no INPUT_ variables, and nothing of our own environment.
        system = {
            name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ
        }
        env = {
            **system,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.job.runner.workspace),
            "RUNNER_TEMP": str(self.job.runner.temp),
            **self.job.env,
            **self.env,
            **self.texts(step.get("env", {})),
            "GITHUB_ACTION_PATH": str(self.folder),
        }
        env["PATH"] = os.pathsep.join([*self.job.path, env.get("PATH", os.environ["PATH"])])
        return env


def _decoded(value: str) -> str:
    """The value of a workflow command, whose line breaks and percent signs are escaped."""
    for escape, character in (("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        value = value.replace(escape, character)
    return value


def assignments(path: Path) -> dict[str, str]:
    """Lines of the form NAME=VALUE, or NAME<<DELIMITER with a value of several lines."""
    assigned = {}
    lines = iter(path.read_text().splitlines())
    for line in lines:
        heredoc = re.fullmatch(r"([^=<]+)<<(.+)", line)
        if heredoc:
            block = []
            for inner in lines:
                if inner == heredoc[2]:
                    break
                block.append(inner)
            else:
                raise AssertionError(f"{path.name}: the delimiter of {heredoc[1]} is missing")
            assigned[heredoc[1]] = "\n".join(block)
        else:
            name, equals, value = line.partition("=")
            assert equals, f"{path.name}: cannot read {line!r}"
            assigned[name] = value
    return assigned
