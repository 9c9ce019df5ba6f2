"""The model card as text for people, written from the facts of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnviz.models.mechanism import MODELS
from attnviz.training.evaluation import SEEN, SURE

_ROWS = (
    ("kl", "KL to the teacher in nats, lower is better", "all scenes"),
    ("top1", "best class is the teacher's", f"scenes where the teacher's p > {SURE}"),
    ("top5", "teacher's class is among the five best", f"scenes where the teacher's p > {SURE}"),
    ("pointing", "the map's maximum is on the object", "all scenes"),
    ("energy", "share of the map's mass that is on the object", "all scenes"),
    ("gradcam", "Grad-CAM's maximum for the teacher's class is on the object", "all scenes"),
    ("chance", "share of the scene that is object: what a random point scores", "all scenes"),
    ("plain", "best class is the trunk's", f"plain photographs where the trunk's p > {SEEN}"),
)

_LIMITS = """\
- The teacher is a network, not the truth: the figures say how well the model finds the *trunk's* answer.
- Scenes are composed: an object is pasted into a photograph, at 0.2 to 0.6 of its side. For other pictures there is no
  figure.
- The objects are a few hundred cut-outs, many of them animals, tools and fruit. Other classes were never practised.
- A gate shows what a layer lets through. That is no proof that the class depends on it.
"""

_OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD", "sam": "SAM"}

_DATA = """\
Objects: Tux Paint's stamps (Debian `tuxpaint-stamps-default`, GPL-2; training data only, not shipped). Photographs:
Debian's `opencv-doc`, `gcompris-qt-data` and wallpaper packages, scikit-image and scikit-learn, without the ones that
attnviz ships as samples.
"""


def card_text(facts: Mapping[str, Any]) -> str:
    """The card in Markdown.

    Args:
        facts: ``model``, ``figures`` and ``made``, as the run gathered them.
    """
    figures, made = facts["figures"], facts["made"]
    mechanism = MODELS[facts["model"]]
    how = _trained(made) if mechanism.attends else "It was not trained: this is the bare trunk, the control.\n"
    return f"""\
# {facts["model"]}

{mechanism.summary[0].upper()}{mechanism.summary[1:]}.
{figures["parameters"]:,} parameters of its own, in a frozen EfficientNet-Lite0 (ImageNet-1k).
Source: {mechanism.source}.
{_cost(figures.get("cost"))}
This page was written by the run that it describes.

## Figures, on held-out objects and photographs

| measure | on | value | 95 % interval | n |
|---|---|---|---|---|
{_lines(_row(figures[key], measure, on) for key, measure, on in _ROWS)}
The map that points is that of `{figures["map_of"]}`, chosen on training scenes. Every map's score:

{_lines(f"- `{name}`: {score:.2f}" for name, score in figures["maps"].items())}
Intervals come from resampling objects (or photographs), since views of one object are not independent.

## How it was made

{how}
    {made["command"]}

Versions: {", ".join(f"{name} {version}" for name, version in made["versions"].items())}.

## Limits

{_LIMITS}"""


def _cost(cost: Mapping[str, float] | None) -> str:
    if cost is None:
        return ""
    return (
        f"One view costs {cost['flops'] / 1e9:.2f} GFLOP in convolutions and matrix products, "
        f"{cost['flops_ratio']:.2f} times the control's, and took {cost['time_ratio']:.2f} times as long here.\n"
    )


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def _row(figure: Mapping[str, float | None], measure: str, on: str) -> str:
    value, low, high = ("–" if figure[key] is None else f"{figure[key]:.2f}" for key in ("value", "low", "high"))
    return f"| {measure} | {on} | {value} | {low} to {high} | {figure['n']} |"


def _trained(made: Mapping[str, Any]) -> str:
    data, training = made["data"], made["training"]
    on, held = data["trained_on"], data["held_out"]
    return f"""\
Trained on {data["views"]:,} views of {on["objects"]} objects and {on["photographs"]} photographs. {held["objects"]} objects and
{held["photographs"]} photographs were held out, chosen by a hash of their names and the seed {data["seed"]}.
{1 - data["plain_share"]:.0%} of the views are scenes: an object pasted, small and off-centre, into a photograph. Their teacher is the
trunk looking at the object alone, on grey. {_patches(data.get("patches", 0))}The others are plain photographs; their teacher is the trunk itself.
The loss is the KL divergence from the teacher's answer, a plain photograph counting {training["plain_weight"]:g}.
{_OPTIMIZERS[training.get("optimizer", "adamw")]}, learning rate {training["learning_rate"]:g} along a cosine, weight decay {training.get("weight_decay", 0):g}, {training["epochs"]} epochs in batches of {training["batch"]}, seed {training["seed"]}.
Only the attention's parameters were trained.

{_DATA}"""  # noqa: E501  # the text is Markdown


def _patches(each: int) -> str:
    """What is said of parts of photographs that serve as objects."""
    if not each:
        return ""
    return (
        "In every other scene the object is a part of a photograph in which the trunk, shown it alone, sees something: "
        f"at most {each} of each photograph.\n"
    )
