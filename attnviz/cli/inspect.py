"""``attnviz inspect``: the attention sites of a model, and the proof that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attnviz.cli.options import Loading, running

if TYPE_CHECKING:
    from attnviz.analyses.verification import Proof
    from attnviz.core.records import Site
    from attnviz.tracing import Sites


@click.command(short_help="List a model's attention sites.")
@click.argument("model")
@click.option("--image", type=click.Path(path_type=Path), help="Run on this photograph.  [default: noise]")
@click.option("--verify", is_flag=True, help="Reconstruct y, re-inject g, and inject another g, at every site.")
@running
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, image: Path | None, loading: Loading, *, verify: bool, as_json: bool) -> None:
    """List a model's attention sites: where, what kind, the shape and size of g, and the line that applies it.

    \b
    attnviz inspect cbam --verify
    attnviz inspect timm:vit_tiny_patch16_224 --weights none --json
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    import torch

    from attnviz.analyses.verification import prove
    from attnviz.media.images import load_images
    from attnviz.recording import capture
    from attnviz.tracing import find_attention

    vision = loading.load(model)
    at = next((p.device for p in vision.module.parameters()), torch.device("cpu"))
    if image is None:
        shape = (1, vision.preprocess.channels, *vision.preprocess.size)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(loading.seed)).to(at)
    else:
        x = load_images(image, vision.preprocess).x.to(at)
    sites = find_attention(vision.module, x)
    with torch.no_grad(), capture(vision.module, sites, keep="auto") as captured:
        vision.module(x)
    records = {record.site: record for record in reversed(captured.records)}
    shapes = {site: records[site].shape for site in sites if site in records}
    proofs = prove(vision.module, sites, x) if verify else []
    if as_json:
        click.echo(json.dumps(_facts(model, sites, shapes, proofs), indent=2))
    else:
        _show(model, sites, shapes, proofs)
    if not all(proof.holds() for proof in proofs):
        raise click.exceptions.Exit(1)


def _facts(model: str, sites: Sites, shapes: Mapping[Site, tuple[int, ...]], proofs: Sequence[Proof]) -> dict[str, Any]:
    rows = []
    proven = {proof.site: proof for proof in proofs}
    for site, shape in shapes.items():
        row: dict[str, Any] = {
            "site": site.name, "module": site.module, "kind": site.kind.value, "type": site.type_name,
            "operation": site.operation, "squash": site.squash, "implied": site.implied,
            "shape": list(shape), "bytes": dict(site.size_bytes),
            "source": site.source,
        }  # fmt: skip
        if proof := proven.get(site):
            row |= {
                "reconstruction": proof.reconstruction, "reinjection": proof.reinjection, "effect": proof.effect,
                "holds": proof.holds(),
            }  # fmt: skip
        rows.append(row)
    from attnviz.core.memory_budget import KEEPS

    total = {keep: sites.total_bytes(keep) for keep in KEEPS}
    return {"model": model, "sites": rows, "bytes": total, "unclaimed": [str(one) for one in sites.unclaimed]}


def _show(model: str, sites: Sites, shapes: Mapping[Site, tuple[int, ...]], proofs: Sequence[Proof]) -> None:
    from rich.text import Text

    from attnviz.cli.terminal import console_of, table_of
    from attnviz.core.memory_budget import KEEPS, in_words

    console, table = console_of(160), table_of()
    headings = ["site", "kind", "module", "g", "record", "bounded by"]
    for heading in [*headings, *(["rebuilt", "put back", "halved", ""] if proofs else ["applied at"])]:
        table.add_column(heading, overflow="fold")
    proven = {proof.site: proof for proof in proofs}
    for site, shape in shapes.items():
        row = [
            site.name, site.kind.value, site.type_name, " × ".join(map(str, shape)),
            in_words(site.size_bytes["full"]), "implied" if site.implied else site.squash or "–",
        ]  # fmt: skip
        if proof := proven.get(site):
            numbers = (proof.reconstruction, proof.reinjection, proof.effect)
            row += [*(f"{number:.0e}" for number in numbers), "proven" if proof.holds() else "NOT PROVEN"]
        else:
            row.append(site.source)
        table.add_row(*map(Text, row))
    console.print(table if shapes else f"{model} has no attention site.")
    if shapes:
        sizes = ", ".join(f"{keep} {in_words(sites.total_bytes(keep))}" for keep in KEEPS)
        console.print(f"records of one image hold about: {sizes}", style="dim")
    if proofs:
        console.print(
            "rebuilt: error of f(g, x); put back: the output's change with the captured g; halved: y's with g/2",
            style="dim",
        )
    for one in sites.unclaimed:
        console.print(Text(f"not captured: {one}", style="yellow"))
