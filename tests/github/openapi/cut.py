"""Cuts GitHub's OpenAPI description down to the operations that this project calls."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OPERATIONS = {
    "/user": ["get"],
    "/repos/{owner}/{repo}/actions/artifacts": ["get"],
    "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}": ["get"],
    "/repos/{owner}/{repo}/actions/runs/{run_id}": ["get"],
    "/repos/{owner}/{repo}/actions/runs/{run_id}/artifacts": ["get"],
    "/repos/{owner}/{repo}/commits": ["get"],
    "/repos/{owner}/{repo}/git/blobs": ["post"],
    "/repos/{owner}/{repo}/git/blobs/{file_sha}": ["get"],
    "/repos/{owner}/{repo}/git/commits": ["post"],
    "/repos/{owner}/{repo}/git/commits/{commit_sha}": ["get"],
    "/repos/{owner}/{repo}/git/ref/{ref}": ["get"],
    "/repos/{owner}/{repo}/git/refs": ["post"],
    "/repos/{owner}/{repo}/git/refs/{ref}": ["patch"],
    "/repos/{owner}/{repo}/git/trees": ["post"],
    "/repos/{owner}/{repo}/git/trees/{tree_sha}": ["get"],
    "/repos/{owner}/{repo}/issues/{issue_number}/comments": ["get", "post"],
    "/repos/{owner}/{repo}/issues/{issue_number}/events": ["get"],
    "/repos/{owner}/{repo}/issues/comments/{comment_id}": ["patch"],
    "/repos/{owner}/{repo}/pulls": ["get"],
    "/repos/{owner}/{repo}/pulls/{pull_number}": ["get"],
}
PROSE = {"description", "summary", "example", "examples", "externalDocs", "tags"}
NAMED = {"properties", "schemas", "responses", "parameters", "headers"}
"""Keywords whose keys are names, which may well be `description` or `tags`."""


def without_prose(node: Any, *, keys_are_names: bool = False) -> Any:
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_prose(value, keys_are_names=key in NAMED and not keys_are_names)
        for key, value in node.items()
        if keys_are_names or not (key in PROSE or key.startswith("x-"))
    }


def references(node: Any) -> Iterator[tuple[str, str]]:
    """The kind and the name of every component that the node refers to."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            _, _, kind, name = reference.split("/")
            yield kind, name
        for value in node.values():
            yield from references(value)


def cut(whole: dict[str, Any]) -> dict[str, Any]:
    paths = {
        path: {
            method: {
                key: without_prose(operation[key], keys_are_names=key == "responses")
                for key in ("operationId", "parameters", "requestBody", "responses")
                if key in (operation := whole["paths"][path][method])
            }
            for method in methods
        }
        for path, methods in OPERATIONS.items()
    }
    components: dict[str, dict[str, Any]] = {}
    wanted = list(references(paths))
    while wanted:
        kind, name = wanted.pop()
        if name not in components.setdefault(kind, {}):
            components[kind][name] = without_prose(whole["components"][kind][name])
            wanted += references(components[kind][name])
    ordered = {kind: dict(sorted(named.items())) for kind, named in sorted(components.items())}
    return {
        "openapi": whole["openapi"],
        "info": {"title": whole["info"]["title"], "version": whole["info"]["version"]},
        "paths": paths,
        "components": ordered,
    }


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(json.dumps(cut(json.loads(source.read_text())), indent=1) + "\n")
