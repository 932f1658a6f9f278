"""`python -m xpert_operator.resources.reference` prints docs/resources.md: every field, from the definitions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from xpert_operator.resources.crds import GROUP, KINDS, VERSION, Kind

HEAD = f"""# The resources

Group `{GROUP}`, version `{VERSION}`, category `xpert` (`kubectl get xpert -A`). Written by `./taskw crds` from the models in
operator/src/xpert_operator/resources: do not edit. `kubectl explain pllm.spec` says the same. What stands behind it:
[0010](adr/0010-resources.md); how to use it: [kubernetes.md](kubernetes.md).
"""
EXAMPLES = {
    "BaseModel": 'spec: {source: "starter:base"}',
    "StyleSpace": "spec:\n  baseModel: {name: starter}\n  version: 1\n"
    "  exemplars: {configMap: {name: exemplars, key: texts.jsonl}}",
    "PersonalizedLLM": "spec:\n  baseModel: {name: starter}\n  merge:\n    sources:\n      - {name: concise, weight: 0.5}\n"
    "      - {name: poetic, weight: 0.5}",
}
LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} elements",
    "maxItems": "at most {} elements",
    "pattern": "matches `{}`",
}


def render() -> str:
    """Return the document."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _kind(kind))])


def _kind(kind: Kind) -> Iterator[str]:
    version = kind.definition()["spec"]["versions"][0]
    scope = "in a namespace" if kind.is_namespaced else "of the cluster"
    yield f"## {kind.name}\n\n{kind.about} Short: `{kind.short}`; {scope}.\n"
    example = f"apiVersion: {GROUP}/{VERSION}\nkind: {kind.name}\nmetadata: {{name: example}}\n{EXAMPLES[kind.name]}"
    yield f"```yaml\n{example}\n```\n"
    columns = [
        column["name"] + (" (`-o wide`)" if column.get("priority") else "") for column in version["additionalPrinterColumns"]
    ]
    yield f"`kubectl get {kind.short}` shows {', '.join(columns)}.\n"
    for part in ("spec", "status"):
        schema = version["schema"]["openAPIV3Schema"]["properties"][part]
        yield f"### {kind.name}.{part}\n"
        yield "| field | type | | what |\n|---|---|---|---|"
        yield from _fields(schema)
        yield ""
        rules = list(_rules(schema))
        if rules:
            yield "Refused otherwise:\n"
            yield from (f"- {rule}" for rule in rules)
            yield ""


def _fields(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        inner = field.get("items", field)
        what = " ".join([field.get("description") or inner.get("description", ""), *_limits(field, inner)])
        needed = "required" if name in schema.get("required", []) else _default(field)
        yield f"| `{prefix}{name}` | {_type(field)} | {needed} | {what.replace('|', chr(92) + '|')} |"
        yield from _fields(inner, f"{prefix}{name}{'[]' if 'items' in field else ''}.")


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    default = field["default"]
    return f"default `{str(default).lower() if isinstance(default, bool) else default}`"


def _limits(field: dict[str, Any], inner: dict[str, Any]) -> Iterator[str]:
    found = {**{key: inner[key] for key in LIMITS if key in inner}, **{key: field[key] for key in LIMITS if key in field}}
    told = [LIMITS[key].format(value) for key, value in found.items()]
    if told:
        yield f"({', '.join(told)})"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {field['items']['type']}s"
    return "time" if field.get("format") == "date-time" else str(field["type"])


def _rules(schema: dict[str, Any]) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield rule["message"]
    for field in schema.get("properties", {}).values():
        yield from _rules(field.get("items", field))


if __name__ == "__main__":
    sys.stdout.write(render())
