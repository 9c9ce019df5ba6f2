"""Class names from files, folders and checkpoints."""

import argparse
import json

import pytest

from attnviz.errors import WeightsError
from attnviz.models.label_files import labels_in, read_label_file

CAT_DOG = ("cat", "dog, big")

FILES = {
    "lines.txt": "cat\ndog, big\n\n",
    "list.json": json.dumps(["cat", "dog, big"]),
    "numbers.json": json.dumps({"1": "dog, big", "0": "cat"}),
    "names.json": json.dumps({"dog, big": 1, "cat": 0}),
    "imagenet.json": json.dumps({"0": ["n1", "cat"], "1": ["n2", "dog, big"]}),
    "config.json": json.dumps({"model": "vit", "id2label": {"0": "cat", "1": "dog, big"}}),
    "one.csv": 'cat\n"dog, big"\n',
    "header.csv": 'index,name\n1,"dog, big"\n0,cat\n',
    "turned.csv": 'name,id\n"dog, big",1\ncat,0\n',
    "coded.csv": 'n02,cat\nn03,"dog, big"\n',
    "tabs.tsv": "0\tcat\n1\tdog, big\n",
    "bom.txt": "\ufeffcat\ndog, big",
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_of_file_is_read(name, tmp_path):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert read_label_file(tmp_path / name) == CAT_DOG


def test_a_folder_of_class_folders_is_in_the_order_of_imagefolder(tmp_path):
    for name in ("dog", "Ant", "cat"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").touch()
    assert read_label_file(tmp_path) == ("Ant", "cat", "dog")


@pytest.mark.parametrize(
    "stored",
    [
        {"classes": list(CAT_DOG)},
        {"class_names": CAT_DOG, "epoch": 2},
        {"class_to_idx": {"dog, big": 1, "cat": 0}},
        {"idx_to_class": {1: "dog, big", 0: "cat"}},
        {"names": {0: "cat", 1: "dog, big"}},
        {"config": {"id2label": {0: "cat", 1: "dog, big"}}},
        {"hyper_parameters": argparse.Namespace(labels=list(CAT_DOG))},
    ],
)
def test_names_in_a_checkpoint_are_found(stored):
    assert labels_in(stored) == CAT_DOG


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"classes": 7},
        {"names": "resnet"},
        {"epoch": 1},
        {"args": {"a": 0, "b": 1}},
        {"labels": [1, 2]},
        {"classes": {0: "a", 5: "b"}},
    ],
)
def test_other_values_are_no_names(stored):
    assert labels_in(stored) is None


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("empty.txt", "\n", "holds no class names"),
        ("broken.json", "{", r"broken\.json: cannot be read as class names"),
        ("numbers.json", "[1, 2]", "holds no class names"),
        ("gap.csv", "index,name\n0,a\n2,b\n", "holds no class names"),
    ],
)
def test_files_without_names_are_refused(name, text, match, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(WeightsError, match=match):
        read_label_file(tmp_path / name)
    with pytest.raises(WeightsError, match="no such file of class names"):
        read_label_file(tmp_path / "none.txt")
