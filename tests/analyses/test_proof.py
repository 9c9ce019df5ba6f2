"""Every site is proven three ways, and a wrong one fails."""

import contextlib
import dataclasses

import networks
import pytest
from torch import nn

from attnviz.analyses import verification
from attnviz.analyses.verification import prove
from attnviz.core.records import Kind, Record
from attnviz.tracing import find_attention


@pytest.mark.parametrize("name", ["se", "cbam", "se-in-place", "coordinate", "focal-modulation"])
def test_every_site_rebuilds_reinjects_and_matters(name):
    model, x = networks.build(name), networks.images()
    sites = find_attention(model, x)
    proofs = prove(model, sites, x)
    assert [proof.site for proof in proofs] == list(sites)
    for proof in proofs:
        assert proof.holds()
        assert proof.effect == pytest.approx(0.5, abs=1e-6)


def test_a_shared_module_is_proven_over_all_its_calls():
    se = networks.build("se")
    model, x = nn.Sequential(se, nn.ReLU(), se), networks.images()
    (proof,) = prove(model, find_attention(model, x), x)
    assert proof.holds()
    assert proof.shape == (2, 8)
    assert proof.size_bytes == 64


def test_a_site_of_the_wrong_kind_is_not_proven():
    model, x = networks.build("se"), networks.images()
    (site,) = find_attention(model, x)
    use = dataclasses.replace(site.use, kind=Kind.SPATIAL)
    (proof,) = prove(model, [dataclasses.replace(site, kind=Kind.SPATIAL, use=use)], x)
    assert proof.reconstruction > 0.01
    assert proof.reinjection > 0.01
    assert not proof.holds()


def _without_injection(monkeypatch):
    monkeypatch.setattr(verification, "intervene", lambda *_args: contextlib.nullcontext())


def _with_another_g(monkeypatch):
    monkeypatch.setattr(verification, "swap", lambda *_records: lambda g: g + 0.1)


def _with_another_f(monkeypatch):
    monkeypatch.setattr(Record, "reconstruct", lambda record: record.y + 0.1)


@pytest.mark.parametrize(
    ("broken", "proof_that_fails"),
    [(_without_injection, "effect"), (_with_another_g, "reinjection"), (_with_another_f, "reconstruction")],
)
@pytest.mark.parametrize("name", ["se", "cbam"])
def test_each_proof_can_fail(monkeypatch, name, broken, proof_that_fails):
    model, x = networks.build(name), networks.images()
    sites = find_attention(model, x)
    broken(monkeypatch)
    for proof in prove(model, sites, x):
        assert not proof.holds()
        failed = {
            "effect": proof.effect <= 1e-5,
            "reinjection": proof.reinjection > 1e-5,
            "reconstruction": proof.reconstruction > 1e-5,
        }
        assert [key for key, has_failed in failed.items() if has_failed] == [proof_that_fails]
