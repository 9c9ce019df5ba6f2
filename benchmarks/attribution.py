"""Cost of attribution methods and metrics compared with pytorch-grad-cam, torchcam and Quantus, for equal results.

The candidates alternate in one process; the fastest run of each counts, because it is the least disturbed. Each method
is compared with the passes that it needs: the forward and backward passes, batched and in the faster memory format. The
mean correlation of our maps with those of the other library is printed, to verify that the results are equal.

    python benchmarks/attribution.py [--rounds 3] [--model resnet18] [--images 1] [--only gradcam …] [--threads N]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from attnviz.attribution import Logits, attribute, find_layer
from attnviz.core.model_state import borrowed
from attnviz.metrics.perturbation_curves import TargetProbe, deletion_curve

GRADIENT = ("gradcam", "gradcam++", "hirescam", "xgradcam", "layercam")
GRAD_CAM = {
    "gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "hirescam": "HiResCAM", "xgradcam": "XGradCAM",
    "layercam": "LayerCAM", "eigencam": "EigenCAM", "scorecam": "ScoreCAM", "ablationcam": "AblationCAM",
}  # fmt: skip
TORCHCAM = {
    "gradcam": "GradCAM", "gradcam++": "GradCAMpp", "xgradcam": "XGradCAM", "layercam": "LayerCAM", "cam": "CAM",
    "scorecam": "ScoreCAM",
}  # fmt: skip
BARE = {"bare, channels last": torch.channels_last, "bare": torch.contiguous_format}
_FLIPPED_PX, _FLIPS = 192, 24
_REST_SECONDS = 0.1  # until the threads of another library stop spinning
METHODS = ("cam", *GRADIENT, "eigencam", "ablationcam", "scorecam")


def main() -> None:
    """Print one line per method and one for a metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=(*METHODS, "deletion"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = torchvision.models.get_model(options.model, weights=None).eval()
    model.fc.weight.data *= 30  # gradients as large as those of a trained network
    x = torch.randn(options.images, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    print(
        f"{options.model}, {options.images} × 224 px, {options.threads} threads, fastest of {options.rounds}; "
        "× is the time of ours"
    )
    print(f"{'method':14}{'ours s':>9}{'bare s':>9}{'ours/bare':>11}{'grad-cam':>18}{'torchcam':>18}{'quantus':>18}")
    for method in options.only:
        runs = candidates(method, model, x)
        rounds = 1 if method in {"scorecam", "ablationcam"} else options.rounds
        times, results = fastest(runs, rounds * (5 if method in (*GRADIENT, "cam", "eigencam") else 1))
        print(line(method, times, results), flush=True)


def candidates(method: str, model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """Our method, the passes that it needs, and the other libraries that have it."""
    if method == "deletion":
        return metric_candidates(model, x)
    with borrowed(model):
        layer = find_layer(Logits(model), x)
    target = 3

    def ours() -> Any:
        return attribute(model, x, target, method, layer=layer).values.numpy()

    runs: dict[str, Callable[[], Any]] = {"ours": ours}
    runs |= {name: bare(method, model, x, target, layout) for name, layout in BARE.items()}
    if method in GRAD_CAM:
        runs["grad-cam"] = lambda: grad_cam(GRAD_CAM[method], model, x, target)
    if method in TORCHCAM:
        runs["torchcam"] = lambda: torch_cam(TORCHCAM[method], model, x, target)
    return runs


def bare(method: str, model: nn.Module, x: Tensor, target: int, layout: torch.memory_format) -> Callable[[], Any]:
    """The passes that a method needs: frozen parameters, batches of 8."""

    def gradient() -> Any:
        with borrowed(model):
            kept: list[Tensor] = []

            def cut(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
                kept.append(output.detach().requires_grad_())
                return kept[-1] * 1

            handle = model.layer4.register_forward_hook(cut)
            score = model(x.contiguous(memory_format=layout))[:, target].sum()
            handle.remove()
            return torch.autograd.grad(score, kept)[0]

    def forwards(count: int) -> Any:
        batch = x.expand(8, -1, -1, -1).contiguous(memory_format=layout)
        with torch.no_grad():
            for _ in range(count // 8):
                model(batch)

    def after() -> Any:
        with torch.no_grad():
            a = torch.rand(512, 512, 7, 7)
            model(x.contiguous(memory_format=layout))
            return model.fc(model.avgpool(a).flatten(1))

    def one() -> Any:
        with torch.no_grad():
            return model(x.contiguous(memory_format=layout))

    return {"scorecam": lambda: forwards(512), "ablationcam": after, "eigencam": one}.get(method, gradient)


def grad_cam(name: str, model: nn.Module, x: Tensor, target: int) -> Any:
    """The map of pytorch-grad-cam."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    peer = getattr(pytorch_grad_cam, name)
    with contextlib.redirect_stderr(io.StringIO()), peer(model=model, target_layers=[model.layer4]) as cam:
        return cam(x, [ClassifierOutputTarget(target)] * len(x))


def torch_cam(name: str, model: nn.Module, x: Tensor, target: int) -> Any:
    """The map of torchcam, enlarged in the same way as ours."""
    import torchcam.methods

    with getattr(torchcam.methods, name)(model, "layer4") as cam:
        if name == "ScoreCAM":
            with torch.no_grad():
                model(x)
            found = cam(target)[0]
        else:
            found = cam(target, model(x))[0]
    return torch.nn.functional.interpolate(found.detach()[:, None], x.shape[2:], mode="bilinear")[:, 0].numpy()


def metric_candidates(model: nn.Module, x: Tensor) -> dict[str, Callable[[], Any]]:
    """The deletion curve of 4 images of 192 px in 24 steps, and Quantus' pixel flipping in as many.

    Quantus flips values, three per pixel, in a number of steps that divides the number of pixels: none for 224 px.
    """
    import quantus

    x = x[:1, :, :_FLIPPED_PX, :_FLIPPED_PX]
    images = torch.cat([x, x.flip(-1), x.flip(-2), x.roll(30, -1)])
    maps = torch.rand(4, *x.shape[2:], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        best = model(images).argmax(1)
    flipping = quantus.PixelFlipping(
        features_in_step=x[0].numel() // _FLIPS, perturb_baseline=0.0, abs=False, normalise=False, disable_warnings=True
    )
    wide = maps[:, None].expand(-1, 3, -1, -1).numpy()

    def bare_run(layout: torch.memory_format) -> Any:
        batch = x.expand(10, -1, -1, -1).contiguous(memory_format=layout)
        with torch.no_grad():
            for _ in range(4 * (_FLIPS + 1) // len(batch)):
                model(batch)

    def ours() -> Any:
        return deletion_curve(TargetProbe(model, images, best), maps, steps=_FLIPS).values[:, 1:].numpy()

    return {
        "ours": ours,
        **{name: partial(bare_run, layout) for name, layout in BARE.items()},
        "quantus": lambda: np.asarray(
            flipping(model, images.numpy(), best.numpy(), wide, softmax=True, device="cpu", channel_first=True)
        ),
    }


def fastest(runs: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Seconds of the fastest run of each candidate, alternating, and its result."""
    times = dict.fromkeys(runs, float("inf"))
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(_REST_SECONDS)
            start = time.perf_counter()
            results[name] = run()
            times[name] = min(times[name], time.perf_counter() - start)
    return times, results


def line(method: str, times: dict[str, float], results: dict[str, Any]) -> str:
    """Our time, that of the passes, and that of each library relative to ours, with the correlation of the results."""
    ours, bare_one = times["ours"], min(times[name] for name in BARE)
    text = f"{method:14}{ours:9.4f}{bare_one:9.4f}{ours / bare_one:11.2f}"
    for peer in ("grad-cam", "torchcam", "quantus"):
        if peer not in times:
            text += f"{'–':>18}"
            continue
        pairs = zip(results["ours"], results[peer], strict=True)  # per image: others scale each map separately
        r = np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs])
        text += f"{times[peer] / ours:8.2f} × r {r:5.3f}"
    return text


if __name__ == "__main__":
    main()
