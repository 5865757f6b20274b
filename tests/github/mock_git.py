"""The git data of a repository on the server: objects, refs, commits and artifacts by name."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .api_mock import REPOSITORY, Answer, GitHub, Seen, error_body, user_named

LINK = f"https://api.github.test/repos/{REPOSITORY}"
DATE = "2026-11-23T10:00:00Z"
PERSON = {"name": "t", "email": "t@t.test", "date": DATE}
UNVERIFIED = {
    "verified": False,
    "reason": "unsigned",
    "signature": None,
    "payload": None,
    "verified_at": None,
}


def sha_of(*parts: object) -> str:
    return hashlib.sha1(json.dumps(parts).encode(), usedforsecurity=False).hexdigest()


@dataclass
class GitData:
    """Registers itself with the server; trees are kept flat, as path to blob."""

    github: GitHub
    blobs: dict[str, str] = field(default_factory=dict)
    trees: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, dict[str, Any]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    parents: dict[str, list[str]] = field(default_factory=dict)
    """The repository's own history: sha to parents, newest first."""
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    before_write: list[Callable[[], None]] = field(default_factory=list)
    """Each is called once, just before a ref is written: what somebody else does meanwhile."""

    def __post_init__(self) -> None:
        self.github.routes |= {
            "git/get-ref": self._get_ref,
            "git/create-ref": self._create_ref,
            "git/update-ref": self._update_ref,
            "git/get-commit": self._get_commit,
            "git/create-commit": self._create_commit,
            "git/get-tree": self._get_tree,
            "git/create-tree": self._create_tree,
            "git/get-blob": self._get_blob,
            "git/create-blob": self._create_blob,
            "repos/list-commits": self._list_commits,
            "actions/list-artifacts-for-repo": self._list_artifacts,
        }

    def files(self, branch: str) -> dict[str, str]:
        """The text of each file at the tip of the branch."""
        tree = self.commits[self.refs[f"refs/heads/{branch}"]]["tree"]["sha"]
        return {path: self.blobs[blob] for path, blob in self.trees[tree].items()}

    def put(self, branch: str, files: dict[str, str]) -> str:
        """The sha of a commit that somebody adds to the branch."""
        ref = f"refs/heads/{branch}"
        parents = [self.refs[ref]] if ref in self.refs else []
        before = self.trees[self.commits[parents[0]]["tree"]["sha"]] if parents else {}
        tree = self._keep_tree({**before, **{p: self._keep_blob(t) for p, t in files.items()}})
        self.refs[ref] = self._keep_commit("by hand", tree, parents)["sha"]
        return self.refs[ref]

    def add_artifact(self, name: str, sha: str, **other: Any) -> dict[str, Any]:
        number = 500 + len(self.artifacts)
        run = {
            "id": 1,
            "repository_id": 11,
            "head_repository_id": other.pop("head_repository_id", 11),
            "head_branch": other.pop("head_branch", "main"),
            "head_sha": sha,
        }
        artifact = {
            "id": number,
            "node_id": "MDg=",
            "name": name,
            "size_in_bytes": 100,
            "url": f"{LINK}/actions/artifacts/{number}",
            "archive_download_url": f"{LINK}/actions/artifacts/{number}/zip",
            "expired": False,
            "created_at": DATE,
            "expires_at": DATE,
            "updated_at": DATE,
            "workflow_run": run,
            **other,
        }
        self.artifacts.insert(0, artifact)
        return artifact

    def _keep_blob(self, text: str) -> str:
        sha = sha_of("blob", text)
        self.blobs[sha] = text
        return sha

    def _keep_tree(self, files: dict[str, str]) -> str:
        sha = sha_of("tree", sorted(files.items()))
        self.trees[sha] = files
        return sha

    def _keep_commit(self, message: str, tree: str, parents: list[str]) -> dict[str, Any]:
        sha = sha_of("commit", message, tree, parents)
        self.commits[sha] = {
            "sha": sha,
            "node_id": "MDY=",
            "url": f"{LINK}/git/commits/{sha}",
            "html_url": f"{LINK}/commit/{sha}",
            "author": PERSON,
            "committer": PERSON,
            "message": message,
            "tree": {"sha": tree, "url": f"{LINK}/git/trees/{tree}"},
            "parents": [
                {"sha": one, "url": f"{LINK}/git/commits/{one}", "html_url": f"{LINK}/commit/{one}"}
                for one in parents
            ],
            "verification": UNVERIFIED,
        }
        return self.commits[sha]

    def _get_ref(self, seen: Seen, values: dict[str, str]) -> Answer:
        ref = f"refs/{values['ref']}"
        if ref not in self.refs:
            return 404, {}, error_body(404, "Not Found")
        return 200, {}, self._ref(ref)

    def _ref(self, ref: str) -> dict[str, Any]:
        sha = self.refs[ref]
        place = {"type": "commit", "sha": sha, "url": f"{LINK}/git/commits/{sha}"}
        return {"ref": ref, "node_id": "MDM=", "url": f"{LINK}/git/{ref}", "object": place}

    def _meanwhile(self) -> None:
        if self.before_write:
            self.before_write.pop(0)()

    def _create_ref(self, seen: Seen, values: dict[str, str]) -> Answer:
        self._meanwhile()
        if seen.body["ref"] in self.refs:
            return 422, {}, error_body(422, "Reference already exists")
        self.refs[seen.body["ref"]] = seen.body["sha"]
        return 201, {}, self._ref(seen.body["ref"])

    def _update_ref(self, seen: Seen, values: dict[str, str]) -> Answer:
        self._meanwhile()
        ref, sha = f"refs/{values['ref']}", seen.body["sha"]
        if not seen.body.get("force") and self.refs[ref] not in self._ancestors(sha):
            return 422, {}, error_body(422, "Update is not a fast forward")
        self.refs[ref] = sha
        return 200, {}, self._ref(ref)

    def _ancestors(self, sha: str) -> set[str]:
        found = {sha}
        for parent in self.commits[sha]["parents"]:
            found |= self._ancestors(parent["sha"])
        return found

    def _get_commit(self, seen: Seen, values: dict[str, str]) -> Answer:
        return 200, {}, self.commits[values["commit_sha"]]

    def _create_commit(self, seen: Seen, values: dict[str, str]) -> Answer:
        body = seen.body
        return 201, {}, self._keep_commit(body["message"], body["tree"], body["parents"])

    def _get_tree(self, seen: Seen, values: dict[str, str]) -> Answer:
        assert seen.query == {"recursive": "1"}, "this mock lists whole trees alone"
        return 200, {}, self._tree(values["tree_sha"])

    def _create_tree(self, seen: Seen, values: dict[str, str]) -> Answer:
        files = dict(self.trees[seen.body["base_tree"]]) if "base_tree" in seen.body else {}
        for entry in seen.body["tree"]:
            if entry["sha"] is not None:
                assert entry["sha"] in self.blobs
                files[entry["path"]] = entry["sha"]
            elif files.pop(entry["path"], None) is None:
                return 422, {}, error_body(422, "GitRPC::BadObjectState")
        return 201, {}, self._tree(self._keep_tree(files))

    def _tree(self, sha: str) -> dict[str, Any]:
        files = self.trees[sha]
        folders = {path.rpartition("/")[0] for path in files if "/" in path}
        return {
            "sha": sha,
            "url": f"{LINK}/git/trees/{sha}",
            "truncated": False,
            "tree": [
                *({"path": p, "mode": "040000", "type": "tree", "sha": sha_of(p)} for p in folders),
                *(
                    {"path": p, "mode": "100644", "type": "blob", "sha": blob, "size": 1}
                    for p, blob in files.items()
                ),
            ],
        }

    def _get_blob(self, seen: Seen, values: dict[str, str]) -> Answer:
        sha = values["file_sha"]
        text = self.blobs[sha]
        return (
            200,
            {},
            {
                "sha": sha,
                "node_id": "MDQ=",
                "url": f"{LINK}/git/blobs/{sha}",
                "size": len(text.encode()),
                "encoding": "base64",
                # In lines, as GitHub sends it.
                "content": base64.encodebytes(text.encode()).decode(),
            },
        )

    def _create_blob(self, seen: Seen, values: dict[str, str]) -> Answer:
        assert seen.body["encoding"] == "utf-8"
        sha = self._keep_blob(seen.body["content"])
        return 201, {}, {"sha": sha, "url": f"{LINK}/git/blobs/{sha}"}

    def _list_commits(self, seen: Seen, values: dict[str, str]) -> Answer:
        every = list(self.parents)
        if seen.query["sha"] not in self.parents:
            return 404, {}, error_body(404, "Not Found")
        listed = every[every.index(seen.query["sha"]) :]
        headers, shas = self.github.page(seen, listed)
        return 200, headers, [self._listed_commit(sha) for sha in shas]

    def _listed_commit(self, sha: str) -> dict[str, Any]:
        link = f"{LINK}/commits/{sha}"
        return {
            "sha": sha,
            "url": link,
            "node_id": "MDY=",
            "html_url": link,
            "comments_url": f"{link}/comments",
            "author": user_named("t"),
            "committer": user_named("t"),
            "commit": {
                "url": link,
                "author": PERSON,
                "committer": PERSON,
                "message": "change",
                "comment_count": 0,
                "tree": {"sha": sha_of(sha), "url": link},
                "verification": UNVERIFIED,
            },
            "parents": [{"sha": one, "url": f"{LINK}/commits/{one}"} for one in self.parents[sha]],
        }

    def _list_artifacts(self, seen: Seen, values: dict[str, str]) -> Answer:
        named = [one for one in self.artifacts if one["name"] == seen.query["name"]]
        headers, shown = self.github.page(seen, named)
        return 200, headers, {"total_count": len(named), "artifacts": shown}
