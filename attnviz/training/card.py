"""The model card as text for people, written from the facts of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnviz.models.mechanism import MODELS
from attnviz.training.evaluation import SEEN, SURE

_ROWS = (
    ("kl", "KL to the teacher, nats", "lower is better"),
    ("top1", "top-1 agreement", f"scenes where the teacher's p > {SURE}"),
    ("top5", "teacher's class among the best 5", f"scenes where the teacher's p > {SURE}"),
    ("pointing", "pointing game: the map's maximum is on the object", "all scenes"),
    ("chance", "share of the scene that is object: a random point's score", "all scenes"),
    ("plain", "top-1 agreement with the trunk", f"plain photographs where the trunk's p > {SEEN}"),
)


def card_text(facts: Mapping[str, Any]) -> str:
    """The card in Markdown.

    Args:
        facts: ``model``, ``figures`` and ``made``, as the run gathered them.
    """
    figures, made = facts["figures"], facts["made"]
    mechanism = MODELS[facts["model"]]
    return "\n".join(
        [
            f"# {facts['model']}",
            "",
            f"{mechanism.summary[0].upper()}{mechanism.summary[1:]}. {figures['parameters']:,} parameters of its own in a",
            f"frozen EfficientNet-Lite0 (ImageNet-1k). Source: {mechanism.source}.",
            "",
            "This page was written by the run that it describes.",
            "",
            "## Figures, on held-out objects and photographs",
            "",
            "| measure | on | value | 95 % interval | n |",
            "|---|---|---|---|---|",
            *(_row(figures[key], measure, on) for key, measure, on in _ROWS),
            "",
            f"The map that points is that of `{figures['map_of']}`{_chosen(made)}. Every site's pointing score:",
            "",
            *(f"- `{site}`: {score:.2f}" for site, score in figures["sites"].items()),
            "",
            "Intervals come from resampling objects (or photographs), since views of one object are not independent.",
            "",
            "## How it was trained",
            "",
            *(_trained(made) if mechanism.attends else ["It was not: this is the bare trunk, the control."]),
            "",
            f"    {made['command']}",
            "",
            f"Versions: {', '.join(f'{name} {version}' for name, version in made['versions'].items())}.",
            "",
            "## Limits",
            "",
            *_LIMITS,
            "",
        ]
    )


_LIMITS = (
    "- The teacher is a network, not the truth: the figures say how well the model finds the *trunk's* answer.",
    "- Scenes are composed: an object is pasted into a photograph, at 0.2 to 0.6 of its side. In other pictures the maps may be",
    "  worse, and there is no figure for them.",
    "- The objects are a few hundred cut-outs, many of them animals, tools and fruit. Classes far from them were never practised.",
    "- A gate shows what a layer lets through. It is no proof that the class depends on it.",
)


def _row(figure: Mapping[str, float], measure: str, on: str) -> str:
    return f"| {measure} | {on} | {figure['value']:.2f} | {figure['low']:.2f} to {figure['high']:.2f} | {figure['n']} |"


def _chosen(made: Mapping[str, Any]) -> str:
    return ", chosen on training scenes" if made.get("training") else ""


def _trained(made: Mapping[str, Any]) -> list[str]:
    data, training = made["data"], made["training"]
    on, held = data["trained_on"], data["held_out"]
    return [
        f"On {data['views']:,} views, {1 - data['plain_share']:.0%} of them scenes: an object pasted, small and off-centre, into a",
        f"photograph. {on['objects']} objects and {on['photographs']} photographs; {held['objects']} and {held['photographs']} others were held out,",
        f"chosen by a hash of their names and the seed {data['seed']}. The teacher is the trunk looking at the object alone, on grey; for",
        "plain photographs, the trunk itself. The loss is the KL divergence from the teacher's answer "
        f"(a plain photograph counts {training['plain_weight']:g}).",
        f"AdamW, learning rate {training['learning_rate']:g} along a cosine, {training['epochs']} epochs in batches of {training['batch']}, "
        f"seed {training['seed']}. Only the attention's parameters were trained.",
        "",
        "Objects: Tux Paint's stamps (Debian `tuxpaint-stamps-default`, GPL-2; training data only, not shipped). Photographs: Debian's",
        "`opencv-doc`, `gcompris-qt-data` and wallpaper packages, scikit-image and scikit-learn, without the ones that attnviz ships",
        "as samples.",
    ]
