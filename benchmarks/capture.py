"""Cost of a capture: time relative to the plain forward pass and to other libraries, and memory.

    python benchmarks/capture.py                    # every model
    python benchmarks/capture.py --models 'hf:*' --repeats 5
    python benchmarks/capture.py --memory           # peak memory of each ``keep``, ViT-B/16 at 1024 pixels
    python benchmarks/capture.py --json build/capture.json

**Time.** The candidates of a model alternate in one process, with one image, without gradients, for known sites and
full maps. A ratio is the median over turns of a candidate's time divided by the time of the plain forward pass in the
same turn, so that a temporary slowdown of the machine affects both.

- *attnviz*: a capture per image, including its start and end;
- *open*: a capture that is already open; compare this one with the other libraries, which are set up beforehand too.

The other libraries support some of the models, and all return the model's output and the maps:

- *timm*: ``AttentionExtract``, by graph or by hooks, whichever works and is faster. It finds softmax maps by the names
  of modules, with fused attention disabled. Its graph must include the output, or it omits all operations after the
  last map;
- *eager*: transformers' ``output_attentions=True``, which needs the eager attention implementation;
- *torchlens*: ``trace``, which keeps every activation. It wraps PyTorch's functions when it is first used; therefore it
  is last, runs only twice, and is unwrapped before the next model.

All models have random weights of their published shapes.

**Memory.** Each ``keep`` runs in its own process; its peak resident size is compared with that of the plain
forward pass. The search for sites runs in it too, as it does for a user.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import fnmatch
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnviz import capture, find_attention
from attnviz.recording import Captured

TIMM = (
    "vit_tiny_patch16_224", "deit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224",
    "pvt_v2_b0", "cait_xxs24_224", "xcit_nano_12_p8_224", "coat_tiny", "mobilevit_xxs", "twins_svt_small",
    "crossvit_9_240", "davit_tiny", "levit_128s", "convit_tiny", "edgenext_xx_small", "efficientnet_b0",
    "mobilenetv3_large_100", "seresnet50", "ecaresnet26t", "regnety_008", "ese_vovnet19b_dw", "ghostnet_100",
)  # fmt: skip
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
HUGGING: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_small": ("ViTModel", _SMALL),
    "deit_small": ("DeiTModel", _SMALL),
    "dinov2_small": ("Dinov2Model", {"hidden_size": 384, "num_attention_heads": 6, "image_size": 224}),
    "swin_tiny": ("SwinModel", {}),
}
OURS = ("attnviz", "open")
PEERS = ("timm", "eager", "torchlens")
KEEPS = ("plain", "summary", "rows")


@dataclass
class Row:
    """Results of one model.

    Attributes:
        name: ``timm:…`` or ``hf:…``.
        sites: Number of sites.
        plain_ms: Median of the plain forward pass.
        ratios: For each candidate that supports the model, its time relative to the plain forward pass.
    """

    name: str
    sites: int
    plain_ms: float
    ratios: dict[str, float] = field(default_factory=dict)


def main() -> None:
    """Print one line per model, then the medians and the missed limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="turns per model (default: %(default)s)")
    parser.add_argument("--models", nargs="*", default=["*"], help="shell patterns of names, such as 'timm:vit*'")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--side", type=int, default=1024, help="pixels, for --memory (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--peak-of", choices=KEEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    if options.peak_of:
        print(peak_here(options.peak_of, options.side))
        return
    if options.memory:
        result: Any = memory(options.side, options.threads)
    else:
        names = [*(f"timm:{name}" for name in TIMM), *(f"hf:{name}" for name in HUGGING)]
        chosen = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in options.models)]
        result = [vars(row) for row in speed(chosen, options.repeats)]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"threads": options.threads, "torch": torch.__version__, "result": result}))


def speed(names: Iterable[str], repeats: int) -> list[Row]:
    """Measure every model, and print each row when it is ready."""
    missing = [
        package for package in ("timm", "transformers", "torchlens") if importlib.util.find_spec(package) is None
    ]
    if missing:
        print(f"not installed, and so not compared: {', '.join(missing)}")
    print(f"{'model':36}{'sites':>6}{'plain ms':>10}" + "".join(f"{who:>11}" for who in (*OURS, *PEERS)))
    print(f"{'':52}(times over the plain forward pass)")
    rows = []
    for name in names:
        row = measure(name, repeats)
        rows.append(row)
        cells = "".join(f"{row.ratios[w]:11.2f}" if w in row.ratios else f"{'–':>11}" for w in (*OURS, *PEERS))
        print(f"{name:36}{row.sites:6}{row.plain_ms:10.1f}{cells}", flush=True)
    for who in (*OURS, *PEERS):
        values = [row.ratios[who] for row in rows if who in row.ratios]
        if values:
            print(f"{who}: median {statistics.median(values):.2f}, worst {max(values):.2f} over {len(values)} models")
    slower = [
        f"{row.name} ({peer})" for row in rows for peer in PEERS if row.ratios.get(peer, 1e9) < row.ratios["open"]
    ]
    print(f"another library is faster on: {', '.join(slower) or 'none'}")
    return rows


def measure(name: str, repeats: int) -> Row:
    """The candidates that support a model, alternating."""
    library, _, model_name = name.partition(":")
    model, x = (timm_model if library == "timm" else hugging_model)(model_name)
    own = copy.deepcopy(model)
    with torch.no_grad(), contextlib.ExitStack() as opened:
        sites = find_attention(model, x)
        seen = opened.enter_context(capture(own, sites))
        candidates: dict[str, Callable[[], object]] = {
            "plain": lambda: model(x),
            "attnviz": lambda: captured(model, sites, x),
            "open": lambda: taken(own, seen, x),
        }
        with contextlib.suppress(Exception):  # the library does not support this model
            if library == "timm":
                candidates["timm"] = timm_extract(model_name, x)
            else:
                candidates["eager"] = eager(model_name, x)
        times = in_turn(candidates, repeats)
        with contextlib.suppress(Exception):
            times["torchlens"] = lens(model, x)
    plain = times.pop("plain")
    ratios = {who: statistics.median(t / p for t, p in zip(taken, plain, strict=False)) for who, taken in times.items()}
    return Row(name, len(sites), 1e3 * statistics.median(plain), ratios)


def in_turn(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each candidate in each turn, after one warm-up run of each."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def timm_model(name: str) -> tuple[nn.Module, Tensor]:
    """The model and an image of noise."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    return model, torch.randn(1, *model.default_cfg["input_size"])


def hugging_model(name: str, implementation: str = "sdpa") -> tuple[nn.Module, Tensor]:
    """The model and an image of noise."""
    import transformers

    class_name, options = HUGGING[name]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    config = model_class.config_class(**options, attn_implementation=implementation)
    return model_class(config).eval(), torch.randn(1, 3, 224, 224)


def captured(model: nn.Module, sites: Any, x: Tensor) -> object:
    """The records of one forward call."""
    with capture(model, sites) as seen:
        model(x)
    return seen.records


def taken(model: nn.Module, seen: Captured, x: Tensor) -> object:
    """The records of one forward call of an open capture."""
    model(x)
    records = seen.records[:]
    seen.records.clear()
    return records


def timm_extract(name: str, x: Tensor) -> Callable[[], object]:
    """Return timm's extractor for the model without fused attention; an error if it finds nothing."""
    from timm.layers import set_fused_attn
    from timm.models._features_fx import get_graph_node_names
    from timm.utils.attention_extract import AttentionExtract

    found: dict[float, Callable[[], object]] = {}
    set_fused_attn(enable=False)
    try:
        for method in ("fx", "hook"):
            with contextlib.suppress(Exception):
                model, names = timm_model(name)[0], None
                if method == "fx":
                    AttentionExtract(model, method=method)  # an error where it finds no map
                    names = [*AttentionExtract.default_node_names, get_graph_node_names(model)[1][-1]]
                extract = AttentionExtract(model, names, method=method)
                if not extract(x):
                    continue
                start = time.perf_counter()
                extract(x)
                found[time.perf_counter() - start] = lambda extract=extract: extract(x)
    finally:
        set_fused_attn(enable=True)
    return found[min(found)]


def eager(name: str, x: Tensor) -> Callable[[], object]:
    """The maps of transformers; an error if there are none."""
    model, _ = hugging_model(name, "eager")
    if not model(x, output_attentions=True).attentions:
        raise LookupError(f"transformers returns no map of {name}")
    return lambda: model(x, output_attentions=True)


def lens(model: nn.Module, x: Tensor) -> list[float]:
    """Seconds of torchlens, after one warm-up run."""
    import torchlens
    from torchlens.backends.torch.wrappers import unwrap_torch

    try:
        return in_turn({"torchlens": lambda: torchlens.trace(model, x)}, 2)["torchlens"]
    finally:
        unwrap_torch()


def memory(side: int, threads: int) -> dict[str, float]:
    """Peak memory of each ``keep``, each in its own process."""
    print(f"ViT-B/16 at {side} pixels, one image, peak resident MiB")
    peaks: dict[str, float] = {}
    for keep in KEEPS:
        command = [sys.executable, __file__, "--peak-of", keep, "--side", str(side), "--threads", str(threads)]
        peaks[keep] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{keep:10}{peaks[keep]:9.0f}{peaks[keep] / peaks['plain']:9.2f} × plain", flush=True)
    return peaks


@torch.no_grad()
def peak_here(keep: str, side: int) -> float:
    """The peak of this process after one forward pass, in MiB."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("vit_base_patch16_224", img_size=side).eval()
    x = torch.randn(1, 3, side, side)
    if keep == "plain":
        model(x)
    else:
        with capture(model, keep=keep) as seen:  # type: ignore[arg-type]  # one of KEEPS
            model(x)
        if len(seen.records) != 12:
            raise LookupError(f"12 records were wanted, got {len(seen.records)}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
