"""The study behind docs/explanation/sparse-activation.md: its data, tables and figures.

    python studies/sparse_activation.py [--models cbam senet …] [--scenes 32] [--out docs/explanation/sparse-activation]

The sparsity of every shipped model of single images is measured, and the share of its attention that the prediction
needs, on the sample photographs and on held-out scenes: objects and photographs of Debian packages that no model was
trained on. Other models by name, if their weights can be loaded: ``--models timm:seresnet50
timm:vit_small_patch16_224``. Existing results are reused unless ``--again`` is given.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sparse_activation_tables import draw_all_models, write_rows, write_tables
from torch import Tensor

import attnviz
from attnviz.analyses.sparsity_collector import MeasureSelection
from attnviz.analyses.sparsity_study import Batch, StudyConfig, study
from attnviz.core.sparsity_results import SparsityStudy
from attnviz.models import MODELS
from attnviz.models.builtin import shipped_weights
from attnviz.models.card import read_card
from attnviz.models.trunk import fold_norms
from attnviz.report.sparsity.figures import draw
from attnviz.training.features import DataRecipe
from attnviz.training.sources import Sources

sys.path.insert(0, str(Path(__file__).parents[1]))

from builtin_training.debian_sources import find_sources

ROOT = Path(__file__).parents[1]
CONFIG = StudyConfig(
    MeasureSelection(("gini", "hoyer", "normalised_entropy", "top_mass"), activations=True), causal=True
)
BATCH = 12


def main() -> None:
    """Study every model on both sets of images, then write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", help="names for attnviz.load_model")
    parser.add_argument("--scenes", type=int, default=32, help="number of scenes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "explanation" / "sparse-activation")
    parser.add_argument("--again", action="store_true", help="repeat existing results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.models or [name for name in MODELS if is_studied(name)]:
        study_model(name, options.scenes, options.out, again=options.again)
    write_tables(options.out)
    draw_all_models(options.out)


def study_model(name: str, scenes: int, out: Path, *, again: bool) -> None:
    """Study one model on the sample photographs and on held-out scenes; existing results are kept unless ``again``."""
    photographs = sorted(path for path in (ROOT / "sample_data").iterdir() if path.suffix in {".jpg", ".png"})
    vision = attnviz.load_model(name)
    fold_norms(vision.module)  # the same function in less time
    vision.module.to(memory_format=torch.channels_last)
    sets = {
        "photographs": [lambda: attnviz.load_images(photographs, vision.preprocess).x],
        "scenes": batches(torch.stack([as_input(vision, scene) for scene in held_out(name, scenes)])),
    }
    for subject, images in sets.items():
        path = out / f"{name.replace(':', '-')}.{subject}.json"
        if path.exists() and not again:
            continue
        start = time.perf_counter()
        result = study(vision.module, images, CONFIG, name, out / f".{path.stem}.resume", subject, print_progress)
        made = {"torch": torch.__version__, "attnviz": attnviz.__version__, **weights_digest(name)}
        made["seconds"] = str(round(time.perf_counter() - start))
        content = SparsityStudy(f"{result.images} {subject}", (result,), made).as_dict()
        path.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
        for drawn in draw(SparsityStudy(subject, (result,))):
            if drawn.name in {"pruning", "heads", "sinks"} and subject == "scenes":
                drawn.figure.savefig(out / f"{path.stem}.{drawn.name}.png", dpi=80)
        write_rows(out / f"{path.stem}.csv", result)


def is_studied(name: str) -> bool:
    """Return whether a built-in model is shipped and weighs what is in one image; stn and dcn sample positions."""
    weighs = MODELS[name].attends and MODELS[name].frames is None and name not in {"stn", "dcn"}
    return weighs and shipped_weights(name).is_file()


def weights_digest(name: str) -> dict[str, str]:
    """Return the start of the SHA-256 of a built-in model's weights; nothing for other models."""
    path = shipped_weights(name)
    return {"weights": hashlib.sha256(path.read_bytes()).hexdigest()[:16]} if path.is_file() else {}


def print_progress(part: str, done: int, total: int) -> None:
    """Progress callback."""
    sys.stderr.write(f"\r{part} {done}/{total}   ")


def held_out(name: str, count: int) -> list[np.ndarray]:
    """Return the pixels of scenes whose objects and photographs were held out in the training of the model."""
    card = read_card(name) if name in MODELS else None
    seed = int(card.made["data"]["seed"]) if card else 0
    recipe = DataRecipe(count, plain_share=0.0, seed=seed, held_out=True)
    return [view.pixels for view in recipe.make(sources())]


@cache
def sources() -> Sources:
    """Return the objects and photographs of the installed packages."""
    return find_sources()


def as_input(vision: attnviz.VisionModel, pixels: np.ndarray) -> Tensor:
    """Return a scene as the model's input; scenes have the size of the built-in models' input."""
    return vision.preprocess.normalise(
        vision.preprocess.crop(pixels) if vision.preprocess.size != (224, 224) else pixels
    )


def batches(x: Tensor) -> list[Batch]:
    """Return the images in batches."""
    return [lambda part=part: part for part in x.split(BATCH)]


if __name__ == "__main__":
    main()
