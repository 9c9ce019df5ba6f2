"""The format ``coco``: the regions of every map."""

import json

from attnviz.report.explanation.folder import write_folder


def test_every_map_is_a_category_with_its_regions(document, tmp_path) -> None:
    (path,) = write_folder(document, tmp_path, ("coco",))
    content = json.loads(path.read_text())
    assert path.name == "regions.coco.json"
    assert [one["name"] for one in content["categories"]] == [view.name for view in document.maps]
    assert content["images"] == [{"id": 1, "file_name": document.file_name, "height": 224, "width": 224}]
    assert document.target.label in content["info"]["description"]
    for number, view in enumerate(document.maps, 1):
        areas = [one["area"] for one in content["annotations"] if one["category_id"] == number]
        large = (view.values >= 0.5 * view.values.max()) & (view.values > 0)
        assert sum(areas) == large.sum()
