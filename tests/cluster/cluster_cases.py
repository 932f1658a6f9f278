"""What the cluster tests share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "k8s" / "crds"
