"""Write a model card as Markdown from the facts of a training run.

``python -m builtin_training.card`` writes the cards of all shipped models again, from their JSON files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attnviz.models.card import card_path
from attnviz.models.mechanism import MODELS
from attnviz.training.scores import TEACHER_P, TRUNK_P

_ROWS = (
    ("kl", "KL divergence from the teacher in nats, lower is better", "all scenes"),
    ("top1", "best class is the teacher's", f"scenes where the teacher's p > {TEACHER_P}"),
    ("top5", "teacher's class is among the five best", f"scenes where the teacher's p > {TEACHER_P}"),
    ("pointing", "maximum of the map is on the object", "all scenes"),
    ("energy", "share of the map's mass that is on the object", "all scenes"),
    ("gradcam", "maximum of Grad-CAM for the teacher's class is on the object", "all scenes"),
    ("chance", "share of the scene that the object covers: the expected score of a random point", "all scenes"),
    ("plain", "best class is the trunk's", f"plain photographs where the trunk's p > {TRUNK_P}"),
)

_LIMITS = """\
- The teacher is a network, not the ground truth: the figures measure agreement with the *trunk*.
- Scenes are composed: an object is pasted into a photograph, at 0.2 to 0.6 of its side. For other images there is no
  figure.
- The objects are a few hundred cut-outs, many of them animals, tools and fruit. No other classes were trained.
- A gate shows what a layer passes on. It does not prove that the class depends on it.
"""

_OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD", "sam": "SAM"}

_DATA = """\
Objects: Tux Paint's stamps (Debian `tuxpaint-stamps-default`, GPL-2; training data only, not shipped). Photographs:
Debian's `opencv-doc`, `gcompris-qt-data` and wallpaper packages, scikit-image and scikit-learn, without the ones that
attnviz ships as samples.
"""


def card_text(facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown, from ``model``, ``figures`` and ``made`` of a run, as in the JSON card."""
    figures, made = facts["figures"], facts["made"]
    mechanism = MODELS[facts["model"]]
    return f"""\
# {facts["model"]}

{mechanism.summary[0].upper()}{mechanism.summary[1:]}.
{figures["parameters"]:,} parameters of its own, in a frozen EfficientNet-Lite0 (ImageNet-1k).
Source: {mechanism.source}.
{_cost(figures.get("cost"))}
This page is generated from the JSON file of the same name, which the training run wrote.

## Figures on held-out objects and photographs

| measure | on | value | 95 % interval | n |
|---|---|---|---|---|
{_lines(_row(figures[key], measure, on) for key, measure, on in _ROWS)}
{_maps(figures)}
Intervals are bootstrap intervals over objects (or photographs), since views of one object are not independent.

## Training

{_training(figures["parameters"], made, attends=mechanism.attends)}
    {made["command"]}

Versions: {", ".join(f"{name} {version}" for name, version in made["versions"].items())}.

## Limits

{_LIMITS}"""


def _cost(cost: Mapping[str, float] | None) -> str:
    if cost is None:
        return ""
    return (
        f"One view costs {cost['flops'] / 1e9:.2f} GFLOP in convolutions and matrix products, "
        f"{cost['flops_ratio']:.2f} times the control's; the time was {cost['time_ratio']:.2f} times the control's.\n"
    )


def _maps(figures: Mapping[str, Any]) -> str:
    if not figures["maps"]:
        return "No projection yields a map of its attention.\n"
    scores = _lines(f"- `{name}`: {score:.2f}" for name, score in figures["maps"].items())
    return (
        f"The scored map is `{figures['map_of']}`, chosen on training scenes. Pointing score of every map:\n\n{scores}"
    )


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _row(figure: Mapping[str, float | None], measure: str, on: str) -> str:
    value, low, high = ("–" if figure[key] is None else f"{figure[key]:.2f}" for key in ("value", "low", "high"))
    return f"| {measure} | {on} | {value} | {low} to {high} | {figure['n']} |"


def _training(parameters: int, made: Mapping[str, Any], *, attends: bool) -> str:
    if not attends:
        return "It was not trained: this is the bare trunk, the control.\n"
    if not parameters:
        return "It was not trained: the mechanism has no parameters.\n"
    data, training = made["data"], made["training"]
    on, held = data["trained_on"], data["held_out"]
    return f"""\
Trained on {data["views"]:,} views of {on["objects"]} objects and {on["photographs"]} photographs. {held["objects"]} objects and
{held["photographs"]} photographs were held out, chosen by a hash of their names and the seed {data["seed"]}.
{1 - data["plain_share"]:.0%} of the views are scenes: an object pasted, small and off-centre, into a photograph. Their target is the
prediction of the trunk for the object on grey. {_patches(data.get("patches", 0))}The others are plain photographs; their target is the prediction of the trunk.
The loss is the KL divergence from the target, with weight {training["plain_weight"]:g} for a plain photograph.
{_OPTIMIZERS[training.get("optimizer", "adamw")]}, learning rate {training["learning_rate"]:g} with cosine decay, weight decay {training.get("weight_decay", 0):g}, {training["epochs"]} epochs in batches of {training["batch"]}, seed {training["seed"]}.
Only the attention's parameters were trained.

{_DATA}"""  # noqa: E501  # the text is Markdown


def _patches(each: int) -> str:
    if not each:
        return ""
    return (
        "In every other scene the object is a part of a photograph to which the trunk assigns a class with p > 0.35, "
        f"at most {each} of each photograph.\n"
    )


def write_cards(folder: Path) -> None:
    """Write the Markdown card of each JSON card in a folder."""
    for path in folder.glob("*.json"):
        text = card_text(json.loads(path.read_text(encoding="utf-8")))
        path.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_cards(card_path("none").parent)
