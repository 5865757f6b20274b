"""What the page on other CI shows is run here as it stands, in a repository with commits.

The one thing left out is `pip install`: the package is on PYTHONPATH, as is the head's code,
behind which the base's would hide if the script did not put it first.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import pytest_flopbudget
from pytest_flopbudget.core.acceptance import parse_acceptances

from ..github.repositories import ALONE, IDENTITY, Server, git

ROOT = Path(__file__).parents[2]
PACKAGE = str(Path(pytest_flopbudget.__file__).parents[1])
PAGE = (ROOT / "docs" / "elsewhere.md").read_text(encoding="utf-8")
INSTALL = "python -m pip install -e . pytest-flopbudget"
REPORTS = "flopbudget-reports"

# 4 x 8 inputs by 8 x WIDTH weights: 32 MAC for each unit of width, without a bias.
NET = "import torch\n\ndef net():\n    return torch.nn.Linear(8, {width}, bias=False)\n"
TEST = """\
import net
import pytest
import torch

@pytest.mark.flop_budget("net")
def test_net(flopbudget):
    flopbudget(net.net(), torch.ones(4, 8))
"""
BUDGET = '[tool.flopbudget.budgets.net]\nmacs = "{macs} MAC"\n'
ACCEPTED = "Flop-Budget-Accept: tests/test_net.py::test_net macs <= {} MAC - it pays\n"
HOSTILE = "$(touch pwned) `touch pwned`; touch pwned\n'\"; touch pwned #\\n${IFS} %s -n\n"

TEXTS = {
    "within": {"README.md": "# More\n"},
    "over": {"src/net.py": NET.format(width=5)},
    "loosened": {"src/net.py": NET.format(width=5), "pyproject.toml": BUDGET.format(macs=160)},
}


def block(mark: str) -> str:
    """The fenced block below the comment of this name."""
    found = re.search(
        rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
    )
    assert found is not None, f"docs/elsewhere.md has no block marked {mark!r}"
    return found[1]


def without_install(script: str) -> str:
    """The script less the line that installs, which must be the page's own."""
    lines = script.splitlines(keepends=True)
    assert lines[0] == f"{INSTALL}\n"
    return "".join(lines[1:])


def gitlab(job: str) -> dict[str, Any]:
    pipeline = yaml.safe_load(
        block("file: .gitlab-ci.yml") + block("file: .gitlab-ci.yml, the note")
    )
    found: dict[str, Any] = pipeline[job]
    return found


def gitlab_script(job: str) -> str:
    """What the runner makes of the list: all of it in one shell."""
    return "".join(line.removesuffix("\n") + "\n" for line in gitlab(job)["script"])


def jenkins_script() -> str:
    """The contents of the `sh` steps; those that span lines are text between three quotes."""
    found = re.findall(
        r"^ *sh ('''|')(.*?)\1$", block("file: Jenkinsfile"), re.DOTALL | re.MULTILINE
    )
    script = "".join(text.strip() + "\n" for _, text in found)
    # Groovy would read backslashes before the shell does.
    assert "\\" not in script
    return script


PYTHON = """\
#!{python}
# The Python of the job. Starting torch takes seconds, and what is measured depends on the
# code alone: pytest runs once for each.
import hashlib, os, shutil, subprocess, sys
from pathlib import Path

arguments = sys.argv[1:]
if arguments[:2] != ["-m", "pytest"]:
    os.execv(sys.executable, [sys.executable, *arguments])
(report,) = [a.partition("=")[2] for a in arguments if a.startswith("--flopbudget-json=")]
code = subprocess.check_output(["git", "ls-files", "-s", "src", "tests", "pyproject.toml"])
options = repr([a for a in arguments if report not in a]).encode()
kept = Path({kept!r}, hashlib.sha256(code + options).hexdigest())
if not kept.exists():
    done = subprocess.run([sys.executable, *arguments, "-p", "no:cacheprovider"])
    kept.mkdir()
    (kept / "exit").write_text(str(done.returncode))
    if Path(report).exists():
        shutil.copy(report, kept / "report")
if (kept / "report").exists():
    shutil.copy(kept / "report", report)
raise SystemExit(int((kept / "exit").read_text()))
"""
FLOPBUDGET = """\
#!/bin/sh
# The command of the job. It is run some sixty times, and compiled once, wherever it lies.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX={folder}/compiled
exec {python} -m pytest_flopbudget.cli.main "$@"
"""
CURL = """\
#!{python}
# The server: keeps what it is asked, and answers with the exit code that it is told.
import json, os, sys
asked = {{"arguments": sys.argv[1:], "input": sys.stdin.read()}}
open(os.environ["ASKED"], "w").write(json.dumps(asked))
raise SystemExit(int(os.environ["ANSWER"]))
"""


@dataclass(frozen=True)
class Job:
    """A job of a CI: its exit code, its log and its folder."""

    code: int
    log: str
    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / REPORTS / name

    def note(self) -> str:
        return self.path("note.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Machine:
    """A machine with a server to check out from, and the programs that jobs find on it."""

    folder: Path
    server: Server

    @property
    def path(self) -> str:
        return os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])

    def checkout(self, branch: str) -> Path:
        """A new checkout of a branch with its history, and main beside it."""
        folder = Path(tempfile.mkdtemp(dir=self.folder, prefix=f"{branch}-")) / "project"
        self.server.checkout(folder, branch, depth=0)
        git(folder, "fetch", "--quiet", "origin", "main:refs/remotes/origin/main")
        return folder

    def environ(self, checkout: Path) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not re.match("PYTEST_|CI_|GIT|ACCEPT", k)}
        return {
            **kept,
            **IDENTITY,
            **ALONE,
            "PATH": self.path,
            "PYTHONPATH": os.pathsep.join([str(checkout / "src"), PACKAGE]),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def run(
        self,
        script: str,
        checkout: Path,
        variables: Mapping[str, str] | None = None,
        interpreter: tuple[str, ...] = ("bash", "-eo", "pipefail", "-c"),
    ) -> Job:
        done = subprocess.run(
            [*interpreter, script],
            cwd=checkout,
            env={**self.environ(checkout), **(variables or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # Whatever happens, nothing of the job's own stays behind, and nothing hostile ran.
        assert git(checkout, "worktree", "list").count("\n") == 0
        assert not [*checkout.rglob("pwned")]
        return Job(code=done.returncode, log=done.stdout, folder=checkout)


def executable(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    for name in ("bin", "tmp", "kept"):
        (folder / name).mkdir()
    python = PYTHON.format(python=sys.executable, kept=str(folder / "kept"))
    executable(folder / "bin" / "python", python)
    executable(
        folder / "bin" / "flopbudget", FLOPBUDGET.format(python=sys.executable, folder=folder)
    )
    executable(folder / "bin" / "curl", CURL.format(python=sys.executable))
    server = Server(folder / "server")
    server.commit("main", {"README.md": "# A network\n"})
    git(server.directory, "tag", "before-any-budget")
    first = {
        "src/net.py": NET.format(width=4),
        "tests/test_net.py": TEST,
        "pyproject.toml": BUDGET.format(macs=128),
        "ci/flopbudget.sh": block("file: ci/flopbudget.sh"),
        ".gitignore": f"{REPORTS}/\n",
    }
    server.commit("main", first)
    for branch, files in TEXTS.items():
        server.commit(branch, files)
    return Machine(folder=folder, server=server)


@pytest.fixture(scope="module")
def over(machine: Machine) -> Job:
    """The script as any CI runs it, on a head that is over budget.

    Every other job comes after this one: here the base is measured, beside a head with
    other code. Were that what it imports, what is kept of it would show that everywhere.
    """
    return machine.run(any_script(), machine.checkout("over"))


def any_script() -> str:
    return without_install(block("shell: any"))


@pytest.mark.usefixtures("over")
class TestAnyCI:
    def test_a_head_over_budget_fails_and_its_files_say_why(self, over: Job) -> None:
        assert over.code == 1, over.log
        assert "test_net used 160 MAC, budget 128 MAC (+25 %)" in over.log
        assert over.note().startswith("### \N{CROSS MARK} Compute budget: fail · 1 over budget")

    @pytest.mark.parametrize(
        ("branch", "code", "verdict"),
        [
            ("within", 0, "### \N{WHITE HEAVY CHECK MARK} Compute budget: "),
            (
                "loosened",
                1,
                "### \N{CROSS MARK} Compute budget: needs-approval · 1 budget loosened",
            ),
        ],
    )
    def test_the_exit_code_is_the_gates(
        self, branch: str, code: int, verdict: str, machine: Machine
    ) -> None:
        job = machine.run(any_script(), machine.checkout(branch))
        assert job.code == code, job.log
        assert job.note().startswith(verdict)

    def test_a_base_without_budgets_holds_nothing_up(self, machine: Machine) -> None:
        command = "bash ci/flopbudget.sh before-any-budget tests"
        job = machine.run(command, machine.checkout("within"))
        assert job.code == 0, job.log
        assert "no baseline yet" in job.note()
        assert not job.path("base.json").exists()

    @pytest.mark.parametrize(
        ("base", "said"),
        [("", "name the commit"), ("gone", "gone"), ("--detach", "--detach")],
    )
    def test_an_unknown_base_passes_nothing(self, base: str, said: str, machine: Machine) -> None:
        job = machine.run(f"bash ci/flopbudget.sh '{base}' tests", machine.checkout("within"))
        assert job.code == 2, job.log
        assert said in job.log
        assert not job.path("note.md").exists()

    def test_a_file_that_cannot_be_written_passes_nothing(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        broken = 'case "$*" in *junit*) exit 2;; esac\n'
        job = self.job_with(machine, tmp_path, "flopbudget", broken)
        assert job.code == 2, job.log
        assert job.path("note.md").exists()

    def test_tests_that_fail_for_other_reasons_fail_a_head_within_budget(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        failing = 'case "$*" in *head.json) "$REAL" "$@"; exit 1;; esac\n'
        job = self.job_with(machine, tmp_path, "python", failing)
        assert job.code == 1, job.log
        assert "No budget is broken by the change, but tests failed." in job.log
        assert job.note().startswith("### \N{WHITE HEAVY CHECK MARK}")

    def job_with(self, machine: Machine, folder: Path, program: str, first: str) -> Job:
        """The job of a head within budget, where the program begins with these lines."""
        real = machine.folder / "bin" / program
        executable(folder / program, f'#!/bin/sh\nREAL={real}\n{first}exec "$REAL" "$@"\n')
        variables = {"PATH": f"{folder}{os.pathsep}{machine.path}"}
        return machine.run(any_script(), machine.checkout("within"), variables)


@pytest.mark.usefixtures("over")
class TestFiles:
    def test_the_junit_file_has_a_failure_for_the_budget(self, over: Job) -> None:
        root = ET.parse(over.path("junit.xml")).getroot()  # noqa: S314 - written by ourselves
        assert root.tag == "testsuites"
        suites = root.findall("testsuite")
        assert suites
        for suite in suites:
            cases = suite.findall("testcase")
            # What the readers of Jenkins and GitLab add up, and what they name a case by.
            assert suite.get("name")
            assert int(suite.attrib["tests"]) == len(cases)
            for kind in ("failure", "error", "skipped"):
                total = suite.get({"failure": "failures", "error": "errors"}.get(kind, kind), "0")
                assert int(total) == sum(case.find(kind) is not None for case in cases)
            assert all(case.get("name") and case.get("classname") for case in cases)
        failures = root.findall("testsuite/testcase/failure")
        assert len(failures) == 1
        assert "160 MAC" in failures[0].attrib["message"]

    def test_code_quality_names_the_test_at_its_line(self, over: Job) -> None:
        found = json.loads(over.path("code-quality.json").read_text(encoding="utf-8"))
        (issue,) = found
        # The fields that GitLab requires; the path is one of the repository.
        assert {"description", "check_name", "fingerprint", "severity", "location"} <= set(issue)
        assert "160 MAC" in issue["description"]
        assert issue["severity"] in {"info", "minor", "major", "critical", "blocker"}
        assert re.fullmatch("[0-9a-f]{32,}", issue["fingerprint"])
        assert issue["location"]["path"] == "tests/test_net.py"
        assert issue["location"]["lines"]["begin"] in range(5, 8)

    def test_every_file_of_the_table_is_there_and_no_other(self, over: Job) -> None:
        _, _, table = PAGE.partition("| in `flopbudget-reports` | is |\n")
        rows = table.partition("\n\n")[0].splitlines()[1:]
        named = [name for row in rows for name in re.findall(r"`([\w.-]+)`", row.split("|")[1])]
        assert sorted(named) == sorted(path.name for path in (over.folder / REPORTS).iterdir())


def test_the_line_of_the_page_is_an_acceptance() -> None:
    (acceptance,), complaints = parse_acceptances(block("line: accept"))
    assert complaints == ()
    assert acceptance.metric == "flops"
    assert acceptance.reason == "wider layers, for 2 % accuracy"


@pytest.mark.usefixtures("over")
class TestGitLab:
    def job(self, machine: Machine, branch: str, **variables: str) -> Job:
        base = git(machine.server.directory, "rev-parse", "main")
        given = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, **variables}
        script = without_install(gitlab_script("flopbudget"))
        return machine.run(script, machine.checkout(branch), given)

    @pytest.mark.parametrize(("branch", "code"), [("within", 0), ("loosened", 1)])
    def test_the_exit_code_is_the_gates(self, branch: str, code: int, machine: Machine) -> None:
        job = self.job(machine, branch)
        assert job.code == code, job.log

    @pytest.mark.parametrize(
        ("labels", "is_read", "code"),
        [
            ("bug,flopbudget-accept", True, 0),
            (f"no-flopbudget-accept,flopbudget-accept-not,{HOSTILE}", False, 1),
        ],
        ids=["accepted", "over, with other labels"],
    )
    def test_a_line_of_the_description_counts_with_the_label(
        self, labels: str, is_read: bool, code: int, machine: Machine
    ) -> None:
        description = f"{HOSTILE}\n{ACCEPTED.format(160)}" + HOSTILE
        job = self.job(
            machine,
            "over",
            CI_MERGE_REQUEST_LABELS=labels,
            CI_MERGE_REQUEST_DESCRIPTION=description,
        )
        assert job.code == code, job.log
        assert ("accepted up to 1" in job.log) == is_read
        # The note shows what was accepted, up to where and why, and nothing of that else.
        assert ("#### Accepted\n" in job.note()) == is_read
        assert ("it pays" in job.note()) == is_read
        assert "label" not in job.note()

    def test_a_merged_results_pipeline_is_held_against_the_target(self, machine: Machine) -> None:
        # The target is over budget itself, which is not the doing of this change.
        target = git(machine.server.directory, "rev-parse", "over")
        job = self.job(machine, "over", CI_MERGE_REQUEST_TARGET_BRANCH_SHA=target)
        assert job.code == 0, job.log

    def test_the_default_branch_is_held_against_itself(self, machine: Machine) -> None:
        by_rule = gitlab("flopbudget")["rules"][1]["variables"]
        script = without_install(gitlab_script("flopbudget"))
        job = machine.run(script, machine.checkout("over"), by_rule)
        assert job.code == 0, job.log

    def test_the_reports_are_where_the_job_says(self, over: Job) -> None:
        artifacts = gitlab("flopbudget")["artifacts"]
        assert artifacts["when"] == "always"
        assert [(over.folder / path).is_dir() for path in artifacts["paths"]] == [True]
        assert {
            kind: (over.folder / path).suffix for kind, path in artifacts["reports"].items()
        } == {"junit": ".xml", "codequality": ".json"}
        assert all((over.folder / path).is_file() for path in artifacts["reports"].values())

    @pytest.mark.parametrize(("answer", "code"), [("0", 0), ("22", 22)])
    def test_the_note_is_posted_with_no_rights_of_quick_actions(
        self, answer: str, code: int, machine: Machine, tmp_path: Path
    ) -> None:
        (tmp_path / REPORTS).mkdir()
        note = "### Verdict\n/approve\n  /merge\na / b\n" + HOSTILE
        (tmp_path / REPORTS / "note.md").write_text(note)
        variables = {
            "FLOPBUDGET_TOKEN": "glpat-of-the-test",
            "CI_API_V4_URL": "https://gitlab.test/api/v4",
            "CI_PROJECT_ID": "12",
            "CI_MERGE_REQUEST_IID": "7",
            "ASKED": str(tmp_path / "asked.json"),
            "ANSWER": answer,
        }
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", gitlab_script("flopbudget-note")],
            cwd=tmp_path,
            env={**machine.environ(tmp_path), **variables},
            check=False,
        )
        assert done.returncode == code
        asked = json.loads((tmp_path / "asked.json").read_text())
        *options, url = asked["arguments"]
        assert url == "https://gitlab.test/api/v4/projects/12/merge_requests/7/notes"
        # The token is in no argument, where every process of the machine could read it.
        assert asked["input"] == "PRIVATE-TOKEN: glpat-of-the-test\n"
        assert options[options.index("--header") + 1] == "@-"
        assert "--fail" in options
        assert "--location" not in options
        assert options[options.index("--data-urlencode") + 1] == "body@note.md"
        sent = (tmp_path / "note.md").read_text()
        assert sent == note.replace("/approve", "&#47;approve").replace("  /merge", "&#47;merge")
        assert not (tmp_path / "pwned").exists()

    def test_the_gate_never_meets_the_token_nor_the_note_the_verdict(self) -> None:
        first, second = gitlab("flopbudget"), gitlab("flopbudget-note")
        assert not {"TOKEN", "curl"} & set(re.findall(r"[A-Z]*TOKEN|curl", json.dumps(first)))
        assert "environment" not in first
        assert "allow_failure" not in first
        assert second["allow_failure"] is True
        assert second["needs"] == ["flopbudget"]
        assert second["rules"][0]["when"] == "always"
        # The token's scope on the page, and the folder that needs no checkout.
        assert f"environment scope is\n`{second['environment']['name']}`" in PAGE
        assert second["variables"] == {"GIT_STRATEGY": "none"}

    def test_the_pipeline_fits_the_schema_of_gitlab(self, tmp_path: Path) -> None:
        good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
        pipeline = block("file: .gitlab-ci.yml") + block("file: .gitlab-ci.yml, the note")
        good.write_text(pipeline)
        bad.write_text(pipeline.replace("codequality:", "code_quality:"))
        check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
        codes = [subprocess.run([*check, path], check=False).returncode for path in (good, bad)]
        assert codes == [0, 1]


@pytest.mark.usefixtures("over")
class TestJenkins:
    def job(self, machine: Machine, branch: str, target: str = "main", accept: str = "") -> Job:
        folder = machine.checkout(branch)
        if branch == "over":
            # A server that asks for a password: the checkout's own main is good enough.
            git(folder, "remote", "set-url", "origin", str(folder / "gone"))
        variables = {"CHANGE_TARGET": target, "FLOPBUDGET_ACCEPT": accept}
        script = without_install(jenkins_script())
        return machine.run(script, folder, variables, interpreter=("sh", "-xec"))

    @pytest.mark.parametrize(
        ("branch", "accept", "code"),
        [
            ("within", "", 0),
            ("loosened", "", 1),
            ("over", f"{HOSTILE}\n{ACCEPTED.format(159)}", 1),
            ("over", f"{HOSTILE}\n{ACCEPTED.format(160)}", 0),
        ],
    )
    def test_the_exit_code_is_the_gates(
        self, branch: str, accept: str, code: int, machine: Machine
    ) -> None:
        job = self.job(machine, branch, accept=accept)
        assert job.code == code, job.log
        assert ("not fetched" in job.log) == (branch == "over")

    def test_a_target_is_a_name_and_no_command(self, machine: Machine) -> None:
        job = self.job(machine, "over", target="main$(touch${IFS}pwned)")
        assert job.code not in (0, 1)
        assert "Not a valid object name" in job.log

    def test_the_published_files_are_there(self, over: Job) -> None:
        pipeline = block("file: Jenkinsfile")
        (junit,) = re.findall(r"junit testResults: '([^']+)'", pipeline)
        (artifacts,) = re.findall(r"archiveArtifacts artifacts: '([^']+)'", pipeline)
        assert [*over.folder.glob(junit)] == [over.path("junit.xml")]
        assert over.path("note.md") in over.folder.glob(artifacts)
        # What Groovy would read variables in.
        assert '"""' not in pipeline
        assert not re.search(r'^\s*sh\b.*"', pipeline, re.MULTILINE)


def test_what_is_installed_is_this_project() -> None:
    name = re.search(r'^name = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert name is not None
    assert INSTALL.endswith(f" {name[1]}")


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
