"""Cost of a batch report: relative to the passes that it needs, in memory, for more images, and on Ray.

    python benchmarks/batch.py [--parts speed,memory,ray] [--model cbam] [--methods gradcam,layercam,saliency]
        [--turns 5] [--images 1000] [--ray-images 1000] [--threads N] [--workers 2]

**speed**: images per second of the local engine, from files to Parquet, relative to the bound: the same batches of the
same images, already decoded and normalised, in the forward and backward passes of the plain model that attention and
the methods need. Both sides alternate on one shard; the result is the median over turns of the ratio within a turn.
The parameters of the bound are frozen and its images are channels-last, which is fastest.

**memory**: peak memory of a process (``ru_maxrss``) for ``--images`` relative to 100 images; for the run
without its page, and with it. Also whether time grows linearly: seconds per image in the last and the first quarter.

**ray**: the whole command with ``--engine ray`` on the local machine relative to the local engine, each in a new
process, including the start of Ray.

Images are shifted, mirrored and darkened copies of the sample photographs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FEW = 100


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="speed,memory,ray")
    parser.add_argument("--model", default="cbam")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--methods", default="gradcam,layercam,saliency")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--shard", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--ray-images", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts.split(","):
            PARTS[part](options, Path(folder))


def photographs(folder: Path, count: int) -> Path:
    """A folder with ``count`` different JPEG files."""
    target = folder / f"photos-{count}"
    target.mkdir(exist_ok=True)
    samples = [Image.open(path).convert("RGB") for path in sorted((ROOT / "sample_data").glob("*.[jp][pn]g"))]
    draw = np.random.default_rng(0)
    for n in range(count):
        one = samples[n % len(samples)]
        left, top = (int(draw.integers(0, side // 5)) for side in one.size)
        part = one.crop((left, top, one.width - int(draw.integers(0, 40)), one.height - int(draw.integers(0, 40))))
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.integers(2) else part
        part.point([round(v * float(draw.uniform(0.6, 1.0))) for v in range(256)] * 3).save(
            target / f"{n:06d}.jpg", quality=90
        )
    return target


def speed(options: argparse.Namespace, folder: Path) -> None:
    """The local engine relative to the bound, alternating shard by shard."""
    import torch

    from attnviz.attribution.registry import passes_at_once
    from attnviz.batch.local_engine import run_locally
    from attnviz.batch.plan import RunOptions, plan_of
    from attnviz.batch.shard import prepare_models
    from attnviz.batch.store import Store
    from attnviz.media.image_listing import list_images
    from attnviz.media.images import load_images

    torch.set_num_threads(options.threads or torch.get_num_threads())
    methods = tuple(options.methods.split(","))
    asked = RunOptions(
        (options.model,), methods, weights=options.weights, batch=options.batch, shard_size=options.shard
    )
    listing = list_images([str(photographs(folder, options.shard))])
    plan, store = plan_of(asked, ["photos"], listing), Store(str(folder / "speed"))
    prepared_models = prepare_models(asked, "cpu")
    vision = prepared_models[0].vision
    x = load_images([item.path for item in listing.items], vision.preprocess).x
    passes = bare(vision.module, methods, prepared_models[0].method_options, passes_at_once(x))

    def bound() -> None:
        for part in x.split(options.batch):
            for one in passes:
                one(part)

    def ours() -> None:
        run_locally(store, plan, listing.items, [0], prepared_models, options.workers, lambda _images: None)

    sides: dict[str, list[float]] = {"bound": [], "ours": []}
    for turn in range(options.turns + 1):
        for name, side in (("bound", bound), ("ours", ours)):
            start = time.perf_counter()
            side()
            if turn:  # the first turn is a warm-up
                sides[name].append(time.perf_counter() - start)
    shares = sorted(a / b for a, b in zip(sides["bound"], sides["ours"], strict=True))
    rates = {name: options.shard / statistics.median(seconds) for name, seconds in sides.items()}
    print(f"speed: {options.model}, {options.methods}, {torch.get_num_threads()} threads, batches of {options.batch}")
    print(f"  bare passes {rates['bound']:.2f} images/s, report {rates['ours']:.2f} images/s")
    print(f"  share of the bound {statistics.median(shares):.2f}   ({shares[0]:.2f}, {shares[-1]:.2f})", flush=True)


def bare(model: object, methods: Sequence[str], method_options: dict, at_once: int) -> list[Callable[[object], None]]:
    """The passes that attention and methods need."""
    import torch

    for parameter in model.parameters():
        parameter.requires_grad = False

    def forward(x: torch.Tensor) -> None:
        with torch.no_grad():
            model(x.contiguous(memory_format=torch.channels_last))

    def score(images: torch.Tensor) -> torch.Tensor:
        output = model(images)
        logits = getattr(output, "logits", output)
        return logits.amax(1).sum()

    def gradient(x: torch.Tensor) -> None:
        for part in x.split(at_once):
            images = part.contiguous(memory_format=torch.channels_last).requires_grad_()
            torch.autograd.grad(score(images), images)

    def of_layer(path: str, *, backward: bool) -> Callable[[torch.Tensor], None]:
        def run(x: torch.Tensor) -> None:
            seen = []

            def cut(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
                seen.append(output.detach().requires_grad_(backward))
                return seen[-1].clone() if backward else output

            handle = model.get_submodule(path).register_forward_hook(cut)
            for part in x.split(at_once):
                with torch.set_grad_enabled(backward):
                    value = score(part.contiguous(memory_format=torch.channels_last))
                if backward:
                    torch.autograd.grad(value, seen[-1])
            handle.remove()

        return run

    def times(count: int) -> Callable[[torch.Tensor], None]:
        def run(x: torch.Tensor) -> None:
            for _ in range(count):
                gradient(x)

        return run

    known = {
        "saliency": gradient, "input_x_gradient": gradient, "guided_backprop": gradient, "deconvolution": gradient,
        "integrated_gradients": times(16), "smoothgrad": times(12), "vargrad": times(12), "gradient_shap": times(16),
    }  # fmt: skip
    for name in ("gradcam", "gradcam++", "hirescam", "xgradcam", "layercam", "eigencam"):
        if name in method_options:
            known[name] = of_layer(method_options[name]["layer"].path, backward=name != "eigencam")
    unknown = [name for name in methods if name not in known]
    if unknown:
        raise SystemExit(f"no bare passes are known of {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return [forward, *(known[name] for name in methods)]


def process(options: argparse.Namespace, photos: Path, out: Path, engine: str) -> dict[str, float]:
    """Seconds and peak memory of a whole report in its own process."""
    words = [
        sys.executable, __file__, "--child", json.dumps([str(photos), str(out), engine]), "--model", options.model,
        "--weights", options.weights, "--methods", options.methods, "--batch", str(options.batch),
        "--shard", str(options.shard), "--workers", str(options.workers),
        *(["--threads", str(options.threads)] if options.threads else []),
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - start}


def child(options: argparse.Namespace) -> None:
    """The entry point of the process that :func:`process` starts."""
    import resource

    import torch

    from attnviz.batch import RunOptions, run
    from attnviz.batch.summary import summarise

    torch.set_num_threads(options.threads or torch.get_num_threads())
    photos, out, engine = json.loads(options.child)
    methods = tuple(options.methods.split(","))
    asked = RunOptions(
        (options.model,), methods, weights=options.weights, batch=options.batch, shard_size=options.shard
    )
    works = None
    if engine == "ray":
        from attnviz.batch.ray_engine import Cluster, RayEngine

        works = RayEngine(Cluster(cpus=options.threads), "cpu", options.workers)

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcome = run([photos], out, asked, device="cpu", workers=options.workers, engine=works)
    found = {"run_kib": peak()}
    summarise(outcome.store, [options.model])
    if engine == "page":
        from attnviz.report import dataset

        dataset.write(out)
    print(json.dumps({**found, "whole_kib": peak()}))


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Peak memory for many images relative to few, and seconds per image at the end relative to the beginning."""
    found = {}
    for count in (FEW, options.images):
        photos = photographs(folder, count)
        found[count] = process(options, photos, folder / f"memory-{count}", "page")
    few, many = found[FEW], found[options.images]
    print(f"memory: {options.model}, {options.methods}, {options.images} images relative to {FEW}")
    for name, title in (("run_kib", "the run"), ("whole_kib", "with its page")):
        ratio = many[name] / few[name]
        print(f"  {title}: {many[name] / 1024:.0f} MiB and {few[name] / 1024:.0f} MiB, ratio {ratio:.3f}")
    log = (folder / f"memory-{options.images}" / "log.jsonl").read_text().splitlines()
    shards = [json.loads(line) for line in log if '"event": "shard"' in line]
    each = [one["seconds"] / one["images"] for one in sorted(shards, key=lambda one: one["shard"])]
    quarter = max(1, len(each) // 4)
    first, last = statistics.mean(each[:quarter]), statistics.mean(each[-quarter:])
    print(f"  seconds per image: {last:.4f} in the last quarter and {first:.4f} in the first, ratio {last / first:.3f}")
    few_s, many_s = few["seconds"] / FEW, many["seconds"] / options.images
    print(f"  with start and page: {many_s:.4f} s per image of {options.images} and {few_s:.4f} of {FEW}", flush=True)


def ray(options: argparse.Namespace, folder: Path) -> None:
    """The Ray engine relative to the local one."""
    photos = photographs(folder, options.ray_images)
    found = {name: process(options, photos, folder / f"engine-{name}", name) for name in ("local", "ray")}
    one, other = (found[name]["seconds"] for name in ("local", "ray"))
    same = all(
        (folder / "engine-ray" / path.relative_to(folder / "engine-local")).read_bytes() == path.read_bytes()
        for path in itertools.islice((folder / "engine-local").rglob("*.parquet"), 10_000)
    )
    print(f"ray: {options.model}, {options.methods}, {options.ray_images} images, on the local machine")
    print(f"  {other:.1f} s, local engine {one:.1f} s, ratio {other / one:.3f}; same files: {same}", flush=True)


PARTS = {"speed": speed, "memory": memory, "ray": ray}

if __name__ == "__main__":
    main()
