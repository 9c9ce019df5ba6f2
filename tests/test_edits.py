"""Each edit changes g by its formula, for every kind."""

import pickle

import networks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from attnviz import capture, edits, find_attention, intervene
from attnviz.core.records import Kind, Record, Site
from attnviz.errors import CaptureError
from attnviz.tracing import Gate

SHAPES = {
    Kind.CHANNEL: (2, 6),
    Kind.SPATIAL: (2, 3, 4),
    Kind.DENSE: (2, 3, 2, 4),
    Kind.BRANCH: (2, 3, 4),
    Kind.TEMPORAL: (2, 5),
    Kind.PAIRWISE: (2, 3, 4, 5),
    Kind.POOLING: (2, 3, 6),
    Kind.SAMPLING: (2, 3, 4, 5, 2),
}


def site_of(kind: Kind, name: str = "se") -> Site:
    return Site(name, 0, kind, "mul", 0, Gate(kind, 1, 1))


def applied(edit, g, kind=Kind.CHANNEL, *, call=0, x=None, name="se"):
    at = getattr(edit, "at", None)
    return (at(edits.Moment(site_of(kind, name), call, g if x is None else x)) if at else edit)(g)


def random_g(kind: Kind, seed: int = 0) -> torch.Tensor:
    return torch.rand(SHAPES[kind], generator=torch.Generator().manual_seed(seed))


def record_of(g, name="se", kind=Kind.CHANNEL):
    return Record(site_of(kind, name), 0, g, g, g)


EVERY = {
    "zero": edits.zero,
    "scale": edits.scale(0.5),
    "keep_top": edits.keep_top(0.3),
    "drop_top": edits.drop_top(0.3),
    "keep_random": edits.keep_random(0.3, torch.Generator().manual_seed(0)),
    "shuffle": edits.shuffle(torch.Generator().manual_seed(0)),
    "uniform": edits.uniform,
}


@pytest.mark.parametrize(
    ("name", "kind"), [(n, k) for n in EVERY for k in Kind if (n, k) != ("uniform", Kind.SAMPLING)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_every_edit_keeps_shape_and_dtype_and_leaves_its_operand_alone(name, kind, dtype):
    g = random_g(kind).to(dtype)
    before = g.clone()
    new = applied(EVERY[name], g, kind)
    assert (new.shape, new.dtype) == (g.shape, dtype)
    assert torch.equal(g, before)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.SAMPLING])
def test_uniform_of_a_softmax_is_one_over_the_number_that_compete(kind):
    axes = {Kind.SPATIAL: (1, 2), Kind.DENSE: (1, 2, 3), Kind.PAIRWISE: (3,), Kind.POOLING: (2,)}.get(kind, (1,))
    g = random_g(kind).exp()
    g = g / g.sum(axes, keepdim=True)
    count = torch.Size(g.shape[a] for a in axes).numel()
    assert torch.allclose(applied(edits.uniform, g, kind), torch.full_like(g, 1 / count))


def test_uniform_of_a_gate_is_the_mean_of_its_image():
    g = torch.tensor([[0.0, 1.0, 0.5], [0.2, 0.2, 0.8]])
    assert torch.allclose(applied(edits.uniform, g), torch.tensor([[0.5] * 3, [0.4] * 3]))


def test_uniform_of_sampling_points_is_an_error_with_a_reason():
    with pytest.raises(CaptureError, match="se: uniform is defined for weights, and sampling points are positions"):
        applied(edits.uniform, random_g(Kind.SAMPLING), Kind.SAMPLING)


def test_identity_is_one_for_gates_and_the_unit_matrix_for_square_maps():
    for kind in (Kind.CHANNEL, Kind.SPATIAL, Kind.DENSE):
        assert torch.equal(applied(edits.identity, random_g(kind), kind), torch.ones(SHAPES[kind]))
    for kind in (Kind.PAIRWISE, Kind.TEMPORAL):
        new = applied(edits.identity, torch.rand(2, 3, 4, 4), kind)
        assert torch.equal(new[1, 2], torch.eye(4))


def test_identity_of_a_sampled_map_is_every_pixel_itself():
    g, x = torch.rand(2, 1, 3, 4, 2), torch.rand(2, 5, 3, 4)
    new = applied(edits.identity, g, Kind.SAMPLING, x=x)
    assert new[1, 0, 2, 3].tolist() == [3, 2]
    assert new[0, 0, 0, 1].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (Kind.PAIRWISE, "(2, 3, 4, 5)"),
        (Kind.POOLING, "(2, 3, 6)"),
        (Kind.BRANCH, "(2, 3, 4)"),
        (Kind.TEMPORAL, "(2, 5)"),
        (Kind.SAMPLING, "(2, 3, 4, 5, 2)"),
    ],
)
def test_identity_where_there_is_none_is_an_error(kind, shape):
    message = rf"se: no {kind.value} g of shape {shape} leaves x as it is".replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(CaptureError, match=message):
        applied(edits.identity, random_g(kind), kind, x=torch.ones(2, 1, 6, 6))


values = st.sampled_from([-2, -1, 0, 0.5, 1, 3])
shapes = hnp.array_shapes(min_dims=2, max_dims=4, max_side=4)
maps = hnp.arrays("float64", shapes, elements=values).map(torch.from_numpy)


@settings(deadline=None)
@given(g=maps, p=st.floats(0, 1))
def test_what_is_kept_and_what_is_dropped_make_up_the_whole(g, p):
    kept, dropped = edits.keep_top(p)(g), edits.drop_top(p)(g)
    assert torch.equal(kept + dropped, g)
    assert bool(((kept == 0) | (dropped == 0)).all())


@settings(deadline=None)
@given(g=maps, p=st.floats(0, 1))
def test_the_top_is_what_a_stable_sort_puts_first_in_each_sample(g, p):
    kept = edits.keep_top(p)(g)
    for sample, mine in zip(g.flatten(1).tolist(), kept.flatten(1).tolist(), strict=True):
        order = sorted(range(len(sample)), key=lambda i: -abs(sample[i]))
        chosen = set(order[: round(p * len(sample))])
        assert mine == [value if i in chosen else 0 for i, value in enumerate(sample)]


@settings(deadline=None)
@given(g=maps, seed=st.integers(0, 9))
def test_the_ends_of_the_curve_are_the_plain_g_and_zero(g, seed):
    random = (edits.keep_random(p, torch.Generator().manual_seed(seed)) for p in (0, 1))
    for nothing, everything in ((edits.keep_top(0), edits.keep_top(1)), (edits.drop_top(1), edits.drop_top(0)), random):
        assert torch.equal(nothing(g), edits.zero(g))
        assert everything(g) is g


@settings(deadline=None)
@given(g=maps, p=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_random_share_has_the_right_size_and_its_generator_decides(g, p, seed):
    one, other = (edits.keep_random(p, torch.Generator().manual_seed(seed))(g + 10) for _ in range(2))
    assert torch.equal(one, other)
    kept = one.flatten(1).count_nonzero(1)
    assert kept.tolist() == [round(p * g[0].numel())] * len(g)


@pytest.mark.parametrize("edit", [edits.keep_top, edits.drop_top, edits.keep_random])
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_an_error(edit, p):
    with pytest.raises(ValueError, match=rf"wanted a share in \[0, 1\], got {p}"):
        edit(p)


@pytest.mark.parametrize("kind", list(Kind))
def test_shuffling_permutes_what_competes_and_nothing_else(kind):
    g = torch.arange(torch.Size(SHAPES[kind]).numel(), dtype=torch.float64).view(SHAPES[kind])
    new = applied(edits.shuffle(torch.Generator().manual_seed(1)), g, kind)
    assert not torch.equal(new, g)
    rows = {
        Kind.BRANCH: lambda t: t.transpose(1, 2).flatten(0, 1),
        Kind.PAIRWISE: lambda t: t.flatten(0, 2),
        Kind.POOLING: lambda t: t.flatten(0, 1),
        Kind.SAMPLING: lambda t: t.flatten(1, 3)[..., 0],
    }.get(kind, lambda t: t.flatten(1))
    assert torch.equal(rows(new).sort(-1).values, rows(g).sort(-1).values)
    moves = rows(new) - rows(g)
    assert not torch.equal(moves[0], moves[1])


def test_shuffling_moves_sampling_points_as_a_whole():
    g = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5, 1).repeat(1, 1, 1, 1, 2).double()
    g[..., 1] += 1000
    new = applied(edits.shuffle(torch.Generator().manual_seed(1)), g, Kind.SAMPLING)
    assert torch.equal(new[..., 1], new[..., 0] + 1000)


def test_shuffles_differ_from_call_to_call_and_repeat_with_the_seed():
    g = random_g(Kind.CHANNEL)
    one, other = (edits.shuffle(torch.Generator().manual_seed(3)) for _ in range(2))
    first, second = applied(one, g), applied(one, g)
    assert not torch.equal(first, second)
    assert torch.equal(applied(other, g), first)


def test_the_mean_is_taken_over_every_sample_of_every_record():
    records = [record_of(torch.tensor([[1.0, 0.0], [2.0, 0.0]])), record_of(torch.tensor([[6.0, 3.0]]))]
    edit = edits.mean(iter(records))
    assert applied(edit, torch.zeros(2, 2)).tolist() == [[3, 1], [3, 1]]
    assert applied(edit, torch.zeros(1, 2, dtype=torch.float16)).dtype == torch.float16


def test_the_mean_of_half_precision_maps_does_not_overflow():
    edit = edits.mean([record_of(torch.full((4000, 2), 100.0, dtype=torch.float16))])
    assert applied(edit, torch.zeros(1, 2)).tolist() == [[100, 100]]


def test_a_mean_of_nothing_of_mixed_shapes_or_of_other_sites_is_an_error():
    with pytest.raises(CaptureError, match="a mean needs records, got none"):
        edits.mean([])
    with pytest.raises(CaptureError, match=r"se: a mean needs maps of one shape, got \(2,\) and \(3,\)"):
        edits.mean([record_of(torch.ones(1, 2)), record_of(torch.ones(1, 3))])
    with pytest.raises(CaptureError, match=r"other: no mean is known for this site, only for se"):
        applied(edits.mean([record_of(torch.ones(1, 2))]), torch.ones(1, 2), name="other")


@pytest.mark.parametrize("form", ["tensor", "tuple", "mapping"])
def test_the_mean_over_batches_is_that_of_one_large_batch(form):
    model, x = nn.Sequential(networks.build("cbam")), networks.images(5)
    wrap = {"tensor": lambda b: b, "tuple": lambda b: (b,), "mapping": lambda b: {"input": b}}[form]
    with capture(model) as captured:
        model(x)
    model.train()
    edit = edits.mean_over(model, (wrap(batch) for batch in x.split(2)))
    assert model.training
    assert torch.is_grad_enabled()
    for record in captured.records:
        assert torch.allclose(edit.values[record.site.name], record.g.mean(0, keepdim=True), atol=1e-6)
    with intervene(model, {"*": edit}), capture(model) as edited:
        model(x[:1])
    assert torch.allclose(edited.records[1].g, edit.values["0#1"])


def test_swapping_takes_the_records_of_a_site_call_by_call():
    edit = edits.swap(*(record_of(torch.full((1, 2), float(i))) for i in (1, 2)))
    assert [applied(edit, torch.zeros(3, 2), call=call)[2, 0].item() for call in range(4)] == [1, 2, 1, 2]


def test_swapping_in_another_images_g_changes_the_output_to_what_it_would_have_been():
    model, x = networks.build("se"), networks.images(2)
    with capture(model) as captured:
        model(x[1:])
    with intervene(model, {"*": edits.swap(*captured.records)}):
        changed = model(x[:1])
    assert torch.equal(changed, captured.records[0].g[:, :, None, None] * x[:1])


def test_a_record_of_another_site_or_shape_cannot_be_swapped_in():
    edit = edits.swap(record_of(torch.ones(1, 2)))
    with pytest.raises(CaptureError, match="other: no record of this site to swap in, only of se"):
        applied(edit, torch.ones(1, 2), name="other")
    model, x = networks.build("spatial-gate"), networks.images()
    with capture(model) as captured:
        model(x[..., :4])
    with (
        pytest.raises(CaptureError, match=r"\(root\): the edit Swap gave \(2, 6, 4\).*; g is \(2, 6, 6\)"),
        intervene(model, {"*": edits.swap(*captured.records)}),
    ):
        model(x)


def test_no_gradient_flows_into_the_run_that_a_swapped_g_comes_from():
    model, x = networks.build("se"), networks.images().requires_grad_()
    with capture(model) as captured:
        model(x)
    y = networks.images(2, 1).requires_grad_()
    with intervene(model, {"*": edits.swap(*captured.records)}):
        assert torch.autograd.grad(model(y).sum(), x, allow_unused=True) == (None,)


@pytest.mark.parametrize("name", ["zero", "scale", "keep_top", "drop_top", "uniform", "identity", "mean", "swap"])
def test_edits_survive_pickling(name):
    g = random_g(Kind.CHANNEL)
    made = {"identity": edits.identity, "mean": edits.mean([record_of(g)]), "swap": edits.swap(record_of(g))}
    edit = made.get(name) or EVERY[name]
    again = pickle.loads(pickle.dumps(edit))
    assert torch.equal(applied(again, g), applied(edit, g))


@pytest.mark.parametrize("name", [*EVERY, "identity"])
def test_every_edit_works_where_a_model_runs(name):
    model, x = networks.build("cbam"), networks.images()
    sites = find_attention(model, x)
    edit = edits.identity if name == "identity" else EVERY[name]
    with intervene(model, {"*": edit}, sites), capture(model, sites) as captured:
        assert not torch.equal(model(x), networks.build("cbam")(x))
    assert all(record.verify() <= 1e-5 for record in captured.records)
