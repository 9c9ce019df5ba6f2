"""Time of finding the sites of a model, against a plain forward pass, and its growth with depth.

Usage: ``python benchmarks/finding.py [--models NAME,NAME] [--turns 3]``, with names of timm models. Finding runs
the model twice, plain and traced, and analyses the graph; it is done once per model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import nn

from attnviz.tracing import find_attention

MODELS = "vit_base_patch16_224 swin_tiny_patch4_window7_224 mvitv2_tiny cait_s24_224 seresnet50 resnet50 volo_d1_224"
DEPTHS = (6, 12, 24, 48)


def median_s(function: Callable[[], object], turns: int) -> float:
    """Median duration of a call in seconds, after one that is not counted."""
    function()
    durations = []
    for _ in range(turns):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def ratio(model: nn.Module, turns: int) -> tuple[float, float]:
    """Duration of a plain pass in seconds, and that of finding as a multiple of it."""
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = median_s(lambda: model(x), turns)
    return plain, median_s(lambda: find_attention(model, x), turns) / plain


def main() -> None:
    """Print the table of models and that of depths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS.split()))
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':36}{'plain, ms':>10}{'finding / plain':>17}")
    for name in options.models.split(","):
        plain, times = ratio(timm.create_model(name, pretrained=False).eval(), options.turns)
        print(f"{name:36}{plain * 1e3:10.0f}{times:17.1f}", flush=True)
    print(f"\n{'ViT-Tiny of depth':36}{'plain, ms':>10}{'finding / plain':>17}{'ms a layer':>12}")
    for depth in DEPTHS:
        model = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=depth).eval()
        plain, times = ratio(model, options.turns)
        print(f"{depth:<36}{plain * 1e3:10.0f}{times:17.1f}{plain * times * 1e3 / depth:12.1f}", flush=True)


if __name__ == "__main__":
    main()
