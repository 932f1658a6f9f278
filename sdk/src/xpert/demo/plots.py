"""The demo's pictures; each function draws one and writes it as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xpert.core.errors import MissingExtraError
from xpert.core.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"
PALETTE = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2")


def figure(width: float, height: float) -> Figure:
    """Open a figure of ``width`` x ``height`` inches without a display.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Plots need matplotlib. Install it with: pip install 'xpert[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes: Axes, title: str) -> None:
    """Give ``axes`` the look that all pictures share."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=8, length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def draw_coefficients(explanations: Sequence[Explanation], path: Path, *, n_words: int = 5, columns: int = 4) -> Path:
    """Draw the strongest words of every pLLM with their 95 % intervals, one panel a pLLM."""
    rows = -(-len(explanations) // columns)
    canvas = figure(3.1 * columns, 1.75 * rows)
    panels = canvas.subplots(rows, columns, sharex=True, squeeze=False)
    for panel in panels.flat[len(explanations) :]:
        panel.set_visible(False)
    for panel, explanation in zip(panels.flat, explanations, strict=False):
        order = np.argsort(-np.abs(explanation.coefficients))[:n_words][::-1]
        value = np.asarray(explanation.coefficients)[order]
        spread = np.stack([value - np.asarray(explanation.lower)[order], np.asarray(explanation.upper)[order] - value])
        colors = [PALETTE[0] if v > 0 else PALETTE[1] for v in value]
        panel.barh(np.arange(len(order)), value, color=colors, alpha=0.85, height=0.62)
        panel.errorbar(value, np.arange(len(order)), xerr=np.maximum(spread, 0), fmt="none", ecolor=INK, elinewidth=1)
        panel.set_yticks(np.arange(len(order)), [explanation.words[i] for i in order])
        panel.axvline(0, color=QUIET, linewidth=0.8)
        dress(panel, explanation.name)
    canvas.savefig(path, dpi=130)
    return path


def draw_map(coefficients: Mapping[str, NDArray[np.float64]], users: Mapping[str, NDArray[np.float64]], path: Path) -> Path:
    """Draw base, pLLMs and users by the direction of their coefficients, on the two axes in which the pLLMs differ most.

    Strong styles would push all others into a corner, so everyone stands at the same distance from the base.

    Parameters
    ----------
    coefficients
        Name of a pLLM -> its coefficients, shape (n_axes,); the base is at zero.
    users
        Name of a user -> the user's coefficients, shape (n_axes,).
    path
        The PNG to write.
    """
    names = list(coefficients)
    points = np.stack([np.zeros_like(coefficients[names[0]]), *(unit(coefficients[n]) for n in names)])
    centre = points.mean(0)
    basis = np.linalg.svd(points - centre, full_matrices=False)[2][:2]
    canvas = figure(8.4, 6.2)
    axes = canvas.subplots()
    flat = (points - centre) @ basis.T
    axes.scatter(flat[1:, 0], flat[1:, 1], s=46, color=PALETTE[0], zorder=3, label="pLLMs")
    axes.scatter(flat[:1, 0], flat[:1, 1], s=80, marker="s", color=QUIET, zorder=3, label="base")
    for name, (x, y) in zip(["base", *names], flat, strict=True):
        axes.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=8, color=INK)
    for i, (name, value) in enumerate(users.items()):
        x, y = (unit(np.asarray(value)) - centre) @ basis.T
        axes.scatter(x, y, s=170, marker="*", color=PALETTE[(i + 1) % len(PALETTE)], zorder=4, label=f"user {name}")
        axes.annotate(name, (x, y), xytext=(8, -10), textcoords="offset points", fontsize=9, fontweight="bold", color=INK)
    dress(axes, "Base, pLLMs and users by the direction of their style")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8)
    canvas.savefig(path, dpi=130)
    return path


def unit(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``value`` at length 1."""
    scaled: NDArray[np.float64] = value / max(float(np.linalg.norm(value)), 1e-12)
    return scaled


def draw_losses(
    curves: Mapping[str, Sequence[tuple[float, float]]], path: Path, *, title: str, target: float | None = None
) -> Path:
    """Draw held-out loss against training steps, one line a start.

    Parameters
    ----------
    curves
        Label -> pairs (step, held-out loss in nats a token).
    path
        The PNG to write.
    title
        Headline of the picture.
    target
        Loss drawn as a dotted line, in nats a token.
    """
    canvas = figure(7.2, 4.0)
    axes = canvas.subplots()
    for i, (label, points) in enumerate(curves.items()):
        steps, losses = zip(*points, strict=True)
        color = PALETTE[i % len(PALETTE)]
        axes.plot(steps, losses, color=color, linewidth=2, marker="o", markersize=3, label=label)
    if target is not None:
        axes.axhline(target, color=QUIET, linestyle=":", linewidth=1.2, label="loss both are timed to")
    axes.set_xlabel("training steps on the device", fontsize=8, color=QUIET)
    axes.set_ylabel("held-out loss (nats a token)", fontsize=8, color=QUIET)
    dress(axes, title)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8)
    canvas.savefig(path, dpi=130)
    return path


def draw_reliability(bins: Sequence[tuple[float, float, int]], path: Path, *, title: str) -> Path:
    """Draw how often the choice was right against the confidence it was made with.

    Parameters
    ----------
    bins
        Triples (mean confidence, share right, number of choices), both shares between 0 and 1.
    path
        The PNG to write.
    title
        Headline of the picture.
    """
    canvas = figure(4.8, 4.6)
    axes = canvas.subplots()
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":", label="calibrated")
    confidence, right, count = (np.array(column, float) for column in zip(*bins, strict=True))
    axes.plot(confidence, right, color=PALETTE[0], linewidth=1.5)
    axes.scatter(confidence, right, s=20 + 180 * count / count.max(), color=PALETTE[0], alpha=0.8, label="choices")
    axes.set_xlabel("confidence", fontsize=8, color=QUIET)
    axes.set_ylabel("share right", fontsize=8, color=QUIET)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.05)
    dress(axes, title)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    canvas.savefig(path, dpi=130)
    return path
