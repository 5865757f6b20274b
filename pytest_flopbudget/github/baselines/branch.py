"""Baselines on a branch of their own, read and written through the API.

`records/LEG/SHA.json` is the report of a commit, `history/LEG.json` what the last commits
cost. The branch shares no history with the code, and is never forced.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from pytest_flopbudget.core.codec import report_from_json, report_to_json
from pytest_flopbudget.core.fields import Node
from pytest_flopbudget.core.legs import Leg, check_leg_name
from pytest_flopbudget.github.baselines.ancestry import nearest
from pytest_flopbudget.github.baselines.baseline import Baseline
from pytest_flopbudget.github.baselines.history import (
    History,
    extended,
    history_from_json,
    history_to_json,
)
from pytest_flopbudget.github.rest import Client, GitHubError

BRANCH: Final = "flopbudget-data"
MOST_RECORDS: Final = 100
_ATTEMPTS: Final = 6
_MOVED: Final = frozenset({HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY})
"""What GitHub answers when the branch is no longer where it was, or is there already."""
_RECORD: Final = re.compile(r"records/([^/]+)/([0-9a-f]{40,64})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The data branch of a repository."""

    client: Client
    repository: str
    branch: str = BRANCH

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", self.branch) or ".." in self.branch:
            raise GitHubError(f"baseline-branch: {self.branch!r} is no name of a branch")

    @property
    def path(self) -> str:
        """Where the API has the repository's git data."""
        return f"/repos/{self.repository}/git"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tip:
    """The branch as it was when it was read."""

    commit: str = ""
    """Empty where there is no such branch yet."""
    tree: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """The blob of each path."""


def read_baseline(store: Store, leg: str, sha: str) -> Baseline:
    """What the branch knows of a commit, or of the nearest one before it.

    Raises GitHubError, and ReportError where the branch holds something that is no record.
    """
    tip = _read_tip(store)
    if not tip.commit:
        return Baseline(missing=f"there is no branch {store.branch} yet")
    history = _history(store, tip, leg)
    known = {
        found[2] for path in tip.files if (found := _RECORD.fullmatch(path)) and found[1] == leg
    }
    found_at = nearest(store.client, store.repository, sha, known) if known else None
    if found_at is None:
        missing = f"{store.branch} has no record of {sha[:7]} or of the commits before it"
        return Baseline(history=history.series(), missing=missing)
    commit, age = found_at
    path = _record_path(leg, commit)
    report = report_from_json(_json_of(store, tip.files[path], path), where=path)
    return Baseline(report=report, age=age, history=history.series())


def write_baselines(
    store: Store, legs: Sequence[Leg], sha: str, *, sleep: Callable[[float], None]
) -> str:
    """Add the reports of a commit; the sha of the branch's new tip.

    sleep: `time.sleep`, in seconds.
    Somebody who moves the branch meanwhile is not overwritten: it is read again, and the
    same is added to what is there then. Raises GitHubError.
    """
    records = {
        _record_path(leg.name, sha): _create_blob(store, report_to_json(leg.head)) for leg in legs
    }
    for attempt in range(_ATTEMPTS):
        tip = _read_tip(store)
        files: dict[str, str | None] = dict(records)
        for leg in legs:
            history = extended(_history(store, tip, leg.name), sha, leg.head)
            files[_history_path(leg.name)] = _create_blob(store, history_to_json(history))
            files |= _outdated(tip, leg.name, history)
        tree = _create_tree(store, tip, files)
        if tree == tip.tree:
            return tip.commit
        commit = _create_commit(store, tip, tree, f"Record {sha[:7]}: {_names(legs)}")
        if _moved_to(store, tip, commit):
            return commit
        sleep(float(2**attempt))
    raise GitHubError(
        f"{store.branch}: moved {_ATTEMPTS} times while {sha[:7]} was written; run the job again"
    )


def _names(legs: Sequence[Leg]) -> str:
    return ", ".join(leg.name for leg in legs)


def _outdated(tip: _Tip, leg: str, history: History) -> dict[str, str | None]:
    """The records to drop: those of none of the last commits."""
    kept = set(history.commits[-MOST_RECORDS:])
    return {
        path: None
        for path in tip.files
        if (found := _RECORD.fullmatch(path)) and found[1] == leg and found[2] not in kept
    }


def _read_tip(store: Store) -> _Tip:
    try:
        commit = store.client.read(
            f"{store.path}/ref/heads/{store.branch}", lambda node: node["object"]["sha"].text()
        )
    except GitHubError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return _Tip()
        raise
    tree = store.client.read(
        f"{store.path}/commits/{commit}", lambda node: node["tree"]["sha"].text()
    )
    files = store.client.read(f"{store.path}/trees/{tree}?recursive=1", _files)
    return _Tip(commit=commit, tree=tree, files=files)


def _files(node: Node) -> dict[str, str]:
    if node["truncated"].flag():
        raise node.error("the data branch has more files than GitHub lists; delete the branch")
    return {
        item["path"].text(): item["sha"].text()
        for item in node["tree"].items()
        if item["type"].text() == "blob"
    }


def _history(store: Store, tip: _Tip, leg: str) -> History:
    path = _history_path(leg)
    if path not in tip.files:
        return History()
    return history_from_json(_json_of(store, tip.files[path], path), where=path)


def _json_of(store: Store, blob: str, where: str) -> Any:
    content = store.client.read(f"{store.path}/blobs/{blob}", lambda node: node["content"].text())
    try:
        return json.loads(base64.b64decode(content))
    except (ValueError, RecursionError, binascii.Error) as error:
        raise GitHubError(f"{where} on the data branch is not JSON") from error


def _create_blob(store: Store, data: Any) -> str:
    content = json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n"
    body = {"content": content, "encoding": "utf-8"}
    return store.client.write("POST", f"{store.path}/blobs", body, _sha)


def _create_tree(store: Store, tip: _Tip, files: Mapping[str, str | None]) -> str:
    entries = [
        {"path": path, "mode": "100644", "type": "blob", "sha": blob}
        for path, blob in files.items()
    ]
    base = {"base_tree": tip.tree} if tip.tree else {}
    return store.client.write("POST", f"{store.path}/trees", {"tree": entries, **base}, _sha)


def _create_commit(store: Store, tip: _Tip, tree: str, message: str) -> str:
    body = {"message": message, "tree": tree, "parents": [tip.commit] if tip.commit else []}
    return store.client.write("POST", f"{store.path}/commits", body, _sha)


def _moved_to(store: Store, tip: _Tip, commit: str) -> bool:
    """Whether the branch now ends with the commit; False when somebody else was faster."""
    try:
        if tip.commit:
            body = {"sha": commit, "force": False}
            store.client.request("PATCH", f"{store.path}/refs/heads/{store.branch}", body)
        else:
            body = {"ref": f"refs/heads/{store.branch}", "sha": commit}
            store.client.request("POST", f"{store.path}/refs", body)
    except GitHubError as error:
        if error.status in _MOVED:
            return False
        raise
    return True


def _sha(node: Node) -> str:
    return node["sha"].text()


def _record_path(leg: str, sha: str) -> str:
    return f"records/{check_leg_name(leg)}/{sha}.json"


def _history_path(leg: str) -> str:
    return f"history/{check_leg_name(leg)}.json"
