"""Compiles the Triton kernels ahead of time for GPUs that are not here, and prints what each needs.

python compile_triton.py [ARCH ...], an arch being 75, 80, 86, 89, 90, 100, 120 or gfx942. One line for each kernel:
name, arch, registers, bytes spilled, bytes of shared memory; a dash where the compiler does not say.
"""

import inspect
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from attnviz.ops import gpu, triton_kernels

ARCHS = ("75", "80", "86", "89", "90", "100", "120", "gfx942")
POINTERS = {"images", "offset", "mask", "out", "grad", "images_grad", "offset_grad", "mask_grad"}
POINTERS |= {"value", "location", "weight", "value_grad", "location_grad", "weight_grad"}
LONG_POINTERS = {"shapes", "starts"}
CONSTANTS = {"HAS_MASK": True, "SUM": False, "POSITIONS": gpu.POSITIONS, "CHANNELS": gpu.CHANNELS}
CONSTANTS |= {"QUERIES": gpu.QUERIES, "DEPTH": gpu.DEPTH}
KERNELS = ("window_gather", "window_scatter", "attention_gather", "attention_scatter")


def source(name: str, kernel: Any) -> ASTSource:
    types, constants = {}, {}
    for argument in kernel.arg_names:
        if argument in CONSTANTS:
            types[argument], constants[argument] = "constexpr", CONSTANTS[argument]
            if (name, argument) == ("window_scatter", "POSITIONS"):
                constants[argument] = gpu.SCATTER_POSITIONS
        else:
            types[argument] = "*fp32" if argument in POINTERS else "*i64" if argument in LONG_POINTERS else "i32"
    return ASTSource(kernel, types, constants)


def ptxas(arch: int) -> str:
    """The assembler that Triton uses for an architecture; PyTorch 2.9's Triton has only one."""
    return (get_ptxas(arch) if inspect.signature(get_ptxas).parameters else get_ptxas()).path


def resources(ptx: str, arch: int) -> tuple[str, str]:
    """Registers and spilled bytes, from the assembler's own report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        target = re.search(r"^\.target (\S+)", ptx, re.MULTILINE)[1].split(",")[0]
        command = [ptxas(arch), "-v", f"--gpu-name={target}", str(path), "-o", f"{folder}/kernel.cubin"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stderr  # noqa: S603 - Triton's own assembler
    spills = sum(int(n) for n in re.findall(r"(\d+) bytes spill", text))
    return re.search(r"Used (\d+) registers", text)[1], str(spills)


def rows(archs: list[str]) -> Iterator[tuple[str, str, str, str, str]]:
    for arch in archs:
        target = GPUTarget("hip", arch, 64) if arch.startswith("gfx") else GPUTarget("cuda", int(arch), 32)
        for name in KERNELS:
            kernel = triton.compile(source(name, getattr(triton_kernels, name)), target=target)
            if target.backend == "cuda":
                registers, spills = resources(kernel.asm["ptx"], target.arch)
            else:
                assembly = kernel.asm["amdgcn"]
                registers = re.search(r"\.vgpr_count:\s+(\d+)", assembly)[1]
                spills = re.search(r"\.vgpr_spill_count:\s+(\d+)", assembly)[1]
            yield name, arch, registers, spills, str(kernel.metadata.shared)


if __name__ == "__main__":
    print(f"{'kernel':20} {'arch':8} registers spilled shared")  # noqa: T201 - a report
    for name, arch, registers, spills, shared in rows(sys.argv[1:] or list(ARCHS)):
        print(f"{name:20} {arch:8} {registers:>9} {spills:>7} {shared:>6}", flush=True)  # noqa: T201 - a report
