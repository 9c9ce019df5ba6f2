"""Cost of ``attnviz sparsity`` relative to the forward passes that it needs.

Both alternate in one process; the result is the median over turns of the ratio within a turn. The plain study
needs one pass over the images; its time includes the search for sites and all measures. The causal study needs
as many passes as it runs: they are counted, and the plain model then runs as many over the same images.
Images are random numbers in memory, weights random: neither changes the amount of computation.

    python benchmarks/sparsity.py [--repeats 3] [--images 256] [--batch 16] [--causal] [--models NAME …]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import torch
from torch import Tensor, nn

import attnviz
from attnviz.analyses.sparsity_collector import MeasureSelection
from attnviz.analyses.sparsity_study import StudyConfig, study

MODELS = ("cbam", "senet", "timm:seresnet50", "timm:vit_tiny_patch16_224", "timm:vit_small_patch16_224")


def main() -> None:
    """Print one line per model, and the largest ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--causal", action="store_true", help="prune and replace g at all sites together")
    parser.add_argument("--activations", action="store_true")
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    config = StudyConfig(MeasureSelection(activations=options.activations), causal=options.causal)
    print(f"{'model':32}{'sites':>6}{'passes':>8}{'bare s':>9}{'study s':>9}{'ratio':>8}   (lowest, highest)")
    worst = 0.0
    for name in options.models:
        vision = attnviz.load_model(name, weights="none")
        x = torch.randn(options.images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        parts = x.split(options.batch)
        sites, passes, bare, asked = measure(vision.module, parts, config, options.repeats)
        ratios = sorted(b / a for a, b in zip(bare, asked, strict=True))
        ratio = statistics.median(ratios)
        worst = max(worst, ratio)
        times = f"{statistics.median(bare):9.2f}{statistics.median(asked):9.2f}"
        print(f"{name:32}{sites:6}{passes:8.1f}{times}{ratio:8.2f}   ({ratios[0]:.2f}, {ratios[-1]:.2f})", flush=True)
    print(f"worst median: {worst:.2f}")


def measure(
    model: nn.Module, parts: tuple[Tensor, ...], config: StudyConfig, repeats: int
) -> tuple[int, float, list[float], list[float]]:
    """Sites, number of passes, and seconds of the plain passes and of the study in each turn."""
    batches = [lambda part=part: part for part in parts]
    seen = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    handle = model.register_forward_pre_hook(count)
    found = study(model, batches, config)  # also warms up
    handle.remove()
    images = sum(map(len, parts))
    # The pass that finds sites is a cost of the study, not a pass that it needs.
    passes = (seen - min(2, len(parts[0]))) / images
    bare, asked = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(round(passes)):
                for part in parts:
                    model(part)
        bare.append(time.perf_counter() - start)
        start = time.perf_counter()
        study(model, batches, config)
        asked.append(time.perf_counter() - start)
    return len(found.sites), passes, bare, asked


if __name__ == "__main__":
    main()
