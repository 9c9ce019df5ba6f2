"""Frames of video files, and the errors for files that cannot be decoded."""

import os
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from attnviz.errors import ClipError, ImageError
from attnviz.media import video
from attnviz.media.video import check_clip, is_clip, read_clip, spaced

SAMPLE = Path(__file__).parent.parent / "sample_data" / "clip.mp4"
UPRIGHT = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # the matrix of an MP4 track without rotation
QUARTER_TURN = (0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 0, 0, 1 << 30)


def write(path, greys, size=(64, 48), rate=10, codec="MJPG"):
    """Write a clip whose frames are uniformly grey."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, size)
    for grey in greys:
        writer.write(np.full((size[1], size[0], 3), grey, np.uint8))
    writer.release()
    return path


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "c.avi", range(0, 200, 5))


class TestFrames:
    def test_they_are_the_middle_frames_of_equal_parts(self, clip):
        footage = read_clip(clip, 4)
        assert spaced(40, 4) == [5, 15, 25, 35]
        assert footage.frames.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=2)
        assert footage.seconds == pytest.approx([0.5, 1.5, 2.5, 3.5])
        assert (footage.total, footage.size) == (40, (48, 64))
        assert footage.frames.dtype == np.uint8

    def test_a_clip_with_fewer_frames_repeats_some(self, tmp_path):
        footage = read_clip(write(tmp_path / "c.avi", [0, 200]), 4)
        assert footage.frames.mean((1, 2, 3)) == pytest.approx([0, 0, 200, 200], abs=2)
        assert footage.total == 2

    def test_colours_are_red_green_blue(self, tmp_path):
        writer = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
        writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))  # OpenCV's red
        writer.release()
        red, _, blue = read_clip(tmp_path / "c.avi", 1).frames[0].mean((0, 1))
        assert red > 200
        assert blue < 50

    @pytest.mark.parametrize("codec", ["MJPG", "mp4v"])
    def test_a_long_clip_is_not_decoded_from_the_start(self, tmp_path, monkeypatch, codec):
        """The frames after a seek are those of a decoding from the start; ``mp4v`` has key frames 12 frames apart."""
        path = write(tmp_path / ("c.avi" if codec == "MJPG" else "c.mp4"), range(0, 200, 5), codec=codec)
        decoded = []
        plain = video._decoded

        def recording(container, stream):
            for frame in plain(container, stream):
                decoded.append(frame.pts)
                yield frame

        monkeypatch.setattr(video, "_decoded", recording)
        expected, all_frames = read_clip(path, 3), len(decoded)
        decoded.clear()
        footage = read_clip(path, 3, seek_above=3)
        np.testing.assert_array_equal(footage.frames, expected.frames)
        assert footage.seconds == expected.seconds
        assert len(decoded) < all_frames

    def test_a_container_without_seeking_is_decoded_from_the_start(self, clip, monkeypatch):
        monkeypatch.setattr(video, "_seek", lambda *_: None)
        assert read_clip(clip, 4, seek_above=3).frames.mean((1, 2, 3)) == pytest.approx([25, 75, 125, 175], abs=2)

    def test_without_a_frame_count_the_duration_or_the_decoded_frames_count(self, tmp_path, monkeypatch):
        path = write(tmp_path / "c.mkv", range(0, 200, 5))
        with av.open(str(path)) as container:
            assert container.streams.video[0].frames == 0
        assert read_clip(path, 4).total == 40
        monkeypatch.setattr(video, "_duration", lambda *_: 0.0)
        assert read_clip(path, 4).total == 40

    def test_huge_frames_are_reduced(self, clip):
        footage = read_clip(clip, 2, keep_px=24)
        assert footage.frames.shape == (2, 24, 32, 3)
        assert footage.size == (48, 64)

    def test_a_rotated_recording_is_upright(self, tmp_path):
        content = SAMPLE.read_bytes()
        upright, turned = (b"".join(v.to_bytes(4, "big") for v in matrix) for matrix in (UPRIGHT, QUARTER_TURN))
        matrix_at = content.index(upright, content.index(b"tkhd"))
        (tmp_path / "r.mp4").write_bytes(content[:matrix_at] + turned + content[matrix_at + 36 :])
        footage = read_clip(tmp_path / "r.mp4", 2)
        assert footage.size == (320, 240)
        np.testing.assert_array_equal(footage.frames, np.rot90(read_clip(SAMPLE, 2).frames, -1, axes=(1, 2)))

    def test_a_name_with_a_colon_is_a_file_and_not_a_protocol(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("http:c.avi").write_bytes(write(tmp_path / "c.avi", [0, 200]).read_bytes())
        assert read_clip("http:c.avi", 1).total == 2

    def test_the_shipped_clip_is_small_and_its_last_frames_show_more_detail(self):
        footage = read_clip(SAMPLE, 8)
        assert SAMPLE.stat().st_size < 500_000
        assert footage.frames.shape == (8, 240, 320, 3)
        edges = [cv2.Laplacian(frame, cv2.CV_32F).std() for frame in footage.frames]
        assert min(edges[4:]) > max(edges[:2])

    def test_a_count_below_one_is_refused(self, clip):
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
        content = clip.read_bytes()
        clip.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(
            ClipError, match=r"c\.avi: damaged or truncated: it should have 40 frames, \d+ can be decoded"
        ):
            read_clip(clip, 8)

    def test_damaged_frames_are_skipped_and_counted(self, clip):
        content = bytearray(clip.read_bytes())
        start = content.index(b"movi")
        content[start + 4000 : -4000] = bytes(len(content) - start - 8000)
        clip.write_bytes(content)
        with pytest.raises(ClipError, match=r"c\.avi: damaged or truncated: it should have 40 frames"):
            read_clip(clip, 8)

    @pytest.mark.parametrize("level", [None, av.logging.ERROR])  # torchvision sets ERROR when it is imported
    def test_the_reason_of_a_truncated_mp4_is_reported_and_nothing_is_printed(self, tmp_path, capfd, caplog, level):
        (tmp_path / "half.mp4").write_bytes(SAMPLE.read_bytes()[:60_000])
        before = av.logging.get_level()
        av.logging.set_level(level)
        try:
            with pytest.raises(ClipError, match=r"decoded \(wanted MP4.*\): moov atom not found") as caught:
                check_clip(tmp_path / "half.mp4")
            assert av.logging.get_level() == level
        finally:
            av.logging.set_level(before)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr().err == ""
        assert caplog.records == []

    def test_the_log_of_decoders_is_not_printed(self, clip, capfd, caplog):
        content = bytearray(clip.read_bytes())
        for position in range(3000, len(content) - 3000, 50):
            content[position] ^= 0xFF
        clip.write_bytes(content)
        before = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with suppress(ClipError):
                read_clip(clip, 8)
        finally:
            av.logging.set_level(before)
        assert capfd.readouterr().err == ""
        assert caplog.records == []

    def test_an_unsupported_codec(self, clip):
        clip.write_bytes(clip.read_bytes().replace(b"MJPG", b"ZZZZ"))
        with pytest.raises(ClipError, match=r"c\.avi: (no frame of it can be|not a video that can be) decoded"):
            check_clip(clip)

    def test_a_clip_without_frames(self, tmp_path):
        path = write(tmp_path / "c.avi", [])
        with pytest.raises(ClipError, match=r"c\.avi: "):
            check_clip(path)

    def test_a_clip_that_is_too_long_or_too_large(self, clip):
        with pytest.raises(ClipError, match="more than 39 frames"):
            read_clip(clip, 4, max_frames=39)
        assert read_clip(clip, 4, max_frames=40).total == 40
        with pytest.raises(ClipError, match="frames of 64 × 48 pixels, at most 3,071 can be read"):
            check_clip(clip, max_pixels=64 * 48 - 1)
        check_clip(clip, max_pixels=64 * 48)

    def test_the_error_streams_file_descriptor_is_not_redirected(self, clip, monkeypatch):
        def refuse(*_):
            raise AssertionError("a file descriptor was redirected")

        with monkeypatch.context() as patched:
            patched.setattr(os, "dup2", refuse)
            total = read_clip(clip, 1).total
        assert total == 40


def test_a_clip_is_recognised_by_its_suffix():
    assert is_clip("a/b.MOV")
    assert not is_clip("cat.jpg")
    assert not is_clip(np.zeros(3))
