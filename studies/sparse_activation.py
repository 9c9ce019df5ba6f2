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
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import attnviz
from attnviz.analyses.looks import Asked
from attnviz.analyses.study import Batch, Question, study
from attnviz.models import MODELS
from attnviz.models.builtin import shipped_weights
from attnviz.models.card import read_card
from attnviz.models.trunk import fold_norms
from attnviz.report.sparsity.figures import draw
from attnviz.studies import CausalFinding, Estimate, ModelFinding, SiteFinding, SparsityStudy
from attnviz.training.features import DataRecipe
from attnviz.training.sources import Sources, find_sources

ROOT = Path(__file__).parents[1]
QUESTION = Question(Asked(("gini", "hoyer", "normalised_entropy", "top_mass"), activations=True), causal=True)
BATCH = 12


def main() -> None:
    """Ask every model on both sets, then write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="names for attnviz.load_model")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explanation" / "sparse-activation")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    names = options.models or [name for name in MODELS if MODELS[name].attends and shipped_weights(name).is_file()]
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


def cell(one: Estimate | None) -> str:
    """The mean alone."""
    return number(one.value) if one else ""


def number(value: float) -> str:
    """Four digits; nothing for what is undefined."""
    return "" if math.isnan(value) else f"{value:.4g}"


if __name__ == "__main__":
    main()
