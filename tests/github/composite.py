"""Executes the steps of a composite action as GitHub's runner does."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .expressions import evaluate, interpolate, to_text

FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STATE", "GITHUB_STEP_SUMMARY")
LARGEST_SUMMARY = 1024 * 1024


@dataclass
class Step:
    name: str
    outcome: str
    """Before `continue-on-error`; the conclusion is after it."""
    conclusion: str
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""


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

    def run(self, action_file: Path, **given: str) -> Result:
        """Run an action with these inputs; an underscore in a name stands for its hyphen."""
        return _Action(self, yaml.safe_load(action_file.read_text()), given).run()


class _Action:
    def __init__(
        self, runner: Runner, definition: dict[str, Any], given: Mapping[str, str]
    ) -> None:
        assert definition["runs"]["using"] == "composite"
        self.runner = runner
        self.definition = definition
        self.is_failed = False
        self.job_env = dict(runner.env)
        self.path: list[str] = []
        self.summary = ""
        self.steps: dict[str, Step] = {}
        self.contexts: dict[str, Any] = {"github": runner.github, "steps": {}, "inputs": {}}
        self.functions = {
            "always": lambda: True,
            "cancelled": lambda: False,
            "success": lambda: not self.is_failed,
            "failure": lambda: self.is_failed,
        }
        named = {name.replace("_", "-"): value for name, value in given.items()}
        self.warnings = [f"unknown input {name}" for name in named.keys() - definition["inputs"]]
        self.contexts["inputs"] = {
            name: named.get(name, self.text(declared.get("default", "")))
            for name, declared in definition["inputs"].items()
        }

    def text(self, template: str) -> str:
        return interpolate(str(template), self.contexts, self.functions)

    def run(self) -> Result:
        for number, step in enumerate(self.definition["runs"]["steps"]):
            done = self.run_step(step, self.runner.temp / f"_step_{number}")
            self.steps[done.name] = done
            if "id" in step:
                self.contexts["steps"][step["id"]] = {
                    "outputs": done.outputs,
                    "outcome": done.outcome,
                    "conclusion": done.conclusion,
                }
            self.is_failed |= done.conclusion == "failure"
        return Result(
            conclusion="failure" if self.is_failed else "success",
            outputs={
                name: self.text(declared["value"])
                for name, declared in self.definition["outputs"].items()
            },
            steps=self.steps,
            summary=self.summary,
            warnings=self.warnings,
        )

    def run_step(self, step: dict[str, Any], files: Path) -> Step:
        name = step["name"]
        if not self.is_due(to_text(step.get("if", "success()"))):
            return Step(name=name, outcome="skipped", conclusion="skipped")
        assert step["shell"] == "bash", f"{name}: this runner has bash alone"
        assert "${{" not in step["run"], f"{name}: an expression inside run: is an injection"
        files.mkdir(parents=True)
        for file in FILES:
            (files / file).touch()
        script = files / "script.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
            cwd=self.runner.workspace / self.text(step.get("working-directory", ".")),
            env=self.environment(step, files),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.collect(files)
        outcome = "failure" if done.returncode else "success"
        goes_on = outcome == "failure" and step.get("continue-on-error") is True
        return Step(
            name=name,
            outcome=outcome,
            conclusion="success" if goes_on else outcome,
            outputs=_assignments(files / "GITHUB_OUTPUT"),
            log=done.stdout,
        )

    def is_due(self, condition: str) -> bool:
        condition = re.sub(r"^\$\{\{(.*)\}\}$", r"\1", condition.strip())
        if not re.search(r"\b(always|cancelled|success|failure)\(", condition):
            condition = f"success() && ({condition})"
        return bool(evaluate(condition, self.contexts, self.functions))

    def environment(self, step: dict[str, Any], files: Path) -> dict[str, str]:
        # A composite action gets no INPUT_ variables, and nothing of our own environment.
        system = {
            name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ
        }
        env = {
            **system,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.runner.workspace),
            "RUNNER_TEMP": str(self.runner.temp),
            **self.job_env,
            **{name: self.text(value) for name, value in step.get("env", {}).items()},
            **{file: str(files / file) for file in FILES},
        }
        env["PATH"] = os.pathsep.join([*self.path, env.get("PATH", os.environ["PATH"])])
        return env

    def collect(self, files: Path) -> None:
        """What the step hands on to the steps after it."""
        assigned = _assignments(files / "GITHUB_ENV")
        assert "NODE_OPTIONS" not in assigned, "the runner refuses NODE_OPTIONS"
        self.job_env |= assigned
        self.path = [*reversed((files / "GITHUB_PATH").read_text().split()), *self.path]
        summary = (files / "GITHUB_STEP_SUMMARY").read_bytes()
        # The runner drops a summary that is too long as a whole.
        if len(summary) <= LARGEST_SUMMARY:
            self.summary += summary.decode()


def _assignments(path: Path) -> dict[str, str]:
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
