"""What a capture costs: against the plain forward pass, and against peers that extract attention maps.

Side by side in one process, the candidates in turn, medians; the ratio to the plain forward is what counts. Sites are
known before, full maps are kept, one image, no gradients. Peers do what they can: timm's ``AttentionExtract`` finds
softmax maps by module name after fused attention was switched off, torchlens keeps every activation.

    python benchmarks/capture.py [--repeats 15] [--models timm-name …]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
import warnings
from collections.abc import Callable

import timm
import torch
from timm.utils.attention_extract import AttentionExtract
from torch import Tensor, nn

from attnviz import capture, find_attention

MODELS = (
    "vit_tiny_patch16_224", "deit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224",
    "pvt_v2_b0", "cait_xxs24_224", "xcit_nano_12_p8_224", "coat_tiny", "mobilevit_xxs", "twins_svt_small",
    "crossvit_9_240", "davit_tiny", "levit_128s", "convit_tiny", "edgenext_xx_small", "efficientnet_b0",
    "mobilenetv3_large_100", "seresnet50", "ecaresnet26t", "regnety_008", "ese_vovnet19b_dw", "ghostnet_100",
)  # fmt: skip


def main() -> None:
    """Print one line per model, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"{'model':32}{'sites':>6}{'plain ms':>10}{'attnviz':>9}{'timm':>9}{'torchlens':>11}   (× plain)")
    ratios: dict[str, list[float]] = {"attnviz": [], "timm": [], "torchlens": []}
    for name in options.models:
        sites, times = measure(name, options.repeats)
        plain = times["plain"]
        shown = []
        for peer, values in ratios.items():
            ratio = times[peer] / plain if peer in times else None
            shown.append(f"{ratio:.2f}" if ratio else "–")
            if ratio:
                values.append(ratio)
        print(f"{name:32}{sites:6}{1e3 * plain:10.1f}{shown[0]:>9}{shown[1]:>9}{shown[2]:>11}", flush=True)
    for peer, values in ratios.items():
        if values:
            print(f"{peer}: median {statistics.median(values):.2f}, worst {max(values):.2f} over {len(values)} models")


def measure(name: str, repeats: int) -> tuple[int, dict[str, float]]:
    """The number of sites, and median seconds of each candidate that can do the model."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    x = torch.randn(1, *model.default_cfg["input_size"])
    sites = find_attention(model, x)
    candidates: dict[str, Callable[[], object]] = {
        "plain": lambda: model(x),
        "attnviz": lambda: captured(model, sites, x),
    }
    with contextlib.suppress(Exception):
        candidates["timm"] = timm_extract(name, x)
    with contextlib.suppress(Exception):
        candidates["torchlens"] = lens(model, x)
    with torch.no_grad():
        return len(sites), medians(candidates, repeats)


def captured(model: nn.Module, sites: list[object], x: Tensor) -> object:
    """The records of one forward call."""
    with capture(model, sites) as seen:
        model(x)
    return seen.records


def timm_extract(name: str, x: Tensor) -> Callable[[], object]:
    """The extractor of timm by hooks, on the model without fused attention; an error where it finds nothing."""
    from timm.layers import set_fused_attn

    set_fused_attn(enable=False)
    try:
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
    finally:
        set_fused_attn(enable=True)
    extract = AttentionExtract(model, method="hook")
    with torch.no_grad():
        if not extract(x):
            raise LookupError(f"timm finds no map in {name}")
    return lambda: extract(x)


def lens(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """torchlens, which keeps every activation."""
    import torchlens

    torchlens.log_forward_pass(model, x)
    return lambda: torchlens.log_forward_pass(model, x)


def medians(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each candidate, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for turn in range(repeats):
        for name, run in candidates.items():
            if name == "torchlens" and turn > 1:
                continue  # it takes many times the forward pass, whatever the noise
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
