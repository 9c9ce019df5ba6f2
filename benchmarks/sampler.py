"""The sampler compared with other libraries: one run, alternating, medians, only on an idle machine.

    python benchmarks/sampler.py                 # 2 threads; waits for an idle machine, refuses a busy one
    python benchmarks/sampler.py --anyway        # also on a busy machine; every table says so

Deformable convolution: float32, offsets of 1 pixel (standard deviation), 3x3, padding 1, with mask, no bias. Forward is
without gradients; backward is ``torch.autograd.grad`` of all inputs, forward excluded. Libraries that are not installed
are listed and left out.
"""

import argparse
import ctypes
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from attnviz import ops

SHAPES = [(1, 64, 56), (1, 128, 28), (1, 256, 14), (4, 64, 56), (1, 64, 128)]
# At least: times torchvision, grid_sample, ONNX Runtime; at most: GEMM. Then the same backward, without ONNX Runtime.
GOALS = {
    (1, 64, 56): ((15, 3, 2, 1.4), (45, 5, 2.0)),
    (1, 128, 28): ((9, 2, 1.4, 1.5), (28, 3, 2.0)),
    (1, 256, 14): ((4, 1.1, 1.0, 1.7), (14, 1.5, 2.0)),
    (4, 64, 56): ((15, 1.8, 1.8, 1.4), (45, 4, 1.8)),
    (1, 64, 128): ((15, 3, 2, 1.4), (42, 5, 1.8)),
}
ATTENTION_GOALS = {5440: ((25, 4), (14, 4.5)), 300: ((5, 2.3), (5, 2.3))}
GROUPED = [(1, 64, 4, 56), (1, 256, 16, 14), (4, 64, 4, 56), (1, 192, 12, 28)]
GROUPED_GOALS = ((4, 1.5), (4, 2.5))
SLOW_S = 0.15  # contenders that take longer run in fewer rounds
Call = Callable[[], object]
Cells = Callable[[dict[str, float]], list[str]]
Line = tuple[str, dict[str, Call], Cells]


def foreign_cpus(seconds: float, work: Call | None = None) -> float:
    """Number of processors used by other processes, for some time or while ``work`` runs: /proc/stat minus ours."""
    tick = os.sysconf("SC_CLK_TCK")

    def busy() -> float:
        numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return (sum(numbers) - numbers[3] - numbers[4]) / tick - sum(os.times()[:4])

    begin, start = time.perf_counter(), busy()
    if work is None:
        time.sleep(seconds)
    else:
        work()
    return max(0.0, busy() - start) / (time.perf_counter() - begin)


def wait_for_idle(limit_s: float) -> bool:
    """Whether the machine becomes idle in time: other processes use less than a tenth of a processor for 2 s."""
    end = time.monotonic() + limit_s
    while True:
        if foreign_cpus(2) < 0.1:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(2)


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, alternating."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    first = {}
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        first[name] = time.perf_counter() - begin
    for i in range(rounds):
        for name, call in calls.items():
            if first[name] > SLOW_S and i >= 3:
                continue
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}


def grid_sample_conv(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """Without compiled code: one grid_sample per tap, then a matrix product."""
    n, c, h, w = x.shape
    y0, x0 = torch.meshgrid(torch.arange(h) - 1.0, torch.arange(w) - 1.0, indexing="ij")
    columns = []
    for k in range(9):
        ys, xs = y0 + k // 3 + offset[:, 2 * k], x0 + k % 3 + offset[:, 2 * k + 1]
        grid = torch.stack((2 * xs / (w - 1) - 1, 2 * ys / (h - 1) - 1), -1)
        columns.append(functional.grid_sample(x, grid, align_corners=True) * mask[:, k : k + 1])
    flat = torch.stack(columns, 2).reshape(n, c * 9, h * w)
    return (weight.flatten(1) @ flat).reshape(n, -1, h, w)


def onnx_conv(x: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Call:
    """ONNX Runtime's DeformConv on the same tensors."""
    import onnx
    import onnxruntime

    names, tensors = ("x", "w", "offset", "b", "mask"), (x, weight, offset, torch.zeros(weight.shape[0]), mask)
    inputs = [onnx.helper.make_tensor_value_info(n, 1, list(t.shape)) for n, t in zip(names, tensors, strict=True)]
    node = onnx.helper.make_node("DeformConv", names, ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    out = onnx.helper.make_tensor_value_info("y", 1, None)
    graph = onnx.helper.make_graph([node], "dcn", inputs, [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # spinning threads slow down the next one
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {n: t.detach().numpy() for n, t in zip(names, tensors, strict=True)}
    return lambda: session.run(None, feed)


def backward(out: Tensor, leaves: list[Tensor]) -> Call:
    """A backward pass through a precomputed output."""
    grad = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)


def optional(
    name: str,
    build: Callable[[], Callable[..., object]],
    calls: dict[str, Any],
    missing: dict[str, str],
    inputs: Sequence[Tensor] = (),
) -> None:
    """Add a library, or the reason why it is missing."""
    try:
        calls[name] = build()
        calls[name](*inputs)
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way; it is named
        calls.pop(name, None)
        missing[name] = str(error).splitlines()[0] if str(error) else type(error).__name__


def convolution(shape: tuple[int, int, int], missing: dict[str, str]) -> tuple[dict[str, Call], dict[str, Call]]:
    """Contenders forward and backward."""
    n, c, h = shape
    torch.manual_seed(0)
    x, offset, mask = torch.randn(n, c, h, h), torch.randn(n, 18, h, h), torch.rand(n, 9, h, h)
    weight = torch.randn(c, c, 3, 3) / (3 * c**0.5)
    flat, columns, grad = weight.flatten(1), torch.randn(9 * c, n * h * h), torch.randn(c, n * h * h)
    forward: dict[str, Call] = {
        "attnviz": lambda: ops.deform_conv2d(x, offset, weight, padding=1, mask=mask),
        "grid_sample": lambda: grid_sample_conv(x, offset, weight, mask),
        "conv2d": lambda: functional.conv2d(x, weight, padding=1),
        "GEMM": lambda: flat @ columns,
    }

    def torchvision() -> Call:
        from torchvision.ops import deform_conv2d

        return lambda: deform_conv2d(x, offset, weight, padding=1, mask=mask)

    optional("torchvision", torchvision, forward, missing)
    optional("ONNX Runtime", lambda: onnx_conv(x, offset, weight, mask), forward, missing)
    leaves = [t.clone().requires_grad_() for t in (x, offset, weight, mask)]
    x2, offset2, weight2, mask2 = leaves
    outs = {
        "attnviz": ops.deform_conv2d(x2, offset2, weight2, padding=1, mask=mask2),
        "grid_sample": grid_sample_conv(x2, offset2, weight2, mask2),
    }
    if "torchvision" in forward:
        from torchvision.ops import deform_conv2d

        outs["torchvision"] = deform_conv2d(x2, offset2, weight2, padding=1, mask=mask2)
    back = {name: backward(out, leaves) for name, out in outs.items()}
    back["conv2d"] = backward(functional.conv2d(x2, weight2, padding=1), [x2, weight2])
    back["GEMM"] = lambda: (flat.T @ grad, grad @ columns.T)
    return forward, back


def both_ways(
    peers: dict[str, Callable[..., Tensor]], tensors: dict[str, list[Tensor]]
) -> tuple[dict[str, Call], dict[str, Call]]:
    """Contenders forward, without gradients, and backward."""
    forward: dict[str, Call] = {name: (lambda p=peer, t=tensors[name]: p(*t)) for name, peer in peers.items()}
    back = {}
    for name, peer in peers.items():
        leaves = [t.clone().requires_grad_() for t in tensors[name]]
        back[name] = backward(peer(*leaves), leaves)
    return forward, back


def attention(queries: int, missing: dict[str, str]) -> tuple[dict[str, Call], dict[str, Call]]:
    """Multi-scale deformable attention: 8 heads of 32, levels of 64² to 8², 4 points."""
    torch.manual_seed(0)
    sizes = [(64, 64), (32, 32), (16, 16), (8, 8)]
    shapes, starts = torch.tensor(sizes), torch.tensor([0, 4096, 5120, 5376])
    value, at = torch.randn(1, 5440, 8, 32), torch.rand(1, queries, 8, 4, 4, 2)
    weights = torch.rand(1, queries, 8, 16).softmax(-1).reshape(1, queries, 8, 4, 4)
    tensors = [value, at, weights]
    peers: dict[str, Callable[..., Tensor]] = {"attnviz": lambda v, a, w: ops.ms_deform_attn(v, shapes, starts, a, w)}

    def transformers() -> Callable[..., Tensor]:
        from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

        module = MultiScaleDeformableAttention()
        return lambda v, a, w: module(v, shapes, sizes, starts, a, w, 64)

    def compiled() -> Callable[..., Tensor]:
        from torch_ms_deform_attn import ms_deform_attn

        return lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w)

    optional("transformers", transformers, peers, missing, tensors)
    optional("torch-ms-deform-attn", compiled, peers, missing, tensors)
    return both_ways(peers, dict.fromkeys(peers, tensors))


def grouped(shape: tuple[int, int, int, int], missing: dict[str, str]) -> tuple[dict[str, Call], dict[str, Call]]:
    """The form of DCNv3 and v4; the others get the same points in their own layouts."""
    n, c, groups, h = shape
    torch.manual_seed(0)
    x, offset, mask = torch.randn(n, c, h, h), torch.randn(n, groups * 18, h, h), torch.rand(n, groups * 9, h, h)
    value = torch.randn(n, h * h, groups, c // groups)
    at, weights = torch.rand(n, h * h, groups, 1, 9, 2), torch.rand(n, h * h, groups, 1, 9)
    shapes, starts = torch.tensor([[h, h]]), torch.tensor([0])

    def plain(value: Tensor, at: Tensor, weights: Tensor) -> Tensor:
        image = value.permute(0, 2, 3, 1).reshape(n * groups, c // groups, h, h)
        grid = 2 * at[:, :, :, 0].transpose(1, 2).flatten(0, 1) - 1
        samples = functional.grid_sample(image, grid, align_corners=False)
        return (samples * weights[:, :, :, 0].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)

    def compiled() -> Callable[..., Tensor]:
        from torch_ms_deform_attn import ms_deform_attn

        return lambda v, a, w: ms_deform_attn(v, shapes, starts, a, w)

    peers: dict[str, Callable[..., Tensor]] = {
        "attnviz": lambda x, o, m: ops.deform_sample(x, o, m, 3, 1, 1),
        "grid_sample": plain,
    }
    theirs = [value, at, weights]
    optional("torch-ms-deform-attn", compiled, peers, missing, theirs)
    return both_ways(peers, {**dict.fromkeys(peers, theirs), "attnviz": [x, offset, mask]})


def peak_mib(call: Call) -> float:
    """Peak increase of the resident memory of the process during a call (Linux)."""
    call()
    ctypes.CDLL(None).malloc_trim(0)

    def status(key: str) -> int:
        line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith(key))
        return int(line.split()[1])

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return (status("VmHWM") - before) / 1024


def ratio(times: dict[str, float], peer: str, goal: float, *, over: bool = False) -> str:
    """``21.3x (>= 15)``: time of a library relative to ours; with ``over``: ours to its. A missed goal is marked."""
    if peer not in times:
        return f"– (>= {goal:g})"
    value = times["attnviz"] / times[peer] if over else times[peer] / times["attnviz"]
    good = value <= goal if over else value >= goal
    sign = "<=" if over else ">="
    return f"{value:.2f}{'' if over else 'x'} ({sign} {goal:g}){'' if good else ' MISS'}"


class Report:
    """Print Markdown tables, each with the load by other processes."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.missing: dict[str, str] = {}
        self.misses = 0

    def table(self, title: str, head: list[str], lines: list[Line]) -> None:
        """One row per entry: a name, contenders, and the columns of their times."""
        print(f"\n### {title}\n\n| " + " | ".join([*head, "others' CPUs"]) + " |\n|" + "---|" * (len(head) + 1))
        for name, calls, cells in lines:
            times: dict[str, float] = {}
            foreign = foreign_cpus(0, lambda calls=calls, times=times: times.update(medians(calls, self.rounds)))
            row = cells(times)
            self.misses += sum("MISS" in cell for cell in row)
            busy = f"{foreign:.2f}" + (" BUSY" if foreign > 0.2 else "")
            print("| " + " | ".join([name, *row, busy]) + " |", flush=True)

    def convolutions(self) -> None:
        """Forward and backward, every shape."""
        heads = [
            "N, C, H=W",
            "attnviz ms",
            "torchvision",
            "grid_sample",
            "ONNX Runtime",
            "time ÷ GEMM",
            "time ÷ conv2d",
        ]
        built = [(shape, *convolution(shape, self.missing)) for shape in SHAPES]

        def forward(goal: tuple[float, ...]) -> Cells:
            return lambda t: [
                f"{t['attnviz']:.2f}", ratio(t, "torchvision", goal[0]), ratio(t, "grid_sample", goal[1]),
                ratio(t, "ONNX Runtime", goal[2]), ratio(t, "GEMM", goal[3], over=True),
                f"{t['attnviz'] / t['conv2d']:.2f}",
            ]  # fmt: skip

        def back(goal: tuple[float, ...]) -> Cells:
            return lambda t: [
                f"{t['attnviz']:.2f}", ratio(t, "torchvision", goal[0]), ratio(t, "grid_sample", goal[1]),
                ratio(t, "GEMM", goal[2], over=True), f"{t['attnviz'] / t['conv2d']:.2f}",
            ]  # fmt: skip

        rows = [(", ".join(map(str, s)), f, forward(GOALS[s][0])) for s, f, _ in built]
        self.table("Deformable convolution with mask, forward", heads, rows)
        rows = [(", ".join(map(str, s)), b, back(GOALS[s][1])) for s, _, b in built]
        self.table(
            "Deformable convolution with mask, backward",
            [*heads[:4], "time ÷ 2 GEMMs", "time ÷ conv2d's backward"],
            rows,
        )

    def samplers(self) -> None:
        """Attention and grouped sampling, forward and backward."""

        def cells(first: str, goal: tuple[float, float]) -> Cells:
            return lambda t: [
                f"{t['attnviz']:.2f}", ratio(t, first, goal[0]), ratio(t, "torch-ms-deform-attn", goal[1])
            ]  # fmt: skip

        heads = ["attnviz ms", "transformers", "torch-ms-deform-attn"]
        built = [(f"{q} queries", ATTENTION_GOALS[q], attention(q, self.missing)) for q in ATTENTION_GOALS]
        for i, way in enumerate(("forward", "backward")):
            rows = [(name, calls[i], cells("transformers", goals[i])) for name, goals, calls in built]
            self.table(f"Multi-scale deformable attention, {way}", ["", *heads], rows)
        sampled = [(", ".join(map(str, s)), grouped(s, self.missing)) for s in GROUPED]
        for i, way in enumerate(("forward", "backward")):
            rows = [(name, calls[i], cells("grid_sample", GROUPED_GOALS[i])) for name, calls in sampled]
            self.table(f"Grouped sampling, {way}", ["N, C, groups, H=W", heads[0], "grid_sample", heads[2]], rows)

    def memory(self) -> None:
        """Peak memory of the forward pass."""
        print(
            "\n### Peak extra memory forward, MiB\n\n| N, C, H=W | attnviz | allowed | torchvision |\n|---|---|---|---|"
        )
        for n, c, h in [*SHAPES, (8, 64, 128)]:
            forward, _ = convolution((n, c, h), self.missing)
            image = n * c * h * h / 2**18
            allowed = 2 * image + torch.get_num_threads()
            ours = peak_mib(forward["attnviz"])
            theirs = f"{peak_mib(forward['torchvision']):.1f}" if "torchvision" in forward else "–"
            self.misses += ours > allowed
            miss = " MISS" if ours > allowed else ""
            print(f"| {n}, {c}, {h} | {ours:.1f}{miss} | {allowed:.1f} | {theirs} |", flush=True)


def versions() -> str:
    """Versions of the compared libraries."""
    names = ("torch", "torchvision", "onnxruntime", "transformers", "torch-ms-deform-attn")
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} –")
    return ", ".join(found)


def main() -> int:
    """The command line; exit code 1 if the machine is busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15, help="rounds per contender (3 for slow ones)")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for an idle machine")
    parser.add_argument("--anyway", action="store_true", help="also measure on a busy machine, with a note")
    parser.add_argument("--kernel", help="avx512, avx2, portable or reference (default: the best)")
    options = parser.parse_args()
    idle = wait_for_idle(0 if options.anyway else options.wait)
    if not idle and not options.anyway:
        print("others keep this machine busy; try again later, or --anyway", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    with ops.use_kernel(options.kernel or ops.kernels()["cpu"]):
        facts = ops.kernels()
        print(
            f"{platform.processor() or platform.machine()}, {options.threads} threads; {facts['cpu']}, {facts['why']}"
        )
        print(versions() + ("" if idle else "\n\n**MEASURED ON A BUSY MACHINE: worth nothing as a benchmark**"))
        report = Report(options.rounds)
        report.convolutions()
        report.samplers()
        report.memory()
    for name, reason in report.missing.items():
        print(f"\nleft out: {name}: {reason}")
    print(f"\n{report.misses} goals missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
