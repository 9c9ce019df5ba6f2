"""The user's own model on the command line: a file, weights, class names and preprocessing in one command."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from attnviz.cli.main import cli

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3, 2, 1)
        self.gate = nn.Conv2d(4, 1, 1)
        self.head = nn.Linear(4 * 16 * 24, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head((x * torch.sigmoid(self.gate(x))).flatten(1))

def build():
    torch.manual_seed(0)
    return Net()

def bands():
    return nn.Sequential(nn.Conv2d(5, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""
SET = ("--size", "32x48", "--resize", "letterbox", "--mean", "0.5", "--std", "0.25")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "cli_nets.py").write_text(SOURCE)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / name)
    np.save(tmp_path / "bands.npy", random.random((40, 50, 5), np.float32))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("cli_nets", None)


def run(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_explain_takes_everything_in_one_command(folder):
    torch.manual_seed(1)
    state = {
        "stem.weight": torch.randn(4, 1, 3, 3),
        "stem.bias": torch.zeros(4),
        "gate.weight": torch.ones(1, 4, 1, 1),
        "gate.bias": torch.zeros(1),
        "head.weight": torch.randn(2, 1536),
        "head.bias": torch.tensor([0.0, 999.0]),
    }
    torch.save({"state_dict": {f"model.{name}": one for name, one in state.items()}}, "run.pt")
    done = run("explain", "a.png", "--model", "cli_nets.py:build", "--weights", "run.pt", "--labels", "names.txt", *SET,
               "--methods", "saliency", "--out", "out", "--format", "json,html,png")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "guessed" not in done.output
    found = json.loads((folder / "out/explanation.json").read_text())
    assert found["predictions"][0]["label"] == "dog"
    settings = found["settings"]
    assert (settings["labels"], settings["size"], settings["resize"]) == ("names.txt", "32x48", "letterbox")
    assert (settings["mean"], settings["std"], settings["weights"]) == ("0.5", "0.25", "run.pt")
    page = (folder / "out/report.html").read_text()
    assert "--labels names.txt --size 32x48 --resize letterbox --mean 0.5 --std 0.25" in page
    width, height = re.search(r"--ratio: (\d+) / (\d+);", page).groups()
    assert int(width) / int(height) == 1.5
    assert any("from the names in the file" in note for note in found["notes"])


def test_a_guess_is_printed_also_with_quiet(folder):
    options = ("--methods", "saliency", "--out", "out", "--format", "json", "--quiet", "--size", "32x48")
    done = run("explain", "a.png", "--model", "cli_nets.py:build", *options)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert done.stderr.startswith(
        "warning: cli_nets.py:build: guessed mean and std of the input (32 × 48 pixels, 1 channel"
    )
    assert len(done.stderr.splitlines()) == 1


def test_an_array_with_the_channels_of_the_model_is_explained(folder):
    done = run("explain", "bands.npy", "--model", "cli_nets.py:bands", "--size", "32", "--mean", "0,0,0,0,0", "--std",
               "1,1,1,1,1", "--methods", "saliency", "--out", "out", "--format", "json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "takes 5 channels: pictures show the first three" in " ".join(done.output.split())
    done = run("explain", "a.png", "--model", "cli_nets.py:bands", "--size", "32", "--mean", "0,0,0,0,0", "--std",
               "1,1,1,1,1", "--out", "other")  # fmt: skip
    assert done.exit_code == 1
    assert "Error: a.png: has 3 channels, the model takes 5" in done.output


def test_every_command_takes_the_options(folder):
    model = ("--model", "cli_nets.py:build", "--labels", "names.txt", *SET)
    done = run("inspect", "cli_nets.py:build", *SET, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sites"][0]["shape"] == [1, 16, 24]
    done = run(
        "compare", "a.png", "b.png", *model, "--methods", "saliency", "--metrics", "deletion", "--out", "c", "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"]["resize"] == "letterbox"
    done = run("sparsity", "a.png", *model, "--out", "s", "--json", "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"]["size"] == "32x48"
    done = run("report", "a.png", "b.png", *model, "--methods", "saliency", "--out", "r", "--pages", "1", "--json")
    assert done.exit_code == 0, done.output
    plan = json.loads((folder / "r/plan.json").read_text())
    assert plan["settings"]["preprocess"] == {"size": [32, 48], "fit": "letterbox", "mean": [0.5], "std": [0.25]}
    assert run("report", "a.png", "b.png", *model, "--methods", "saliency", "--out", "r").exit_code == 0
    done = run("report", "a.png", "b.png", *model, "--methods", "saliency", "--out", "r", "--std", "0.5")
    assert done.exit_code == 1
    assert "std" in done.output


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--size", "0x3"), "wanted a number of pixels or HEIGHTxWIDTH, got '0x3'"),
        (("--mean", "a,b"), "wanted numbers, comma-separated, got 'a,b'"),
        (("--resize", "stretch"), "'stretch' is not one of 'crop', 'squash', 'letterbox'"),
    ],
)
def test_options_that_cannot_be_read_are_usage_errors(folder, words, match):
    done = run("inspect", "cli_nets.py:build", *words)
    assert done.exit_code == 2
    assert match in done.output
