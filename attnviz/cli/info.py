"""``attnviz info``: what is installed, available devices, and native kernels."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

PACKAGES = ("torch", "captum", "opencv-python", "av", "numpy", "scipy", "scikit-learn", "seaborn", "pillow",
            "timm", "torchvision", "transformers")  # fmt: skip


@click.command(short_help="Show versions, devices and live kernels.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--self-test", is_flag=True, help="Also run each kernel against its reference.")
def command(*, as_json: bool, self_test: bool) -> None:
    """Show versions, devices and live kernels."""
    facts = collect(self_test=self_test)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for title, rows in facts.items():
        click.secho(title, bold=True)
        for key, value in rows.items():
            click.echo(f"  {key:<{max(map(len, rows))}}  {value}")


def collect(*, self_test: bool = False) -> dict[str, dict[str, Any]]:
    """The facts, by title."""
    from attnviz import __version__, ops

    facts: dict[str, dict[str, Any]] = {
        "versions": {
            "attnviz": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            **{package: _installed(package) for package in PACKAGES},
        },
        "devices": _devices(),
        "kernels": dict(ops.kernels()),
    }
    if self_test:
        facts["self-test"] = {
            check.name: f"{'passed' if check.passed else 'FAILED'}, error {check.error:.0e}"
            for check in ops.self_test()
        }
    return facts


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu": f"{platform.machine()}, {torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, sm_{facts.major}{facts.minor}"
    devices["mps"] = "yes" if torch.backends.mps.is_available() else "not there"
    if "cuda:0" not in devices:
        devices["cuda"] = "not there"
    return devices
