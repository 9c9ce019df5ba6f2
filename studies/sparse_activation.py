"""The study behind docs/explanation/sparse-activation.md: its data and its figures, from one command.

    python studies/sparse_activation.py [--models cbam senet …] [--scenes 32] [--out docs/explanation/sparse-activation]

Every built-in model that is shipped with weights is asked how sparse it looks and how sparse it may be, on the sample
photographs and on held-out scenes (objects and photographs that no model was trained on; the Debian packages that they
come from are named by ``attnviz train`` where they are missing). Other models by name, where their weights can be
loaded: ``--models timm:seresnet50 timm:vit_small_patch16_224``. A model that was asked already is not asked again,
unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import attnviz
from attnviz.analyses.sparsity_collector import MeasureSelection
from attnviz.analyses.sparsity_study import Batch, StudyConfig, study
from attnviz.core.sparsity_results import CausalFinding, Interval, ModelFinding, SiteFinding, SparsityStudy
from attnviz.models import MODELS
from attnviz.models.builtin import shipped_weights
from attnviz.models.card import read_card
from attnviz.models.trunk import fold_norms
from attnviz.report.sparsity.figures import draw
from attnviz.training.features import DataRecipe
from attnviz.training.sources import Sources, find_sources

ROOT = Path(__file__).parents[1]
QUESTION = StudyConfig(
    MeasureSelection(("gini", "hoyer", "normalised_entropy", "top_mass"), activations=True), causal=True
)
BATCH = 12


def main() -> None:
    """Ask every model on both sets, then write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="names for attnviz.load_model")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explanation" / "sparse-activation")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    names = options.models or [name for name in MODELS if has_weights_of_one_image(name)]
    photographs = sorted(path for path in (ROOT / "sample_data").iterdir() if path.suffix in {".jpg", ".png"})
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        vision = attnviz.load_model(name)
        fold_norms(vision.module)  # the same function in less time
        vision.module.to(memory_format=torch.channels_last)
        sets = {
            "photographs": [lambda v=vision: attnviz.load_images(photographs, v.preprocess).x],
            "scenes": batches(torch.stack([as_input(vision, scene) for scene in held_out(name, options.scenes)])),
        }
        for subject, given in sets.items():
            path = options.out / f"{name.replace(':', '-')}.{subject}.json"
            if path.exists() and not options.again:
                continue
            start = time.perf_counter()
            keep = options.out / f".{path.stem}.resume"
            found = study(vision.module, given, QUESTION, name, keep, subject, told)
            made = {"torch": torch.__version__, "attnviz": attnviz.__version__, **weights_of(name)}
            made["seconds"] = str(round(time.perf_counter() - start))
            write_json(path, SparsityStudy(f"{found.images} {subject}", (found,), made))
            for drawn in draw(SparsityStudy(subject, (found,))):
                if drawn.name in {"pruning", "heads", "sinks"} and subject == "scenes":
                    drawn.figure.savefig(options.out / f"{path.stem}.{drawn.name}.png", dpi=80)
            write_rows(options.out / f"{path.stem}.csv", found)
    write_tables(options.out)
    draw_together(options.out)


def has_weights_of_one_image(name: str) -> bool:
    """Whether a built-in model weighs what is in one image, and is shipped; windows and sampling points are places."""
    asked = MODELS[name].attends and MODELS[name].frames is None and name not in {"stn", "dcn"}
    return asked and shipped_weights(name).is_file()


def weights_of(name: str) -> dict[str, str]:
    """Which weights were asked: the start of the SHA-256 of a built-in model's file."""
    path = shipped_weights(name)
    return {"weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16]} if path.is_file() else {}


def told(part: str, done: int, total: int) -> None:
    """Show how far it is."""
    sys.stderr.write(f"\r{part} {done}/{total}   ")


def held_out(name: str, count: int) -> list[np.ndarray]:
    """Scenes of objects and photographs that were held out when the model was trained, as pixels."""
    card = read_card(name) if name in MODELS else None
    seed = int(card.made["data"]["seed"]) if card else 0
    recipe = DataRecipe(count, plain_share=0.0, seed=seed, held_out=True)
    return [view.pixels for view in recipe.make(sources())]


@cache
def sources() -> Sources:
    """What scenes are made of on this machine."""
    return find_sources()


def as_input(vision: attnviz.VisionModel, pixels: np.ndarray) -> Tensor:
    """A scene as the model wants it; scenes have the size that the built-in models want."""
    return vision.preprocess.normalise(vision.preprocess.crop(pixels) if vision.preprocess.size_px != 224 else pixels)


def batches(x: Tensor) -> list[Batch]:
    """The images in batches."""
    return [lambda part=part: part for part in x.split(BATCH)]


def write_json(path: Path, found: SparsityStudy) -> None:
    """The whole finding, in few lines."""
    path.write_text(json.dumps(found.as_dict(), allow_nan=False) + "\n", encoding="utf-8")


COLUMNS = (
    "site kind gini input_share dead saturated never_used needed needed_low needed_high looks gap gap_low gap_high "
    "area_strongest area_random area_weakest kl_uniform kl_mean kl_other top1_mean"
).split()


def write_rows(path: Path, found: ModelFinding) -> None:
    """One line per site, and one for all together: what the page's tables show."""
    sites = {site.name: site for site in found.sites}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for one in found.causal:
            rows.writerow([one.scope, *looks(sites.get(one.scope)), *needs(one)])


def looks(site: SiteFinding | None) -> list[object]:
    """What the look told of a site; nothing of all sites together."""
    if site is None:
        return [""] * 6
    gini, share = cell(site.measures.get("g.gini")), number(site.input_share)
    return [site.kind, gini, share, site.dead, site.saturated, site.never_used]


def needs(one: CausalFinding) -> list[str]:
    """What the interventions told of one scope."""
    wanted = ((one.needed, "value low high"), (one.looks, "value"), (one.gap, "value low high"))
    spread = [number(getattr(found, end)) if found else "" for found, ends in wanted for end in ends.split()]
    areas = [cell(one.areas.get(order)) for order in ("strongest", "random", "weakest")]
    return [
        *spread,
        *areas,
        *(cell(one.replaced.get(key)) for key in ("uniform.kl", "mean.kl", "other.kl", "mean.top1")),
    ]


def write_tables(folder: Path) -> None:
    """``tables.md``: all mechanisms side by side, then each site by site, from the JSON files that are there."""
    lines = [
        "# Sparse activation: all tables",
        "",
        "Written by `studies/sparse_activation.py`. What the columns mean is in",
    ]
    lines += ["[the study](../sparse-activation.md) and in [measures](../../reference/measures.md).", ""]
    for subject in ("scenes", "photographs"):
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*.{subject}.json"))]
        models = [model for one in found for model in one["models"]]
        lines += [f"## All sites together, {subject}", "", *table(TOGETHER, [together(model) for model in models]), ""]
    for path in sorted(folder.glob("*.scenes.json")):
        for model in json.loads(path.read_text(encoding="utf-8"))["models"]:
            sites = {site["name"]: site for site in model["sites"]}
            rows = [site_by_site(one, sites.get(one["scope"])) for one in model["causal"]]
            lines += [f"## `{model['model']}`, site by site, {model['images']} scenes", "", *table(EACH, rows), ""]
    (folder / "tables.md").write_text("\n".join(lines), encoding="utf-8")


def draw_together(folder: Path) -> None:
    """``mechanisms.png``: the answers that are kept while all sites are pruned together, a panel per mechanism."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    found = [json.loads(path.read_text(encoding="utf-8"))["models"][0] for path in sorted(folder.glob("*.scenes.json"))]
    sns.set_theme(style="whitegrid", context="notebook")
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    shape = {"figsize": (3.4 * columns, 3.1 * rows), "sharex": True, "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(rows, columns, squeeze=False, **shape)
    for place, model in zip(axes.flat, found, strict=False):
        one = model["causal"][-1]
        at = range(len(one["shares"]))
        for order, colour in zip(("strongest", "random", "weakest"), ("C0", "C7", "C3"), strict=True):
            curve = one["curves"][f"{order}.top1"]
            low, high = ([min(1.0, max(0.0, v)) for v in curve[end]] for end in ("low", "high"))
            place.fill_between(at, low, high, color=colour, alpha=0.15, lw=0)
            place.plot(at, curve["mean"], color=colour, marker="o", ms=3, label=order)
        place.set_title(model["model"])
        place.set_xticks(list(at)[::2], [f"{100 * share:g}" for share in one["shares"]][::2])
    for place in axes.flat[len(found) :]:
        place.set_axis_off()
    axes[0][0].legend(title="kept")
    figure.supxlabel("share of g that is kept, %")
    figure.supylabel("first answers kept, all sites pruned")
    figure.savefig(folder / "mechanisms.png", dpi=80)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


TOGETHER = (
    "model", "Gini of `g`, by site", "looks", "needed", "top-1 kept by nothing", "strongest 2 %", "strongest 10 %",
    "strongest 50 %", "random 10 %", "random 50 %", "KL by none preferred", "by the mean", "by another's",
    "top-1 kept with the mean",
)  # fmt: skip


def together(model: dict[str, Any]) -> list[str]:
    """A mechanism in one row: all its sites pruned and replaced at once, or the one that it has."""
    one = model["causal"][-1]
    gini = [site["measures"]["g.gini"]["value"] for site in model["sites"]]
    tops = [(order, share) for order, share in (*[("strongest", p) for p in (0.0, 0.02, 0.1, 0.5)], *_RANDOM)]
    return [
        f"`{model['model']}`", f"{min(gini):.2f}–{max(gini):.2f}", spread(one["looks"]), spread(one["needed"]),
        *(kept(one, order, share) for order, share in tops),
        *(spread(one["replaced"][f"{by}.kl"]) for by in ("uniform", "mean", "other")),
        spread(one["replaced"]["mean.top1"]),
    ]  # fmt: skip


_RANDOM = (("random", 0.1), ("random", 0.5))

EACH = (
    "site", "kind", "Gini of `g`", "input share", "looks", "needed", "top-1 kept by nothing", "strongest 2 %",
    "strongest 10 %", "random 10 %", "KL by none preferred", "by the mean", "by another's", "heads, distinct",
)  # fmt: skip


def site_by_site(one: dict[str, Any], site: dict[str, Any] | None) -> list[str]:
    """One scope of interventions in one row."""
    seen = [""] * 3
    heads = ""
    if site is not None:
        seen = [site["kind"], spread(site["measures"].get("g.gini")), _digits(site["input_share"])]
        heads = f"{site['heads']['count']}, {site['heads']['distinct']}" if site["heads"] else ""
    tops = (("strongest", 0.0), ("strongest", 0.02), ("strongest", 0.1), ("random", 0.1))
    return [
        f"`{one['scope']}`", *seen, spread(one["looks"]), spread(one["needed"]),
        *(kept(one, order, share) for order, share in tops),
        *(spread(one["replaced"].get(f"{by}.kl")) for by in ("uniform", "mean", "other")), heads,
    ]  # fmt: skip


def kept(one: dict[str, Any], order: str, share: float) -> str:
    """The share of the images whose first answer is kept."""
    curve, at = one["curves"].get(f"{order}.top1"), one["shares"].index(share)
    return "" if curve is None else _between(curve["mean"][at], curve["low"][at], curve["high"][at])


def spread(one: dict[str, Any] | None) -> str:
    """A mean with its interval."""
    return "" if one is None or one["value"] is None else _between(one["value"], one["low"], one["high"])


def _between(value: float, low: float | None, high: float | None) -> str:
    return _digits(value) if low is None or high is None else f"{_digits(value)} [{low:.2f}, {high:.2f}]"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3f}"


def cell(one: Interval | None) -> str:
    """The mean alone."""
    return number(one.value) if one else ""


def number(value: float) -> str:
    """Four digits; nothing for what is undefined."""
    return "" if math.isnan(value) else f"{value:.4g}"


if __name__ == "__main__":
    main()
