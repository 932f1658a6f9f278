"""The demo's pictures; each function draws one and writes it as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xpert.bench.personalize import steps_to
from xpert.core.errors import MissingExtraError
from xpert.core.explanation import Explanation
from xpert.core.files import write_atomic
from xpert.demo.labels import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"
PALETTE = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2")
LINES = (("o", "-"), ("s", "--"), ("^", "-."))
"""Mark and line of a curve, so that colour is not all that tells them apart."""


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


def write_picture(canvas: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    StorageError
        The disk is full, or the place cannot be written to.
    """
    stream = io.BytesIO()
    canvas.savefig(stream, format="png", dpi=130)
    write_atomic(path, stream.getvalue())
    return path


def dress(axes: Axes, title: str) -> None:
    """Give ``axes`` the look that all pictures share."""
    # A user is named as the file of texts is, where $ is no formula.
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=8, length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def draw_coefficients(explanations: Sequence[Explanation], path: Path, *, n_words: int = 5, columns: int = 4) -> Path:
    """Draw the strongest words of every pLLM with their 95 % intervals, one panel a pLLM."""
    columns = min(columns, len(explanations))
    rows = -(-len(explanations) // columns)
    canvas = figure(3.1 * columns, 1.75 * rows + 0.9)
    panels = canvas.subplots(rows, columns, sharex=True, squeeze=False)
    for panel in panels.flat[len(explanations) :]:
        panel.set_visible(False)
    for i, (panel, explanation) in enumerate(zip(panels.flat, explanations, strict=False)):
        _draw_words(panel, explanation, n_words)
        # Every column has its scale, also where the last row ends before it.
        panel.tick_params(labelbottom=i + columns >= len(explanations))
    canvas.suptitle("Each pLLM in its strongest words", x=0.01, ha="left", fontsize=13, color=INK, fontweight="bold")
    canvas.supxlabel(
        "coefficient: 1 is as much of the style as its exemplars have, below 0 less of it than the base has\n"
        "lines: 95 % intervals; ?: not found again on other probes",
        x=0.01,
        ha="left",
        fontsize=9,
        color=QUIET,
    )
    return write_picture(canvas, path)


def _draw_words(panel: Axes, explanation: Explanation, n_words: int) -> None:
    words = explanation.top(n_words)[::-1]
    place = np.arange(len(words))
    value = np.array([word.coefficient for word in words])
    spread = np.array([(w.coefficient - w.lower, w.upper - w.coefficient) for w in words]).T
    panel.barh(place, value, color=[PALETTE[0] if v > 0 else PALETTE[1] for v in value], alpha=0.85, height=0.62)
    panel.errorbar(value, place, xerr=np.maximum(spread, 0), fmt="none", ecolor=INK, elinewidth=1)
    panel.set_yticks(place, [word.word + ("" if word.held_up else "?") for word in words])
    panel.axvline(0, color=QUIET, linewidth=0.8)
    dress(panel, explanation.name)


def draw_map(coefficients: Mapping[str, NDArray[np.float64]], users: Mapping[str, NDArray[np.float64]], path: Path) -> Path:
    """Draw base, pLLMs and users by the direction of their coefficients, on the two axes in which the pLLMs differ most.

    Strong styles would push all others into a corner, so everyone is drawn as if of the same strength.

    Parameters
    ----------
    coefficients
        Name of a pLLM -> its coefficients, shape (n_axes,); the base is at zero.
    users
        Name of a user -> the user's coefficients, shape (n_axes,).
    path
        The PNG to write.
    """
    pllms = np.stack([unit(value) for value in coefficients.values()])
    spread, basis = np.linalg.svd(pllms - pllms.mean(0), full_matrices=False)[1:]
    basis, shares = basis[:2], spread[:2] ** 2 / max(float((spread**2).sum()), 1e-12)
    people = np.array([unit(np.asarray(value)) for value in users.values()]).reshape(-1, pllms.shape[1])
    flat = np.concatenate([np.zeros((1, pllms.shape[1])), pllms, people]) @ basis.T
    first = 1 + len(pllms)
    canvas = figure(8.4, 7.0)
    axes = canvas.subplots()
    axes.scatter(flat[1:first, 0], flat[1:first, 1], s=46, color=PALETTE[0], zorder=3, label="pLLM")
    axes.scatter(flat[:1, 0], flat[:1, 1], s=80, marker="s", color=QUIET, zorder=3, label="base")
    axes.scatter(flat[first:, 0], flat[first:, 1], s=190, marker="*", color=PALETTE[1], edgecolor=INK, zorder=4, label="user")
    dress(axes, "Base, pLLMs and users by the direction of their style")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.tick_params(labelbottom=False, labelleft=False)
    axes.set_xlabel(f"first direction in which the pLLMs differ ({shares[0]:.0%} of their spread)", fontsize=8, color=QUIET)
    axes.set_ylabel(f"second direction ({shares[-1]:.0%} of their spread)", fontsize=8, color=QUIET)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.06), ncols=3)
    _label(canvas, axes, flat, ["base", *coefficients, *users], n_bold=len(users))
    return write_picture(canvas, path)


def _label(canvas: Figure, axes: Axes, flat: NDArray[np.float64], names: Sequence[str], *, n_bold: int) -> None:
    """Write names beside their points, the last ``n_bold`` in bold."""
    weights = ["normal"] * (len(names) - n_bold) + ["bold"] * n_bold
    labels = [
        axes.annotate(
            name, (x, y), (0, 0), textcoords="offset points", fontsize=8.5, color=INK, fontweight=weight, parse_math=False
        )
        for name, (x, y), weight in zip(names, flat, weights, strict=True)
    ]
    canvas.draw_without_rendering()  # only then the layout is known
    scale, box = 72 / canvas.dpi, axes.get_window_extent()
    points = (axes.transData.transform(flat) - (box.x0, box.y0)) * scale
    sizes = np.array([label.get_window_extent().size for label in labels]) * scale
    for label, offset in zip(labels, place_labels(points, sizes, (box.width * scale, box.height * scale)), strict=True):
        label.xyann = tuple(offset)


def unit(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``value`` at length 1."""
    scaled: NDArray[np.float64] = value / max(float(np.linalg.norm(value)), 1e-12)
    return scaled


def draw_losses(curves: Mapping[str, Sequence[tuple[int, float]]], path: Path, *, title: str, target: float) -> Path:
    """Draw held-out loss against training steps, one line a start; the legend says where the target was not reached.

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
        color, (marker, line) = PALETTE[i % len(PALETTE)], LINES[i % len(LINES)]
        reached = steps_to(points, target)
        label = f"{label}: target not reached" if reached is None else label
        axes.plot(steps, losses, color=color, linewidth=1.8, linestyle=line, marker=marker, markersize=4, label=label)
        if reached is not None:
            axes.plot(
                reached,
                dict(points)[reached],
                marker="o",
                markersize=12,
                markerfacecolor="none",
                markeredgecolor=color,
                markeredgewidth=1.8,
            )
    axes.axhline(target, color=QUIET, linestyle=":", linewidth=1.2, label="target; a ring: first reached")
    axes.set_xlabel("training steps on the device", fontsize=8, color=QUIET)
    axes.set_ylabel("held-out loss (nats a token)", fontsize=8, color=QUIET)
    dress(axes, title)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8)
    return write_picture(canvas, path)


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
    return write_picture(canvas, path)
