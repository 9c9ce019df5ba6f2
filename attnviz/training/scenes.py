"""Compose scenes: an object, small and off-centre, in a photograph; and the same object centred on grey."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnviz.training.sources import Pixels, Source, Sources

Position = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

SIDE_PX = 224
_GREY = 127
OBJECT_SHARE = (0.2, 0.6)  # longest side of the object, as a share of the scene's side
_CLIP_OBJECT_SHARE = (0.4, 0.9)  # larger than in a scene, since a clip tests the frame and not the position
_TEACHER_SHARES = (0.6, 0.75, 0.9)  # the teacher's prediction is the mean over these sizes
_CROP_SHARE = (0.5, 1.0)  # side of a photograph's crop, as a share of its shorter side
_BRIGHTNESS = 0.2  # maximum relative change of an object's brightness


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """An input of the student, with its origin.

    Attributes:
        kind: ``"scene"`` for a composed scene, ``"plain"`` for a crop of a photograph.
        pixels: ``(224, 224, 3)`` uint8 RGB; of a clip ``(T, 224, 224, 3)``.
        mask: ``(224, 224)`` or ``(T, 224, 224)`` bool, true on the object; all false for a plain photograph.
        subject: Name of the object, or of the photograph.
        cut: The object before it was resized, ``(h, w, 4)`` uint8 RGBA; ``None`` for a plain photograph.
        mirrored: Whether the object is mirrored.
    """

    kind: Literal["scene", "plain"]
    pixels: Pixels
    mask: Mask
    subject: str
    cut: Pixels | None = None
    mirrored: bool = False


def as_input(pixels: Pixels) -> Tensor:
    """Convert ``(N, 224, 224, 3)`` uint8 to the trunk's input ``(N, 3, 224, 224)``, channels last in memory for speed.

    Clips, ``(N, T, 224, 224, 3)``, become ``(N, T, 3, 224, 224)``.
    """
    return torch.from_numpy(pixels.astype(np.float32)).div_(127.5).sub_(1).movedim(-1, -3)


def make_views(
    sources: Sources,
    kinds: Sequence[str],
    seed: int,
    start: int = 0,
    frames: int | None = None,
    object_share: tuple[float, float] = OBJECT_SHARE,
) -> Iterator[View]:
    """Yield one view for each entry of ``kinds``, ``"scene"`` or ``"plain"``, from index ``start`` on.

    View ``i`` depends only on ``sources``, ``kinds[i]``, ``seed`` and ``i``. Each object and each photograph is used
    about equally often. With patches, every other scene shows a patch in place of an object. With a number of
    ``frames``, each view is a clip. ``object_share`` is the range of the longest side of an object, as a share of the
    scene's side.
    """
    for index, kind in list(enumerate(kinds))[start:]:
        random = np.random.default_rng((seed, index))
        photograph = _cycle(sources.photographs, index, seed)
        thing = None
        if kind == "scene":
            use_patch = bool(sources.patches) and np.random.default_rng((seed, 11, index)).random() < 0.5
            thing = _cycle(sources.patches if use_patch else sources.objects, index, seed + 1)
        if frames is not None:
            yield compose_clip(thing, photograph, random, frames)
        elif thing is None:
            crop = random_crop(photograph.pixels, random)
            yield View("plain", crop, np.zeros((SIDE_PX, SIDE_PX), np.bool_), photograph.name)
        else:
            yield compose(thing, photograph, random, object_share)


def _cycle(images: tuple[Source, ...], index: int, seed: int) -> Source:
    """Image ``index`` of an endless sequence: all images in a random order, then all again in another order."""
    cycle, position = divmod(index, len(images))
    order = np.random.default_rng((seed, cycle)).permutation(len(images))
    return images[int(order[position])]


def compose(
    thing: Source, photograph: Source, random: np.random.Generator, object_share: tuple[float, float] = OBJECT_SHARE
) -> View:
    """Paste an object into a crop of a photograph, with random size, position, mirroring and brightness."""
    mirrored = bool(random.random() < 0.5)
    cut = thing.pixels[:, ::-1] if mirrored else thing.pixels
    scene = random_crop(photograph.pixels, random)
    resized = _fit(cut, random.uniform(*object_share))
    position = _random_position(resized, random)
    pixels, mask = _paste(resized, scene, position, random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS))
    return View("scene", pixels, mask, thing.name, cut, mirrored)


def compose_clip(thing: Source | None, photograph: Source, random: np.random.Generator, frames: int) -> View:
    """Compose a clip: the crop moves over a photograph, and an object, if any, through at most half of the frames."""
    first, last = _box(photograph.pixels, random), _box(photograph.pixels, random)
    path = [first + (last - first) * step for step in np.linspace(0, 0.3, frames)]
    scene = np.stack([_crop(photograph.pixels, box) for box in path])
    mask = np.zeros(scene.shape[:3], np.bool_)
    if thing is None:
        return View("plain", scene, mask, photograph.name)
    mirrored = bool(random.random() < 0.5)
    cut = thing.pixels[:, ::-1] if mirrored else thing.pixels
    resized = _fit(cut, random.uniform(*_CLIP_OBJECT_SHARE))
    brightness = random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
    count = int(random.integers(1, max(frames // 2, 1) + 1))
    start = int(random.integers(0, frames - count + 1))
    ends = _random_position(resized, random), _random_position(resized, random)
    for frame, position in enumerate(np.linspace(*ends, count).round().astype(int), start):
        scene[frame], mask[frame] = _paste(resized, scene[frame], position, brightness)
    return View("scene", scene, mask, thing.name, cut, mirrored)


def _random_position(resized: Pixels, random: np.random.Generator) -> Position:
    """Top and left edge of an object that lies inside the scene."""
    return np.array([random.integers(0, SIDE_PX - side + 1) for side in resized.shape[:2]])


def _paste(resized: Pixels, scene: Pixels, position: Position, brightness: float) -> tuple[Pixels, Mask]:
    """The scene with the object at a position (top, left), and the object's mask."""
    (height, width), (top, left) = resized.shape[:2], (int(edge) for edge in position)
    opacity = resized[..., 3:].astype(np.float32) / 255
    pixels, mask = scene.astype(np.float32), np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    window = pixels[top : top + height, left : left + width]
    window[:] = opacity * np.clip(brightness * resized[..., :3], 0, 255) + (1 - opacity) * window
    mask[top : top + height, left : left + width] = opacity[..., 0] > 0.5
    return pixels.round().astype(np.uint8), mask


def teacher_views(cut: Pixels) -> Pixels:
    """The inputs of the teacher: the object centred on grey in three sizes, ``(3, 224, 224, 3)``."""
    return np.stack([on_grey(cut, share) for share in _TEACHER_SHARES])


def on_grey(cut: Pixels, share: float = 0.9) -> Pixels:
    """The object centred on grey, ``(224, 224, 3)``; its longest side is ``share`` of the image's side."""
    fitted = Image.fromarray(_fit(cut, share))
    square = Image.new("RGB", (SIDE_PX, SIDE_PX), (_GREY, _GREY, _GREY))
    square.paste(fitted, ((SIDE_PX - fitted.width) // 2, (SIDE_PX - fitted.height) // 2), fitted)
    return np.asarray(square)


def random_crop(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A square crop with random size, position and mirroring, ``(224, 224, 3)``."""
    box = _box(pixels, random)
    return _crop(pixels, box, mirrored=random.random() < 0.5)


def _box(pixels: Pixels, random: np.random.Generator) -> Position:
    """Top, left and side of a random square."""
    height, width = pixels.shape[:2]
    side = int(min(height, width) * random.uniform(*_CROP_SHARE))
    return np.array([random.integers(0, height - side + 1), random.integers(0, width - side + 1), side])


def _crop(pixels: Pixels, box: Position, *, mirrored: bool = False) -> Pixels:
    top, left, side = (int(edge) for edge in box)
    crop: Any = pixels[top : top + side, left : left + side]
    crop = crop[:, ::-1] if mirrored else crop
    return np.asarray(Image.fromarray(crop).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def _fit(cut: Pixels, share: float) -> Pixels:
    scale = share * SIDE_PX / max(cut.shape[:2])
    height, width = (max(1, min(SIDE_PX, round(scale * side))) for side in cut.shape[:2])
    return np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC))
