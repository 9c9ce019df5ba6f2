"""From a video file to its frames, and every way in which that can fail."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from attnviz.errors import ClipError, ImageError
from attnviz.media import video
from attnviz.media.video import check_clip, is_clip, read_clip, spaced

SAMPLE = Path(__file__).parent.parent / "sample_data" / "clip.mp4"


def write(path, greys, size=(64, 48), rate=10, codec="MJPG"):
    """A clip whose frames have one grey each."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    for grey in greys:
        video.write(np.full((size[1], size[0], 3), grey, np.uint8))
    video.release()
    return path


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "c.avi", range(0, 200, 5))


class TestFrames:
    def test_they_are_the_middles_of_equal_parts(self, clip):
        footage = read_clip(clip, 4)
        assert spaced(40, 4) == [5, 15, 25, 35]
        assert footage.frames.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=2)
        assert footage.seconds == pytest.approx([0.5, 1.5, 2.5, 3.5])
        assert (footage.total, footage.size) == (40, (48, 64))
        assert footage.frames.dtype == np.uint8

    def test_a_clip_with_fewer_frames_gives_some_several_times(self, tmp_path):
        footage = read_clip(write(tmp_path / "c.avi", [0, 200]), 4)
        assert footage.frames.mean((1, 2, 3)) == pytest.approx([0, 0, 200, 200], abs=2)
        assert footage.total == 2

    def test_colours_are_red_green_blue(self, tmp_path):
        video = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        video.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))  # OpenCV's red
        video.release()
        red, _, blue = read_clip(tmp_path / "c.avi", 1).frames[0].mean((0, 1))
        assert red > 200
        assert blue < 50

    def test_a_long_clip_is_not_decoded_from_the_start(self, clip, monkeypatch):
        monkeypatch.setattr(video, "_SEEK_ABOVE", 3)
        assert read_clip(clip, 4).frames.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=2)

    def test_huge_frames_are_reduced(self, clip, monkeypatch):
        monkeypatch.setattr(video, "_KEEP_PX", 24)
        footage = read_clip(clip, 2)
        assert footage.frames.shape == (2, 24, 32, 3)
        assert footage.size == (48, 64)

    def test_the_shipped_clip_is_small_and_shows_more_in_the_end(self):
        footage = read_clip(SAMPLE, 8)
        assert SAMPLE.stat().st_size < 500_000
        assert footage.frames.shape == (8, 240, 320, 3)
        edges = [cv2.Laplacian(frame, cv2.CV_32F).std() for frame in footage.frames]
        assert min(edges[4:]) > max(edges[:2])

    def test_frames_wanted_are_at_least_one(self, clip):
        with pytest.raises(ValueError, match="wanted at least 1 frame, got 0"):
            read_clip(clip, 0)


class TestErrors:
    def test_a_missing_empty_or_other_file(self, tmp_path):
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "text.mp4").write_text("not a video")
        for name, message in (
            ("none.mp4", "no such file"),
            ("empty.mp4", "the file is empty"),
            ("text.mp4", r"not a video that can be decoded \(wanted MP4"),
            (".", "is a folder, wanted a video file"),
        ):
            for read in (check_clip, lambda path: read_clip(path, 8)):
                with pytest.raises(ClipError, match=message):
                    read(tmp_path / name)
        assert issubclass(ClipError, ImageError)

    def test_a_truncated_clip(self, clip):
        whole = clip.read_bytes()
        clip.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(
            ClipError, match=r"c\.avi: damaged or truncated: it should have 40 frames, \d+ can be decoded"
        ):
            read_clip(clip, 8)

    def test_an_mp4_without_its_end_says_why_and_writes_nothing_else(self, tmp_path, capfd):
        (tmp_path / "half.mp4").write_bytes(SAMPLE.read_bytes()[:60_000])
        with pytest.raises(ClipError, match=r"decoded \(wanted MP4.*\): moov atom not found") as caught:
            check_clip(tmp_path / "half.mp4")
        assert "\n" not in str(caught.value)
        assert capfd.readouterr().err == ""

    def test_a_codec_that_is_not_there(self, clip):
        broken = clip.read_bytes().replace(b"MJPG", b"ZZZZ")
        clip.write_bytes(broken)
        with pytest.raises(ClipError, match=r"c\.avi: (no frame of it can be|not a video that can be) decoded"):
            check_clip(clip)

    def test_a_clip_without_frames(self, tmp_path):
        path = write(tmp_path / "c.avi", [])
        with pytest.raises(ClipError, match=r"c\.avi: "):
            check_clip(path)

    def test_a_clip_that_is_too_long_or_too_large(self, clip, monkeypatch):
        monkeypatch.setattr(video, "MAX_FRAMES", 39)
        with pytest.raises(ClipError, match="more than 39 frames"):
            read_clip(clip, 4)
        monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
        with pytest.raises(ClipError, match="frames of 64 × 48 pixels, at most 3,071 can be read"):
            check_clip(clip)

    def test_the_error_stream_is_as_it_was(self, tmp_path, capfd):
        (tmp_path / "text.mp4").write_text("not a video")
        with pytest.raises(ClipError):
            check_clip(tmp_path / "text.mp4")
        os.write(2, b"abc")
        assert capfd.readouterr().err == "abc"


def test_a_clip_is_known_by_its_ending():
    assert is_clip("a/b.MOV")
    assert not is_clip("cat.jpg")
    assert not is_clip(np.zeros(3))
