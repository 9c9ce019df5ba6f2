"""Notes of an explanation for the reader: limits and negative results."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from attnviz.core.explanation_results import Clip, Prediction
from attnviz.core.records import Heatmap, Kind, Record, Site
from attnviz.tracing import Unclaimed
from attnviz.tracing.plain_run import Difference

_GATES = frozenset({Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE})
_FLAT = 1e-6
_NEAR, _MOST = 0.05, 0.9
_NAMED = 3


def notes_of_sites(found: Sequence[Site], chosen: Sequence[Site], unclaimed: Sequence[Unclaimed]) -> Iterator[str]:
    """Yield the numbers of sites and shown sites, and the operations that look like attention and were not captured."""
    if not found:
        yield "This model has no attention: all maps are attributions."
    elif len(chosen) < len(found):
        yield f"{len(chosen)} of {len(found)} attention sites are shown."
    if unclaimed:
        what = "1 operation that looks like attention was"
        if len(unclaimed) > 1:
            what = f"{len(unclaimed)} operations that look like attention were"
        operations = [f"{one.operation} in {one.module or '(root)'} ({PurePath(one.source).name})" for one in unclaimed]
        more = f" and {len(operations) - _NAMED} more" if len(operations) > _NAMED else ""
        yield f"{what} not captured: {', '.join(operations[:_NAMED])}{more}. `attnviz inspect` lists the reasons."


def notes_of_differences(traced: Difference | None, captured: Difference | None) -> Iterator[str]:
    """Yield the differences of the output from that of a plain run, if they are more than rounding."""
    for difference, when in ((traced, "traced"), (captured, "captured")):
        if difference is not None and not difference.is_rounding:
            yield (
                f"The output of the model changes {difference}, while its attention is {when}. A model with a random "
                "source of its own, or one that counts its calls, does this; its attention can differ from a plain run."
            )


def notes_of_layers(shares: Mapping[str, float]) -> Iterator[str]:
    """Yield the layers of class activation maps and why they were chosen; values are shares of the gradient."""
    for name, share in shares.items():
        why = "that the score depends on and through which all information passes"
        if share < 0.995:
            why = f"through which most of the score's gradient passes, {share:.0%}"
        yield f"Class activation maps explain the features of {name}: the last ones with positions of the image {why}."


def notes_of_gates(records: Iterable[Record]) -> Iterator[str]:
    """Yield the sites whose ``g`` has no effect, or almost none."""
    flat, faint = [], []
    for record in records:
        g = record.g.detach().float()
        if float(g.std(correction=0)) < _FLAT:
            flat.append(record.name)
        elif record.site.kind in _GATES and float(((g - 1).abs() <= _NEAR).float().mean()) >= _MOST:
            faint.append(record.name)
    if flat:
        yield f"g is constant, and therefore has no effect on relative weights, at {', '.join(flat)}."
    if faint:
        yield (
            f"{_MOST:.0%} or more of g lie within {_NEAR} of 1 and change little at {', '.join(faint)}. The map of a "
            "channel gate there mostly shows the activations."
        )


def notes_of_views(records: Iterable[Record], size: tuple[int, int]) -> Iterator[str]:
    """Yield the sites that resample the image, ``(H, W)``: positions in later layers are not those of the image."""
    for record in records:
        x = record.x[0] if isinstance(record.x, tuple) else record.x
        # One point per pixel: a spatial transformer. A deformable convolution has as many points as its kernel.
        if record.site.kind is Kind.SAMPLING and record.g.shape[1:4] == (1, *size) and x.shape[-2:] == size:
            yield (
                f"{record.name} resamples the image. Maps of later layers, such as Grad-CAM, lie on the resampled "
                "image: their positions are not those of the original."
            )


def notes_of_maps(maps: Iterable[Heatmap], target: Prediction, predicted: Sequence[Prediction]) -> Iterator[str]:
    """Yield the attributions that are zero, and whether the target is not the first prediction."""
    for heatmap in maps:
        if heatmap.kind == "attribution" and not bool(heatmap.values.any()):
            why = "the score does not change with any pixel"
            if heatmap.source != "input":
                why = f"no position of {heatmap.source} has evidence for the target"
            yield f"The map is zero everywhere: {heatmap.method}; {why}."
    best = predicted[0] if predicted else None
    if best is not None and target.unit == best.unit == "probability" and target.label != best.label:
        yield f"The attributions explain {target.label}; the predicted class is {best.label}."


def notes_without_map(reasons: Sequence[str]) -> Iterator[str]:
    """Yield the sites without a map, grouped by reason."""
    sites: dict[str, list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ")
        sites.setdefault(why, []).append(name)
    for why, names in sites.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"No map: {', '.join(names[:_NAMED])}{more}: {why}"


def note_of_clip(clip: Clip, model: str) -> str:
    """Return how the model processed a clip, and which frame represents it."""
    count, at = len(clip.frames), clip.seconds[clip.shown]
    sampled = f"{count} of {clip.total} frames, evenly spaced, were processed"
    if clip.total < count:
        sampled = (
            f"The clip has only {clip.total} frames, so some were sampled repeatedly. {count} frames were processed"
        )
    if clip.together:
        return (
            f"{sampled} together. The frame at {at:.2f} s represents the clip below: the one with the largest temporal "
            "weight, or the middle one without such weights."
        )
    return (
        f"{sampled} one by one, since {model} takes single images. The prediction is the mean over the frames; the "
        f"frame at {at:.2f} s, where the target is most probable, represents the clip below."
    )


def note_of_gap(heatmap: Heatmap, gap: float) -> str:
    """Return how much of the score's change a map explains, given :func:`attnviz.attribution.completeness_gap`."""
    total = float(heatmap.values.cpu().double().sum())
    return (
        f"The map of {heatmap.method} sums to {total:.2f}; the score rises by {total - gap:.2f} from a blank image to "
        "this one. The difference shrinks with more steps."
    )
