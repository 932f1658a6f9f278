"""From typed models to structural schemas, as Kubernetes wants them: no references, no unions, every field described."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

KEPT = (
    "type",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "required",
    "x-kubernetes-validations",
)
LISTS_BY = {"Condition": "type", "MergeSource": "name", "Word": "word"}
"""Lists of these are merged by a field: two who write different elements do not overwrite each other."""


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a model.

    Raises
    ------
    ValueError
        The model has what a structural schema cannot say.
    """
    keys, document = models_json_schema([(model, "validation")], by_alias=True)
    definitions = document["$defs"]
    return _plain(keys[model, "validation"], definitions)


def _plain(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    found = {name: node[name] for name in KEPT if name in node}
    if node.get("format") in {"date-time", "int64"}:
        found["format"] = node["format"]
    if isinstance(node.get("default"), bool | int | str):
        found["default"] = node["default"]
    if "properties" in node:
        found["properties"] = {name: _plain(part, definitions) for name, part in node["properties"].items()}
    if "items" in node:
        found["items"] = _plain(node["items"], definitions)
        name = str(node["items"].get("$ref", "")).rsplit("/", 1)[-1]
        if name in LISTS_BY:
            found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [LISTS_BY[name]]}
    if "type" not in found:
        raise ValueError(f"A structural schema needs a type, found {sorted(node)}. Give the field one plain type.")
    if found["type"] == "integer":
        found.setdefault("format", "int64")
    return found


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow references, and take the one type beside null: an optional field is one that is not required."""
    while True:
        if "anyOf" in node:
            options = [option for option in node["anyOf"] if option.get("type") != "null"]
            if len(options) != 1:
                raise ValueError(
                    f"A structural schema has no unions, found one of {len(options)} types. Give the field one type."
                )
            node = {**options[0], **{name: value for name, value in node.items() if name != "anyOf"}}
        elif "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[1]]
            node = {**target, **{name: value for name, value in node.items() if name != "$ref"}}
        else:
            return node
