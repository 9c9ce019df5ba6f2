"""Axes, curves and tick labels of the figures of a sparsity study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attnviz.core.sparsity_results import CausalFinding, CurveInterval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL = "all sites"
"""Scope of an intervention at all sites together."""

WIDTH = 5.2
"""Default width of a figure in inches."""

MAX_LABELS = 48
KEPT = {"probability": "probability kept", "top1": "predictions kept", "kl": "KL, nats", "score": "score kept"}
"""Measured effect of an intervention -> label of its axis."""

_ORDERS = {"strongest": "#1f7a78", "random": "#8a8a86", "weakest": "#b24c3c"}


def new_axes(count: int = 1, height: float = 3.2, width: float = WIDTH, columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Create a figure with ``count`` axes of the given size in inches, in a grid of at most ``columns`` columns."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=110)
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def effects_of(one: CausalFinding) -> list[str]:
    """The measured effects of an intervention: three for classes, the score for another target."""
    return [what for what in KEPT if any(name.endswith(f".{what}") for name in one.curves)]


def plot_orders(axes: Axes, one: CausalFinding, what: str = "") -> None:
    """Plot an effect of pruning, the first by default, for each order in which the entries of ``g`` are removed."""
    what = what or effects_of(one)[0]
    for order, colour in _ORDERS.items():
        curve = one.curves.get(f"{order}.{what}")
        if curve is not None:
            plot_curve(axes, one.shares, curve, colour, order, linewidth=1.4)
    axes.set(xlabel="share of g kept", ylabel=KEPT[what], xlim=(0, 1))
    if what == "kl":
        axes.set_ylim(bottom=0)
    else:
        axes.axhline(0.95, color=".6", linewidth=0.7, linestyle=":")
        axes.set_ylim(0, 1.05 if what == "top1" else 1.25)


def plot_curve(
    axes: Axes, shares: Sequence[float], curve: CurveInterval, colour: Any, label: str, **style: Any
) -> None:
    """Plot a curve with its interval as a band."""
    axes.plot(shares, curve.mean, color=colour, label=label, marker="o", markersize=2.5, **style)
    axes.fill_between(shares, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def depth_colours(count: int) -> list[Any]:
    """Return colours from the first site (dark) to the last."""
    import seaborn as sns

    return list(sns.color_palette("viridis", count))


def label_ticks(set_ticks: Callable[..., object], at: Any, names: Sequence[str], rotation: float = 60) -> None:
    """Label every tick, or evenly spaced ones if there are more than :data:`MAX_LABELS`."""
    step = max(1, math.ceil(len(names) / MAX_LABELS))
    align = {"ha": "right"} if rotation else {}
    set_ticks(list(at)[::step], list(names)[::step], rotation=rotation, fontsize=6, **align)
