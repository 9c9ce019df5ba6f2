"""Objects and photographs: which files are used, and which are held out."""

import numpy as np
import pytest
from PIL import Image

from attnviz.errors import DataError
from attnviz.training.sources import Sources, find_sources, is_held_out, split, subject_group


def test_objects_are_cropped_to_their_opaque_part(sources):
    assert len(sources.objects) == 12
    first = sources.objects[0].pixels
    assert first.shape == (99, 99, 4)  # a disc of radius 50 without its rim
    assert first[49, 49, 3] == 255


def test_images_without_transparency_and_small_images_are_no_objects(tmp_path, image_folder):
    Image.new("RGB", (200, 200)).save(tmp_path / "opaque.png")
    Image.new("RGBA", (200, 200), (9, 9, 9, 255)).save(tmp_path / "full.png")
    Image.new("RGBA", (200, 200), (9, 9, 9, 0)).save(tmp_path / "empty.png")
    Image.open(image_folder / "objects" / "a-blob.png").crop((0, 0, 80, 80)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match="need at least 5 objects, found 0 in "):
        find_sources(tmp_path, image_folder / "photographs")


def test_held_out_and_training_images_share_no_group(sources):
    training, held_out = (split(sources, 0, held_out=which) for which in (False, True))
    for field in ("objects", "photographs"):
        groups = [{image.group for image in getattr(part, field)} for part in (training, held_out)]
        assert not groups[0] & groups[1]
        assert len(getattr(training, field)) + len(getattr(held_out, field)) == 12


def test_a_fifth_is_held_out_and_another_seed_holds_out_another_fifth():
    names = [f"photograph {index}" for index in range(4000)]
    first, second = ([is_held_out(name, seed) for name in names] for seed in (0, 1))
    assert 0.18 < np.mean(first) < 0.22
    assert np.mean(np.array(first) & np.array(second)) < 0.06  # independent: a fifth of a fifth


def test_the_split_of_an_image_is_independent_of_the_other_images(sources):
    seed = next(  # a seed for which the smaller set has held-out objects and photographs
        seed
        for seed in range(100)
        if any(is_held_out(one.group, seed) for one in sources.objects[::2])
        and not all(is_held_out(one.group, seed) for one in sources.objects[::2])
        and any(is_held_out(one.group, seed) for one in sources.photographs)
    )
    fewer = Sources(sources.objects[::2], sources.photographs)
    held_out, of_fewer = ({one.name for one in split(s, seed, held_out=True).objects} for s in (sources, fewer))
    assert of_fewer == held_out & {one.name for one in fewer.objects}


def test_views_of_one_subject_are_one_group():
    assert subject_group("data/left07.jpg") == subject_group("data/left11.jpg")
    assert subject_group("data/aloeL.jpg") == subject_group("data/aloeR.jpg")
    assert subject_group("wallpapers/Kay/contents/images/1080x1920.png") == subject_group(
        "wallpapers/Kay/contents/images/5120x2880.png"
    )
    assert subject_group("data/home.jpg") != subject_group("data/building.jpg")
    assert subject_group("a/cat.png") != subject_group("b/cat.png")


def test_too_few_images_to_hold_some_out_are_an_error(sources):
    training = split(sources, 0, held_out=False)
    with pytest.raises(DataError, match="too few to hold some out"):
        split(training, 0, held_out=True)
