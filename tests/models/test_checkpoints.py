"""Checkpoints as people save them: which tensors of a file are a model's, read without executing code."""

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from attnviz.errors import WeightsError
from attnviz.models.checkpoint import read_checkpoint
from attnviz.models.label_files import labels_in
from attnviz.models.weights_file import load_weights, read_weights, shapes_of_ends


class Net(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.body(self.norm(self.stem(x))).mean((2, 3)))


def drawn(seed=1, **options):
    torch.manual_seed(seed)
    return Net(**options).state_dict()


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


def loaded(path, module=None):
    module = Net() if module is None else module
    notes = load_weights(module, read_checkpoint(path))
    return module.state_dict(), notes


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


KEYS = "state_dict model model_state_dict net weights ema model_ema ema_state_dict module whatever".split()


@pytest.mark.parametrize("key", KEYS)
def test_tensors_under_a_key_are_found(key, tmp_path):
    torch.save({key: drawn(), "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}, tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt")
    assert same(found, drawn())
    assert notes == ()


PREFIXES = ["module.", "model.", "_orig_mod.", "net.", "backbone.", "module._orig_mod.", "module.module.", "student.x."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_removed_and_noted(prefix, tmp_path):
    torch.save({"state_dict": prefixed(drawn(), prefix)}, tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt")
    assert same(found, drawn())
    assert len(notes) == 1
    assert "from the names in the file" in notes[0]
    assert repr(prefix.replace("_orig_mod.", "") or prefix) in notes[0]


def test_a_wrapper_in_the_middle_of_names_is_removed(tmp_path):
    state = {name.replace("body.", "body._orig_mod."): tensor for name, tensor in drawn().items()}
    torch.save(state, tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt")
    assert same(found, drawn())
    assert "removed '_orig_mod.' from" in notes[0]


def test_a_prefix_is_added_for_a_model_that_wraps_another(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = Net()

    torch.save(drawn(), tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt", Wrapper())
    assert same(found, prefixed(drawn(), "model."))
    assert notes == ("Weights: added 'model.' to the names in the file.",)
    found, notes = loaded(tmp_path / "w.pt", torch.compile(Net()))
    assert same({name.removeprefix("_orig_mod."): one for name, one in found.items()}, drawn())


def test_of_averaged_and_plain_weights_the_averaged_are_taken_and_it_is_noted(tmp_path):
    torch.save({"model": drawn(1), "ema": prefixed(drawn(2), "module.") | {"n_averaged": torch.tensor(5)}},
               tmp_path / "w.pt")  # fmt: skip
    found, notes = loaded(tmp_path / "w.pt")
    assert same(found, drawn(2))
    assert notes[0] == "Weights: those under 'ema' of the file."


def test_the_set_that_fits_is_taken(tmp_path):
    torch.save({"ema": {"other": torch.ones(2)}, "model": drawn(1)}, tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt")
    assert same(found, drawn(1))
    assert notes == ("Weights: those under 'model' of the file.",)


def test_tensors_of_a_loss_next_to_the_model_are_noted(tmp_path):
    torch.save({"state_dict": {**prefixed(drawn(), "model."), "loss.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    found, notes = loaded(tmp_path / "w.ckpt")
    assert same(found, drawn())
    assert "loss.weight in the file does not belong to the model" in notes[1]


@pytest.fixture
def foreign():
    """A package that is installed where a checkpoint is written, and not where it is read."""
    module = types.ModuleType("foreign_package")

    class Attributes(dict):
        pass

    class Config:
        def __init__(self):
            self.ran = True

    for one in (Attributes, Config):
        one.__module__, one.__qualname__ = "foreign_package", one.__name__
        setattr(module, one.__name__, one)
    sys.modules["foreign_package"] = module
    yield module
    sys.modules.pop("foreign_package", None)


@pytest.mark.parametrize("what", ["namespace", "path", "numpy", "attributes", "config"])
def test_objects_next_to_the_tensors_do_not_prevent_loading(what, foreign, tmp_path):
    values = {
        "namespace": argparse.Namespace(mean=[0.1, 0.2, 0.3], out=Path("x")), "path": Path("x"),
        "numpy": {"best": np.float64(0.5), "curve": np.zeros(3)}, "attributes": foreign.Attributes(classes=["a", "b"]),
        "config": foreign.Config(),
    }  # fmt: skip
    torch.save({"state_dict": drawn(), "hyper_parameters": values[what]}, tmp_path / "w.ckpt")
    del sys.modules["foreign_package"]
    checkpoint = read_checkpoint(tmp_path / "w.ckpt")
    module = Net()
    load_weights(module, checkpoint)
    assert same(module.state_dict(), drawn())
    assert "foreign_package" not in sys.modules
    if what == "attributes":
        assert labels_in(checkpoint.facts) == ("a", "b")
    if what == "namespace":
        assert checkpoint.facts["hyper_parameters"].mean == [0.1, 0.2, 0.3]


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (print, ("code in a weights file ran",))

    torch.save({"state_dict": drawn(), "extra": Trap()}, tmp_path / "w.pt")
    assert same(loaded(tmp_path / "w.pt")[0], drawn())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model, "epoch": 2}])
def test_a_pickled_model_is_refused_with_the_lines_that_convert_it(wrap, tmp_path):
    torch.save(wrap(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())), tmp_path / "full.pt")
    with pytest.raises(WeightsError, match=r"full\.pt: a pickled model.*weights_only=False.*state_dict\(\), \"weights"):
        read_checkpoint(tmp_path / "full.pt")


def test_a_file_of_the_old_format_is_read_as_safely(foreign, tmp_path):
    content = {"state_dict": drawn(), "args": argparse.Namespace(mean=[0.1], out=Path("x")), "config": foreign.Config()}
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save(nn.Flatten(), tmp_path / "full.pt", _use_new_zipfile_serialization=False)
    del sys.modules["foreign_package"]
    found, _ = loaded(tmp_path / "old.pt")
    assert same(found, drawn())
    with pytest.raises(WeightsError, match=r"full\.pt: a pickled model"):
        read_checkpoint(tmp_path / "full.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_model_and_a_folder_are_named(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)), tmp_path / "s.pt")
    with pytest.raises(WeightsError, match=r"a TorchScript archive, which holds a program: save model\.state_dict"):
        read_checkpoint(tmp_path / "s.pt")
    with pytest.raises(WeightsError, match="is a folder, wanted a weights file"):
        read_checkpoint(tmp_path)


def test_a_head_with_other_classes_is_named_with_both_shapes_and_what_to_do(tmp_path):
    torch.save(drawn(classes=5), tmp_path / "w.pt")
    module = Net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(
        WeightsError,
        match=r"head\.weight has shape \(5, 4\) in the file and \(3, 4\) in the model: this is the head; build .* 5 c",
    ):
        load_weights(module, read_checkpoint(tmp_path / "w.pt"))
    assert same(module.state_dict(), before)
    assert shapes_of_ends(module, read_checkpoint(tmp_path / "w.pt")) == (5, None)


def test_other_input_channels_are_named(tmp_path):
    torch.save(drawn(channels=1), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"stem\.weight .*: build the model for 1 input channels"):
        load_weights(Net(), read_checkpoint(tmp_path / "w.pt"))
    torch.save(drawn(channels=7, classes=2), tmp_path / "w.pt")
    assert shapes_of_ends(Net(), read_checkpoint(tmp_path / "w.pt")) == (2, 7)


def test_another_architecture_is_refused(tmp_path):
    other = {**drawn(), "gate.weight": torch.ones(2)}
    torch.save(other, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"does not fit Net: unexpected gate\.weight"):
        load_weights(Net(), read_checkpoint(tmp_path / "w.pt"))
    torch.save({name: one for name, one in drawn().items() if "body.2" not in name}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"does not fit Net: missing body\.2\.weight and 1 more"):
        load_weights(Net(), read_checkpoint(tmp_path / "w.pt"))


def test_counters_of_old_checkpoints_can_be_missing(tmp_path):
    torch.save({name: one for name, one in drawn().items() if "num_batches" not in name}, tmp_path / "w.pt")
    found, notes = loaded(tmp_path / "w.pt")
    assert torch.equal(found["norm.weight"], drawn()["norm.weight"])
    assert notes == ()


def test_a_safetensors_file_keeps_what_its_metadata_say(tmp_path):
    save_file(drawn(), tmp_path / "w.safetensors", metadata={"classes": '["a", "b", "c"]', "format": "pt"})
    checkpoint = read_checkpoint(tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors"), drawn())
    assert labels_in(checkpoint.facts) == ("a", "b", "c")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"nothing", r"damaged, or not a weights file \(no pickle of tensors\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"a pointer of Git LFS: get its content with git lfs pull"),
        ({"epoch": 3}, "wanted named tensors, got epoch"),
        (torch.ones(3), "wanted named tensors, got a Tensor"),
        ([1, 2], "wanted named tensors, got a list"),
    ],
)
def test_other_files_are_refused(content, match, tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(WeightsError, match=match):
        read_checkpoint(path)
    with pytest.raises(WeightsError, match="no such weights file"):
        read_checkpoint(tmp_path / "none.pt")
