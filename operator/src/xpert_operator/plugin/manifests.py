"""Where the manifests are, and what an overlay holds."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from xpert.core.errors import InputError, NotFoundError
from xpert_operator.plugin.access import Body, kubectl

CHECKOUT = Path(__file__).parents[4] / "k8s"
"""Where they are for who works on the sources; a wheel has a copy."""


def folder(given: Path | None) -> Path:
    """Return the folder with the manifests.

    Raises
    ------
    NotFoundError
        There is none.
    """
    packaged = Path(str(files("xpert_operator.plugin"))) / "k8s"
    for found in (given,) if given else (packaged, CHECKOUT):
        if (found / "crds" / "kustomization.yaml").is_file():
            return found
    raise NotFoundError(
        f"There are no manifests in '{given or packaged}', expected crds/kustomization.yaml. Give a clone's k8s folder: --from."
    )


def definitions(root: Path) -> list[Body]:
    """Return the CustomResourceDefinitions."""
    listed = _read((root / "crds" / "kustomization.yaml").read_text(encoding="utf-8"))[0]["resources"]
    return [body for name in listed for body in _read((root / "crds" / name).read_text(encoding="utf-8"))]


def rendered(root: Path, overlay: str) -> list[Body]:
    """Return what an overlay consists of: one of those that are there, or a folder with a kustomization.

    Raises
    ------
    NotFoundError
        There is no such overlay.
    InputError
        It cannot be rendered.
    """
    path = root / "overlays" / overlay
    if not (path / "kustomization.yaml").is_file():
        path = Path(overlay)
    if not (path / "kustomization.yaml").is_file():
        there = ", ".join(sorted(found.parent.name for found in (root / "overlays").glob("*/kustomization.yaml")))
        raise NotFoundError(
            f"There is no overlay '{overlay}', found {there}. Take one of these, or a folder with kustomization.yaml."
        )
    return _read(kubectl("kustomize", str(path)))


def placeholders(bodies: Iterable[Body]) -> list[str]:
    """Return what an overlay still has to be told: images without a registry, addresses that are examples."""
    found: set[str] = set()
    for body in bodies:
        for key, value in _leaves(body):
            if key == "image" and "/" not in value:
                found.add(f"image '{value}' has no registry")
            elif ".example.org" in value:
                found.add(
                    f"'{value.strip().splitlines()[0][:80]}' is an example" if "\n" not in value else "an address is an example"
                )
    return sorted(found)


def _leaves(node: Any, key: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(node, dict):
        for name, part in node.items():
            yield from _leaves(part, name)
    elif isinstance(node, list):
        for part in node:
            yield from _leaves(part, key)
    elif isinstance(node, str):
        yield key, node


def _read(text: str) -> list[Body]:
    try:
        return [body for body in yaml.safe_load_all(text) if body]
    except yaml.YAMLError as error:
        raise InputError(f"A manifest is no YAML: {error}.") from error
