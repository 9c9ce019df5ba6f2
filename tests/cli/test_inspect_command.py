"""``attnviz inspect``: every site with its position in the code and its checks."""

import json

import networks
import pytest
from torch import nn


class Small(nn.Module):
    """A classifier with two gates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, networks.C, 9, stride=9)
        self.cbam = networks.build("cbam")
        self.head = nn.Linear(networks.C, 1000)

    def forward(self, x):
        return self.head(self.cbam(self.stem(x)).mean((2, 3)))


def small() -> nn.Module:
    return Small().eval()


@pytest.fixture
def run(invoke_cli):
    return lambda *arguments: invoke_cli(("inspect", *arguments))


def test_the_sites_are_listed_with_kind_shape_and_line(run):
    result = run(f"{__name__}:small", "--weights", "none")
    assert result.exit_code == 0, result.output
    assert "cbam#1" in result.output
    assert "1 × 24 × 24" in result.output
    assert "networks.py:" in result.output


def test_verify_checks_every_site_and_json_has_the_numbers(run):
    result = run(f"{__name__}:small", "--weights", "none", "--verify", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [(s["site"], s["kind"], s["shape"]) for s in facts["sites"]] == [
        ("cbam", "channel", [1, 8]), ("cbam#1", "spatial", [1, 24, 24])
    ]  # fmt: skip
    assert all(s["holds"] and s["effect"] == pytest.approx(0.5, abs=1e-4) for s in facts["sites"])
    assert facts["unclaimed"] == []
    assert facts["sites"][1]["bytes"] == dict.fromkeys(("full", "rows", "summary"), 4 * 24 * 24 * (1 + 8 + 8))
    assert facts["bytes"]["full"] == sum(s["bytes"]["full"] for s in facts["sites"])


def test_without_verify_the_memory_of_records_is_printed_and_nothing_is_verified(run):
    result = run(f"{__name__}:small", "--weights", "none")
    assert "records of one image hold about: full 74.3 KiB, rows 74.3 KiB, summary 74.3 KiB" in result.output
    assert "proven" not in result.output


def test_a_photograph_can_be_inspected_with(run):
    result = run(f"{__name__}:small", "--weights", "none", "--image", "sample_data/coffee.png", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["sites"]) == 2


def test_a_model_without_attention_is_reported(run):
    result = run("none", "--weights", "none")
    assert result.exit_code == 0, result.output
    assert "none has no attention site." in result.output


def test_an_unknown_model_is_one_line_with_a_suggestion(run):
    result = run("cbbam")
    assert result.exit_code == 1
    assert "unknown model 'cbbam': did you mean cbam?" in result.stderr
