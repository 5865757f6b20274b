"""Holds requests and answers to GitHub's published description of its API."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

OPENAPI = Path(__file__).parent / "openapi" / "github.json"
LONGEST_BODY = 65_536


class Contract:
    def __init__(self) -> None:
        self._whole = _as_json_schema(json.loads(OPENAPI.read_text()))
        self._registry: Any = Registry().with_resource(
            "urn:github", Resource.from_contents(self._whole, default_specification=DRAFT202012)
        )

    def operation(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        """The operation's pointer into the description, and the values in its path."""
        for template in self._whole["paths"]:
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
            # The name of a ref has slashes of its own, and they are sent as they are.
            pattern = pattern.replace("(?P<ref>[^/]+)", "(?P<ref>.+)")
            found = re.fullmatch(pattern, path)
            if found and method.lower() in self._whole["paths"][template]:
                quoted = template.replace("/", "~1")
                return f"#/paths/{quoted}/{method.lower()}", found.groupdict()
        return None

    def operation_id(self, pointer: str) -> str:
        """GitHub's own name of the operation, such as `issues/create-comment`."""
        return str(self._at(pointer)["operationId"])

    def faults_of_request(
        self, pointer: str, values: dict[str, str], query: dict[str, str], body: Any
    ) -> list[str]:
        operation = self._at(pointer)
        declared = [self._at(p["$ref"]) if "$ref" in p else p for p in operation["parameters"]]
        faults = []
        given = {"path": values, "query": query}
        for parameter in declared:
            place = given[parameter["in"]]
            if parameter["name"] not in place:
                if parameter.get("required"):
                    faults.append(f"{parameter['name']}: missing")
                continue
            value: Any = place[parameter["name"]]
            if parameter["schema"]["type"] == "integer":
                value = int(value) if value.isdecimal() else value
            faults += self._faults(parameter["schema"], value, parameter["name"])
        # GitHub overlooks what it does not know; for us it is a misspelling.
        known = {p["name"] for p in declared if p["in"] == "query"}
        faults += [f"{name}: unknown query parameter" for name in query.keys() - known]
        return faults + self._faults_of_body(operation, body)

    def faults_of_answer(self, pointer: str, status: int, body: Any) -> list[str]:
        responses = self._at(pointer)["responses"]
        if str(status) not in responses:
            # GitHub lists no limits, redirects or failures of its own with each operation.
            return [] if status >= 300 else [f"status {status}: not in the description"]
        response = responses[str(status)]
        if "$ref" in response:
            response = self._at(response["$ref"])
        if "content" not in response:
            return [] if body is None else ["answer: the description has no body for it"]
        return self._faults(response["content"]["application/json"]["schema"], body, "answer")

    def _faults_of_body(self, operation: dict[str, Any], body: Any) -> list[str]:
        if "requestBody" not in operation:
            return [] if body is None else ["body: none is expected"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        faults = self._faults({**schema, "additionalProperties": False}, body, "body")
        if not faults and len(body.get("body", "")) > LONGEST_BODY:
            faults.append(f"body is too long (maximum is {LONGEST_BODY} characters)")
        return faults

    def _faults(self, schema: dict[str, Any], value: Any, where: str) -> list[str]:
        # Wrapped, so that the references in it are read against the whole description.
        whole = {"$ref": "urn:github#/wrapped"}
        registry = self._registry.with_resource(
            "urn:github",
            Resource.from_contents(
                {**self._whole, "wrapped": schema}, default_specification=DRAFT202012
            ),
        )
        validator = Draft202012Validator(whole, registry=registry)
        return [
            f"{where}{''.join(f'/{step}' for step in error.path)}: {error.message}"
            for error in validator.iter_errors(value)
        ]

    def _at(self, pointer: str) -> Any:
        node: Any = self._whole
        for step in pointer.removeprefix("#/").split("/"):
            node = node[step.replace("~1", "/")]
        return node


def _as_json_schema(node: Any) -> Any:
    """The same with OpenAPI's `nullable`, which JSON Schema lacks, written as a type."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: _as_json_schema(value) for key, value in node.items()}
    if schema.pop("nullable", False) is not True:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}
