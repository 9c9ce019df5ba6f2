"""Documents, their JSON file and the glossary."""

import base64
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from attnviz.errors import DataError, ReconstructionError
from attnviz.report import describe
from attnviz.report.core.document import channel_gates
from attnviz.report.explanation import html, json_file


class TestDocument:
    def test_attention_comes_before_attribution(self, explanation):
        reversed_maps = replace(explanation, heatmaps=explanation.heatmaps[::-1])
        kinds = [one.kind for one in describe(reversed_maps).maps]
        assert kinds == ["attention"] * 6 + ["attribution"] * 4

    def test_values_are_not_scaled(self, explanation, document):
        by_name = {heatmap.name: heatmap for heatmap in explanation.heatmaps}
        for one in document.maps:
            assert np.array_equal(one.values, by_name[one.name].values[0].numpy())

    def test_a_site_has_the_statistics_of_its_g(self, explanation, document):
        record, site = explanation.records[1], document.sites[1]
        assert site.shape == (1, 14, 14)
        assert site.kind == "spatial"
        assert (site.low, site.high) == (float(record.g.min()), float(record.g.max()))
        assert site.error == 0
        assert site.where == "cbam.py:41"
        assert np.array_equal(site.g, record.g[0].numpy())

    def test_a_record_that_does_not_reconstruct_is_an_error(self, explanation):
        wrong = replace(explanation.records[0], y=explanation.records[0].y * 1.01)
        with pytest.raises(ReconstructionError, match=r"blocks\.3\.cbam\.channel: f\(g, x\) differs"):
            describe(replace(explanation, records=(wrong,)))

    def test_scores_are_grouped_by_subject(self, document):
        between, sites = document.measures_between_maps(), document.measures_of_sites()
        assert list(between) == ["spearman", "ssim", "topk_iou"]
        assert len(between["ssim"]) == 10 * 9
        assert between["ssim"]["gradcam", "saliency"] is between["ssim"]["saliency", "gradcam"]
        assert list(sites) == ["hoyer", "gini", "normalised_entropy", "near_zero_share"]
        assert len(sites["gini"]) == 6 * 3

    def test_only_channel_gates_are_charted(self, document):
        assert [site.kind for site in channel_gates(document)] == ["channel"] * 3


class TestJsonFile:
    def test_a_document_is_restored(self, document, tmp_path):
        json_file.write(document, tmp_path / "e.json")
        restored = json_file.load(tmp_path / "e.json")
        assert html.render(restored) == html.render(document)
        assert np.array_equal(restored.pixels, document.pixels)
        for before, after in zip(document.maps, restored.maps, strict=True):
            assert before.values.dtype == after.values.dtype == np.float32
            assert np.array_equal(before.values, after.values)
        finite = [[s for s in one.scores if not math.isnan(s.value)] for one in (document, restored)]
        assert finite[0] == finite[1]
        assert math.isnan(restored.scores[0].value)
        assert restored.scores[0].why == "a constant map"

    def test_the_file_is_strict_json_with_a_version(self, document, tmp_path):
        json_file.write(document, tmp_path / "e.json")

        def refuse(name):
            raise AssertionError(f"{name} is not JSON")

        data = json.loads((tmp_path / "e.json").read_text(), parse_constant=refuse)
        assert (data["schema"], data["version"]) == ("attnviz.explanation", 1)
        array = data["maps"][0]["values"]
        values = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"]).reshape(array["shape"])
        assert np.array_equal(values, document.maps[0].values)

    def test_a_summary_has_no_arrays(self, document):
        text = json.dumps(json_file.dump(document, arrays=False))
        assert "base64" not in text
        assert len(text) < 100_000

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "cannot be read as an explanation"),
            ("[]", "wanted schema attnviz.explanation version 1, got None version None"),
            ('{"schema": "attnviz.explanation", "version": 2}', "got attnviz.explanation version 2"),
            ('{"schema": "attnviz.explanation", "version": 1}', "a damaged explanation: KeyError: 'image'"),
        ],
    )
    def test_another_file_is_an_error(self, tmp_path, content, message):
        (tmp_path / "e.json").write_text(content)
        with pytest.raises(DataError, match=message):
            json_file.load(tmp_path / "e.json")

    def test_a_missing_file_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match=r"e\.json: cannot be read"):
            json_file.load(tmp_path / "e.json")
