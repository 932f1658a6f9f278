"""The resources' definitions, as they are written to k8s/crds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from xpert_operator.resources.base_model import BaseModelSpec, BaseModelStatus
from xpert_operator.resources.pllm import PersonalizedLLMSpec, PersonalizedLLMStatus
from xpert_operator.resources.schema import structural
from xpert_operator.resources.style_space import StyleSpaceSpec, StyleSpaceStatus

GROUP = "xpert.dev"
VERSION = "v1alpha1"
READY = '.status.conditions[?(@.type=="Ready")].status'


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of resource.

    Attributes
    ----------
    name, plural, short
        As in ``kubectl get``.
    is_namespaced
        Whether it lies in a namespace.
    about
        What ``kubectl explain`` says of it.
    columns
        Title, type, path and priority of what ``kubectl get`` shows; 1 shows it with ``-o wide``.
    """

    name: str
    plural: str
    short: str
    is_namespaced: bool
    about: str
    spec: type[BaseModel]
    status: type[BaseModel]
    columns: tuple[tuple[str, str, str, int], ...]

    def definition(self) -> dict[str, Any]:
        """Return the CustomResourceDefinition."""
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{self.plural}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "scope": "Namespaced" if self.is_namespaced else "Cluster",
                "names": {
                    "kind": self.name,
                    "listKind": f"{self.name}List",
                    "plural": self.plural,
                    "singular": self.name.lower(),
                    "shortNames": [self.short],
                    "categories": ["xpert"],
                },
                "versions": [self._version()],
            },
        }

    def _version(self) -> dict[str, Any]:
        columns = [
            {"name": title, "type": type_, "jsonPath": path, **({"priority": priority} if priority else {})}
            for title, type_, path, priority in self.columns
        ]
        schema = {
            "type": "object",
            "description": self.about,
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": structural(self.spec),
                "status": structural(self.status),
            },
        }
        return {
            "name": VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [*columns, {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}],
            "schema": {"openAPIV3Schema": schema},
        }


BASE_MODEL = Kind(
    name="BaseModel",
    plural="basemodels",
    short="bm",
    is_namespaced=False,
    about="A base model: what personal LLMs are adapters of.",
    spec=BaseModelSpec,
    status=BaseModelStatus,
    columns=(("Source", "string", ".spec.source", 0), ("Ready", "string", READY, 0), ("Digest", "string", ".status.digest", 1)),
)
STYLE_SPACE = Kind(
    name="StyleSpace",
    plural="stylespaces",
    short="sspace",
    is_namespaced=True,
    about="A style space: the words that personal LLMs are explained in.",
    spec=StyleSpaceSpec,
    status=StyleSpaceStatus,
    columns=(
        ("Base", "string", ".spec.baseModel.name", 0),
        ("Version", "integer", ".spec.version", 0),
        ("Serving", "integer", ".status.current.version", 0),
        ("Explained", "integer", ".status.explained", 0),
        ("Of", "integer", ".status.pllms", 0),
        ("Failed", "integer", ".status.failed", 0),
        ("Ready", "string", READY, 0),
    ),
)
PLLM = Kind(
    name="PersonalizedLLM",
    plural="personalizedllms",
    short="pllm",
    is_namespaced=True,
    about="A personal LLM: a base model with an adapter, explained in words, and published for phones to choose.",
    spec=PersonalizedLLMSpec,
    status=PersonalizedLLMStatus,
    columns=(
        ("Base", "string", ".spec.baseModel.name", 0),
        ("Words", "string", ".status.summary", 0),
        ("Strength", "number", ".status.strength", 0),
        ("Published", "string", '.status.conditions[?(@.type=="Published")].status', 0),
        ("Ready", "string", READY, 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 1),
        ("Bytes", "integer", ".status.adapterBytes", 1),
    ),
)
KINDS = (BASE_MODEL, STYLE_SPACE, PLLM)

HEADER = "# Written by ./taskw crds from the models in operator/src/xpert_operator/resources. Do not edit.\n"


def render(kind: Kind) -> str:
    """Return a definition's file."""
    text: str = yaml.safe_dump(kind.definition(), sort_keys=False, width=120, allow_unicode=True)
    return HEADER + text


def write(folder: Path) -> None:
    """Write all definitions."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (folder / f"{kind.plural}.yaml").write_text(render(kind), encoding="utf-8")
