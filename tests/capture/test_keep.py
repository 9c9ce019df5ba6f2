"""What is kept of a map: the whole map, the operands of its rows, or statistics. The numbers are the same."""

import copy
import math
import pickle
import sys

import networks
import pairwise_networks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from attnviz.core.memory_budget import KEEPS, available_bytes, choose
from attnviz.edits.intervention import intervene
from attnviz.errors import CaptureError, UnknownNameError
from attnviz.recording import STATISTICS, capture
from attnviz.recording.lazy_records import RowsRecord, SummaryRecord
from attnviz.recording.row_statistics import blocks_of, summarise
from attnviz.tracing import find_attention


class Fused(nn.Module):
    """The fused operator with options."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, **self.options)


def operands(*, n=2, heads=4, groups=None, q=5, k=7, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads, q), (groups or heads, k), (groups or heads, k))
    return [torch.randn(n, h, size, d, generator=generator) for h, size in shapes]


def captured_by(model, x, keep, **options):
    with torch.no_grad(), capture(model, keep=keep, **options) as captured:
        y = model(*x)
    return captured.records, y


CASES = {
    "plain": ({}, {}),
    "scaled": ({"scale": 0.3}, {}),
    "mask": ({"attn_mask": torch.arange(35).view(5, 7) % 3 * 0.5}, {}),
    "booleans": ({"attn_mask": torch.arange(35).view(5, 7) % 3 != 1}, {}),
    "mask of keys": ({"attn_mask": torch.tensor([[True, False] * 3 + [True]])}, {}),
    "causal": ({"is_causal": True}, {}),
    "shared keys": ({"enable_gqa": True}, {"groups": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_and_columns_are_those_of_the_whole_map(case):
    options, sizes = CASES[case]
    model, x = Fused(**options), operands(**sizes)
    (full,), through_g = captured_by(model, x, "full")
    (rows,), fused = captured_by(model, x, "rows")
    plain = model(*x)
    assert torch.equal(fused, plain)  # the output of the fused operator
    assert torch.allclose(through_g, plain, rtol=1e-5, atol=1e-6)  # the product g x
    assert full.verify(1e-6) <= 1e-6
    assert isinstance(rows, RowsRecord)
    assert rows.shape == full.shape == (2, 4, 5, 7)
    assert torch.allclose(rows.g, full.g, atol=1e-6)
    for queries in (0, -1, [3, 1], slice(1, 4), torch.tensor([4])):
        assert torch.allclose(rows.rows(queries), full.rows(queries), atol=1e-6)
    assert torch.allclose(rows.columns([6, 0]), full.g[..., [6, 0]], atol=1e-6)
    assert rows.verify(1e-6) <= 1e-6
    in_blocks = rows.scores.log_sum_exp(block_size=64)  # one row per block
    assert torch.allclose(in_blocks, rows.scores.log_sum_exp(), atol=1e-6)


def test_dropout_inside_the_fused_operator_is_part_of_the_map():
    x = operands(q=40, k=50)
    (record,), y = captured_by(Fused(dropout_p=0.5), x, "full")
    whole = captured_by(Fused(), x, "full")[0][0].g
    kept = record.g != 0
    assert 0.4 < kept.float().mean() < 0.6
    assert torch.allclose(record.g[kept], 2 * whole[kept])
    assert torch.equal(record.reconstruct(), y)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3), heads=st.integers(1, 4), q=st.integers(1, 9), k=st.integers(1, 9), block=st.integers(1, 50),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_a_summary_has_the_statistics_of_the_whole_map_for_any_size_of_blocks(n, heads, q, k, block, seed):
    x = operands(n=n, heads=heads, q=q, k=k, seed=seed)
    (full,), _ = captured_by(Fused(), x, "full")
    (rows,), _ = captured_by(Fused(), x, "rows")
    (summary,), _ = captured_by(Fused(), x, "summary")
    in_blocks = [
        summarise(blocks, STATISTICS, full.shape) for blocks in (rows.scores.blocks(block), blocks_of(full.g, block))
    ]
    g = full.g.double()
    ordered = g.sort(-1, descending=True).values
    expected = {
        "entropy": -(g * g.log()).sum(-1),
        "max": g.max(-1).values,
        "top_mass": ordered[..., : max(1, k // 10)].sum(-1),
        "column_mean": g.mean(-2),
    }
    for found in (summary.summary, *in_blocks):
        for name, value in expected.items():
            assert torch.allclose(found[name].double(), value, atol=1e-6), name
    assert summary.shape == (n, heads, q, k)


def test_statistics_of_two_rows():
    rows = torch.tensor([[[[0.5, 0.25, 0.125, 0.125], [1.0, 0.0, 0.0, 0.0]]]])
    found = summarise(blocks_of(rows), STATISTICS, (1, 1, 2, 4))
    assert found["entropy"].flatten().tolist() == pytest.approx([1.75 * math.log(2), 0.0])
    assert found["max"].flatten().tolist() == [0.5, 1.0]
    assert found["top_mass"].flatten().tolist() == [0.5, 1.0]
    assert found["top_p"].flatten().tolist() == [1.0, 0.25]
    assert found["column_mean"].flatten().tolist() == [0.75, 0.125, 0.0625, 0.0625]


def test_a_map_that_the_model_computes_is_summarised_and_other_kinds_are_kept_whole():
    model, x = nn.Sequential(pairwise_networks.NonLocal("gaussian"), networks.build("se")).eval(), [networks.images()]
    full, _ = captured_by(model, x, "full")
    for keep, kinds in (("summary", [SummaryRecord, "Record"]), ("rows", ["Record", "Record"])):
        records, _ = captured_by(model, x, keep, statistics=["max"])
        assert [type(r).__name__ for r in records] == [getattr(k, "__name__", k) for k in kinds]
        assert torch.equal(records[1].g, full[1].g)
    summary = captured_by(model, x, "summary", statistics=["max"])[0][0]
    assert torch.equal(summary.summary["max"], full[0].g.amax(-1))


def test_access_to_the_map_of_a_summary_is_an_error_that_lists_the_statistics():
    (record,), _ = captured_by(Fused(), operands(), "summary", statistics=["max", "entropy"])
    for part in ("g", "x", "y"):
        with pytest.raises(CaptureError, match=rf"\(root\): {part} was not kept, only max, entropy; capture with keep"):
            getattr(record, part)
    with pytest.raises(CaptureError, match="g was not kept"):
        record.rows(0)


def test_rows_of_another_kind_or_out_of_range_are_an_error():
    (gate,), _ = captured_by(networks.build("se"), [networks.images()], "full")
    with pytest.raises(CaptureError, match=r"\(root\): channel attention has no queries"):
        gate.rows(0)
    (record,), _ = captured_by(Fused(), operands(), "rows")
    with pytest.raises(CaptureError, match="queries of this map are below 5, got 5"):
        record.rows([0, 5])


def test_an_unknown_choice_or_statistic_is_an_error():
    with pytest.raises(UnknownNameError, match="unknown choice of what to keep 'row': did you mean rows"):
        captured_by(Fused(), operands(), "row")
    with pytest.raises(UnknownNameError, match="unknown statistic 'entropi': did you mean entropy"):
        captured_by(Fused(), operands(), "summary", statistics=["entropi"])


def test_an_edited_map_is_kept_whole_and_two_captures_can_keep_different_parts():
    model, x = Fused(), operands()
    sites = find_attention(model, *x)
    with intervene(model, {"pairwise": lambda g: g * 0 + 0.5}, sites), capture(model, sites, keep="rows") as captured:
        model(*x)
    assert captured.records[0].g.eq(0.5).all()
    assert captured.records[0].verify() <= 1e-6
    with capture(model, sites, keep="rows") as rows, capture(model, sites) as full:
        model(*x)
    assert torch.equal(rows.records[0].g, full.records[0].g)


def test_rows_are_correct_after_the_model_overwrites_queries_and_keys():
    class Overwriting(Fused):
        def forward(self, q, k, v):
            q, k = q + 1, k + 1
            y = super().forward(q, k, v)
            k.zero_()
            return y + q.mul_(0).sum()

    (full,), _ = captured_by(Overwriting(), operands(), "full")
    (rows,), _ = captured_by(Overwriting(), operands(), "rows")
    assert torch.allclose(rows.g, full.g, atol=1e-6)


def test_gradients_of_rows_with_respect_to_queries_exist():
    q, k, v = (t.requires_grad_() for t in operands())
    model = Fused()
    with capture(model, keep="rows") as captured:
        model(q, k, v)
    (gradient,) = torch.autograd.grad(captured.records[0].rows(2).amax(-1).sum(), q)
    assert gradient[:, :, 2].abs().sum() > 0
    assert gradient[:, :, [0, 1, 3, 4]].eq(0).all()


@pytest.mark.parametrize("keep", ["rows", "summary"])
def test_records_can_be_copied_and_pickled(keep):
    (record,), _ = captured_by(Fused(), operands(), keep)
    for copied in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record)):
        assert (copied.site, copied.call, copied.shape) == (record.site, record.call, record.shape)
        if keep == "rows":
            assert torch.equal(copied.rows(1), record.rows(1))
        else:
            assert all(torch.equal(copied.summary[name], value) for name, value in record.summary.items())


def test_the_memory_of_records_is_known_before_the_run():
    sites = find_attention(Fused(), *operands(q=50, k=70))
    q, k, v = (4 * 2 * 4 * n * 3 for n in (50, 70, 70))
    assert sites[0].size_bytes["full"] == 4 * 2 * 4 * 50 * 70 + v + q  # y is as large as q
    assert sites[0].size_bytes["rows"] == q + k + v + q
    assert sites[0].size_bytes["summary"] < 4 * 2 * 4 * 70 * 10
    assert sites.total_bytes("rows", images=6) == 3 * sites.total_bytes("rows")


def test_a_capture_that_does_not_fit_is_an_error_before_the_model_runs(monkeypatch):
    model, x = Fused(), operands(q=50, k=70)
    sites = find_attention(model, *x)
    needed = {keep: sites.total_bytes(keep) for keep in KEEPS}
    module = sys.modules[capture.__module__]
    monkeypatch.setattr(module, "available_bytes", lambda device: needed["full"] - 1)
    monkeypatch.setattr(module, "UNCHECKED_BYTES", 0)
    message = (
        "keep='full' needs about 120.6 KiB, but 120.6 KiB are available: "
        r"use keep='rows' \(22.5 KiB\) or keep='summary' \(17.5 KiB\)"
    )
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", lambda *_, **__: pytest.fail("the model ran"))
        with pytest.raises(CaptureError, match=message), capture(model, sites):
            model(*x)
    (record,), _ = captured_by(model, x, "auto")
    assert isinstance(record, RowsRecord)


@pytest.mark.parametrize(
    ("available", "chosen"), [(None, "full"), (1800, "full"), (1799, "rows"), (180, "rows"), (179, "summary")]
)
def test_the_largest_choice_that_fits_into_half_of_the_memory_is_chosen(available, chosen):
    assert choose("auto", {"full": 900, "rows": 90, "summary": 9}, available) == chosen


def test_a_summary_that_does_not_fit_is_an_error():
    with pytest.raises(CaptureError, match="keep='summary' needs about 9 B, but 8 B are available: use fewer sites"):
        choose("auto", {"full": 900, "rows": 90, "summary": 9}, 8)


def test_available_memory_is_that_of_linux_within_the_limit_of_the_container(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    files = {"meminfo": tmp_path / "meminfo", "control_group": tmp_path}
    assert available_bytes(**files) == 2048 * 1024
    (tmp_path / "memory.max").write_text("1005\n")
    assert available_bytes(torch.device("cpu"), **files) == 1000
    missing = {"meminfo": tmp_path / "missing", "control_group": tmp_path / "missing"}
    assert available_bytes(**missing) is None or available_bytes(**missing) > 0
    assert available_bytes(torch.device("meta")) is None


@pytest.mark.parametrize("name", ["se", "se-in-place", "spatial-gate"])
def test_a_callback_receives_each_record_before_values_are_overwritten(name):
    model, x = networks.build(name), networks.images()
    with capture(model) as whole:
        model(x)
    received = []

    def each(record):
        record.verify()
        received.append((record.name, record.g.clone(), record.x.clone(), record.y.clone()))

    with capture(model, each=each) as captured:
        y = model(x)
    assert captured.records == []
    assert not captured.unclaimed
    assert torch.equal(y, model(x))
    for record, (site, *tensors) in zip(whole.records, received, strict=True):
        assert record.name == site
        assert all(map(torch.equal, (record.g, record.x, record.y), tensors))


def test_a_callback_receives_no_copies_but_another_capture_stores_them():
    model, x, addresses = networks.build("se-in-place"), networks.images(), []
    (site,) = find_attention(model, x)
    with capture(model, [site], each=lambda record: addresses.append(record.y.data_ptr())):
        first = model(x)
        with capture(model, [site]) as stored:
            y = model(x)
    assert first.data_ptr() == addresses[0] != addresses[1] == stored.records[0].y.data_ptr() != y.data_ptr()
