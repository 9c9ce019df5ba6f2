"""What the reader of an explanation must know: limits, and negative results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from attnviz.core.explanation_results import Clip, Prediction
from attnviz.core.records import Heatmap, Kind, Record, Site

if TYPE_CHECKING:
    from attnviz.tracing import Unclaimed

_GATES = frozenset({Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE})
_FLAT = 1e-6
_NEAR, _MOST = 0.05, 0.9
_NAMED = 3


def notes_of_sites(found: Sequence[Site], chosen: Sequence[Site], unclaimed: Sequence[Unclaimed]) -> Iterator[str]:
    """How many sites there are, how many are shown, and what looks like attention and was not captured."""
    if not found:
        yield "This model has no attention: the maps are attributions alone."
    elif len(chosen) < len(found):
        yield f"{len(chosen)} of {len(found)} attention sites are shown."
    if unclaimed:
        what = "1 operation that looks like attention was"
        if len(unclaimed) > 1:
            what = f"{len(unclaimed)} operations that look like attention were"
        places = [f"{one.operation} in {one.module or '(root)'} ({PurePath(one.source).name})" for one in unclaimed]
        more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
        yield f"{what} not captured: {', '.join(places[:_NAMED])}{more}. `attnviz inspect` says why."


def notes_of_gates(records: Iterable[Record]) -> Iterator[str]:
    """Which ``g`` weigh nothing, or almost nothing."""
    flat, faint = [], []
    for record in records:
        g = record.g.detach().float()
        if float(g.std(correction=0)) < _FLAT:
            flat.append(record.name)
        elif record.site.kind in _GATES and float(((g - 1).abs() <= _NEAR).float().mean()) >= _MOST:
            faint.append(record.name)
    if flat:
        yield f"g is the same everywhere, and so weighs nothing, at {', '.join(flat)}."
    if faint:
        yield (
            f"{_MOST:.0%} or more of g lie within {_NEAR} of 1, and so change little, at {', '.join(faint)}. A channel "
            "gate's map shows little more than the activations there."
        )


def notes_of_views(records: Iterable[Record], size: tuple[int, int]) -> Iterator[str]:
    """Which sites look at the photograph anew: what layers behind them see is not where the photograph has it.

    Args:
        records: Of one forward pass.
        size: ``(H, W)`` of the model's input.
    """
    for record in records:
        x = record.x[0] if isinstance(record.x, tuple) else record.x
        # One point for each pixel of the input, where a deformable convolution has as many as its kernel.
        if record.site.kind is Kind.SAMPLING and record.g.shape[1:4] == (1, *size) and x.shape[-2:] == size:
            yield (
                f"{record.name} resamples the photograph, and the layers behind it see its view. A map read from "
                "such a layer, as Grad-CAM's is, lies on that view: its places are not those of the photograph."
            )


def notes_of_maps(maps: Iterable[Heatmap], target: Prediction, best: Prediction) -> Iterator[str]:
    """Which attributions are empty and what that means, and that another class than the first answer is explained."""
    for heatmap in maps:
        if heatmap.kind == "attribution" and not bool(heatmap.values.any()):
            why = "the logit does not change with any pixel"
            if heatmap.source != "input":
                why = f"no place of {heatmap.source} speaks for the class"
            yield f"The map is zero everywhere: {heatmap.method}; {why}."
    if target.index != best.index:
        yield f"The attributions explain {target.label}; the model's first answer is {best.label}."


def notes_without_map(reasons: Sequence[str]) -> Iterator[str]:
    """Which sites have no map, each reason once: ``site: why``."""
    sites: dict[str, list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ")
        sites.setdefault(why, []).append(name)
    for why, names in sites.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"No map: {', '.join(names[:_NAMED])}{more}: {why}"


def note_of_clip(clip: Clip, model: str) -> str:
    """How a model looked at a clip, and which frame stands for it."""
    count, at = len(clip.frames), clip.seconds[clip.shown]
    looked = f"{count} of {clip.total} frames, evenly spaced, were looked at"
    if clip.total < count:
        looked = f"The clip has only {clip.total} frames: some are among the {count} several times. They were looked at"
    if clip.together:
        return (
            f"{looked} together. The frame at {at:.2f} s stands for the clip in what follows: the one "
            "with the largest temporal weight, or the middle one where there are no such weights."
        )
    return (
        f"{looked} one by one, as {model} looks at single images. The answer is the mean over the frames; the frame at "
        f"{at:.2f} s, where the target is most probable, stands for the clip in what follows."
    )


def note_of_gap(heatmap: Heatmap, gap: float) -> str:
    """How much of the logit's rise an Integrated Gradients map explains.

    Args:
        heatmap: The map.
        gap: What :func:`attnviz.attribution.completeness_gap` gives for it.
    """
    total = float(heatmap.values.cpu().double().sum())
    return (
        f"The map of {heatmap.method} sums to {total:.2f}; the logit rises by {total - gap:.2f} from a blank image to "
        "this one. More steps of the path bring the two together."
    )
