"""Baselines in the artifacts of earlier runs on the default branch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final

from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.legs import check_leg_name
from pytest_flopbudget.github.artifacts import PREFIX, Artifact, download_leg
from pytest_flopbudget.github.baselines.ancestry import nearest
from pytest_flopbudget.github.baselines.baseline import Baseline
from pytest_flopbudget.github.rest import Client

_MOST_LISTED: Final = 500
"""The newest; every run of a pull request leaves some as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    artifact: Artifact
    branch: str
    sha: str
    is_own: bool
    """Whether the branch is of this repository: a fork's may have the same name."""


def read_baseline(
    client: Client, repository: str, leg: str, sha: str, *, default_branch: str
) -> Baseline:
    """What a run on the default branch left of a commit, or of the nearest one before it.

    Raises GitHubError, and ReportError where the artifact is not what it has to be.
    """
    name = PREFIX + check_leg_name(leg)
    listed = client.each(
        f"/repos/{repository}/actions/artifacts", _listed, key="artifacts", name=name
    )
    newest: dict[str, Artifact] = {}
    for one in islice(listed, _MOST_LISTED):
        is_fit = one.is_own and one.branch == default_branch and not one.artifact.is_expired
        if is_fit and one.artifact.name == name:
            kept = newest.get(one.sha)
            newest[one.sha] = one.artifact if kept is None or kept.id < one.artifact.id else kept
    found = nearest(client, repository, sha, newest) if newest else None
    if found is None:
        return Baseline(
            missing=f"no artifact {name} of {default_branch} is of {sha[:7]} or of a commit before"
        )
    commit, age = found
    head = download_leg(client, repository, newest[commit]).head
    if head.git is None or head.git.commit != commit:
        # A pull request from the default branch into another measures a merge.
        return Baseline(missing=f"the artifact {name} of {commit[:7]} is of another commit")
    return Baseline(report=head, age=age)


def _listed(node: Node) -> _Listed:
    artifact = Artifact(
        id=node["id"].count(),
        name=node["name"].text(),
        zip_bytes=node["size_in_bytes"].count(),
        is_expired=node["expired"].flag(),
    )
    run = node.maybe("workflow_run")
    if run is None:
        return _Listed(artifact=artifact, branch="", sha="", is_own=False)
    here, there = run.maybe("repository_id"), run.maybe("head_repository_id")
    return _Listed(
        artifact=artifact,
        branch=run.text_or_none("head_branch") or "",
        sha=run.text_or_none("head_sha") or "",
        is_own=here is not None and there is not None and here.count() == there.count(),
    )
