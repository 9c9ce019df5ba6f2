"""Compose scenes: an object, small and off-centre, in a cluttered photograph; beside it, the object alone on grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attnviz.training.sources import Pixels, Source, Sources

Placement = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

SIDE_PX = 224
_GREY = 127
OBJECT_SHARE = (0.2, 0.6)  # longest side of the object, as a share of the scene's side
_CLIP_OBJECT_SHARE = (0.4, 0.9)  # larger than in a scene: here the question is when, not where
_ALONE_SHARES = (0.6, 0.75, 0.9)  # the teacher's answer is the mean over these sizes
_CROP_SHARE = (0.5, 1.0)  # side of a photograph's crop, as a share of its shorter side
_LIGHT = 0.2  # largest change of an object's brightness


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One picture for the student, and what it was made of.

    Attributes:
        kind: A composed scene, or a plain crop of a photograph.
        pixels: ``(224, 224, 3)`` uint8 RGB: what the student sees; of a clip ``(T, 224, 224, 3)``.
        mask: ``(224, 224)`` or ``(T, 224, 224)`` bool: where the object is; empty for a plain photograph.
        subject: Name of the object, or of the photograph.
        cut: The object as it was pasted, ``(h, w, 4)`` uint8 RGBA, mirrored or not; ``None`` for a plain photograph.
        mirrored: Whether the object was mirrored.
    """

    kind: Literal["scene", "plain"]
    pixels: Pixels
    mask: Mask
    subject: str
    cut: Pixels | None = None
    mirrored: bool = False


def as_input(pixels: Pixels) -> Tensor:
    """``(N, 224, 224, 3)`` uint8 to the trunk's ``(N, 3, 224, 224)``, channels last in memory: it is faster so.

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
    """One view for each entry of ``kinds``, ``"scene"`` or ``"plain"``, from the ``start``-th on.

    The ``i``-th depends on ``seed`` and ``i`` alone. Each object and each photograph is used about equally often; where
    there are patches, every other scene shows one in place of an object. The longest side of an object in a scene is a
    random share between the two of ``object_share``.
    """
    for index, kind in list(enumerate(kinds))[start:]:
        random = np.random.default_rng((seed, index))
        photograph = _in_turn(sources.photographs, index, seed)
        if frames is not None:
            thing = _thing(sources, index, seed) if kind == "scene" else None
            yield compose_clip(thing, photograph, random, frames)
        elif kind == "plain":
            crop = random_crop(photograph.pixels, random)
            yield View("plain", crop, np.zeros((SIDE_PX, SIDE_PX), np.bool_), photograph.name)
        else:
            thing = _thing(sources, index, seed)
            yield compose(thing, photograph, random, object_share)


def _thing(sources: Sources, index: int, seed: int) -> Source:
    shows_patch = bool(sources.patches) and np.random.default_rng((seed, 11, index)).random() < 0.5
    return _in_turn(sources.patches if shows_patch else sources.objects, index, seed + 1)


def _in_turn(pictures: tuple[Source, ...], index: int, seed: int) -> Source:
    """The pictures in an order that is shuffled anew in each round."""
    turn, place = divmod(index, len(pictures))
    order = np.random.default_rng((seed, turn)).permutation(len(pictures))
    return pictures[int(order[place])]


def compose(
    thing: Source, photograph: Source, random: np.random.Generator, object_share: tuple[float, float] = OBJECT_SHARE
) -> View:
    """Put an object into a crop of a photograph: random size and place, perhaps mirrored, darker or brighter."""
    mirrored = bool(random.random() < 0.5)
    cut = thing.pixels[:, ::-1] if mirrored else thing.pixels
    scene = random_crop(photograph.pixels, random)
    pasted = _fit(cut, random.uniform(*object_share))
    place = _somewhere(pasted, random)
    pixels, mask = _paste(pasted, scene, place, random.uniform(1 - _LIGHT, 1 + _LIGHT))
    return View("scene", pixels, mask, thing.name, cut, mirrored)


def compose_clip(thing: Source | None, photograph: Source, random: np.random.Generator, frames: int) -> View:
    """A camera that glides over a photograph; an object moves through up to half of the frames.

    Args:
        thing: The object; ``None`` for a plain clip.
        photograph: What the camera sees.
        random: Of size, place, path, and of the frames that show the object.
        frames: ``T``.
    """
    first, last = _box(photograph.pixels, random), _box(photograph.pixels, random)
    path = [first + (last - first) * step for step in np.linspace(0, 0.3, frames)]
    scene = np.stack([_crop(photograph.pixels, box) for box in path])
    mask = np.zeros(scene.shape[:3], np.bool_)
    if thing is None:
        return View("plain", scene, mask, photograph.name)
    mirrored = bool(random.random() < 0.5)
    cut = thing.pixels[:, ::-1] if mirrored else thing.pixels
    pasted, light = _fit(cut, random.uniform(*_CLIP_OBJECT_SHARE)), random.uniform(1 - _LIGHT, 1 + _LIGHT)
    shown = int(random.integers(1, max(frames // 2, 1) + 1))
    start = int(random.integers(0, frames - shown + 1))
    places = np.linspace(_somewhere(pasted, random), _somewhere(pasted, random), shown).round().astype(int)
    for frame, place in enumerate(places, start):
        scene[frame], mask[frame] = _paste(pasted, scene[frame], place, light)
    return View("scene", scene, mask, thing.name, cut, mirrored)


def _somewhere(pasted: Pixels, random: np.random.Generator) -> Placement:
    return np.array([random.integers(0, SIDE_PX - side + 1) for side in pasted.shape[:2]])


def _paste(pasted: Pixels, scene: Pixels, place: Placement, light: float) -> tuple[Pixels, Mask]:
    """The scene with the object at a place, top and left, and where the object is."""
    (height, width), (top, left) = pasted.shape[:2], (int(edge) for edge in place)
    opacity = pasted[..., 3:].astype(np.float32) / 255
    pixels, mask = scene.astype(np.float32), np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    window = pixels[top : top + height, left : left + width]
    window[:] = opacity * np.clip(light * pasted[..., :3], 0, 255) + (1 - opacity) * window
    mask[top : top + height, left : left + width] = opacity[..., 0] > 0.5
    return pixels.round().astype(np.uint8), mask


def alone(cut: Pixels) -> Pixels:
    """What the teacher sees: the object in the middle of a grey square, in three sizes, ``(3, 224, 224, 3)``."""
    return np.stack([on_grey(cut, share) for share in _ALONE_SHARES])


def on_grey(cut: Pixels, share: float = 0.9) -> Pixels:
    """The object in the middle of a grey square, ``(224, 224, 3)``; its longest side is ``share`` of the square's."""
    fitted = Image.fromarray(_fit(cut, share))
    square = Image.new("RGB", (SIDE_PX, SIDE_PX), (_GREY, _GREY, _GREY))
    square.paste(fitted, ((SIDE_PX - fitted.width) // 2, (SIDE_PX - fitted.height) // 2), fitted)
    return np.asarray(square)


def random_crop(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A square crop of random size and place, perhaps mirrored, ``(224, 224, 3)``."""
    box = _box(pixels, random)
    return _crop(pixels, box, mirrored=random.random() < 0.5)


def _box(pixels: Pixels, random: np.random.Generator) -> Placement:
    """Top, left and side of a random square."""
    height, width = pixels.shape[:2]
    side = int(min(height, width) * random.uniform(*_CROP_SHARE))
    return np.array([random.integers(0, height - side + 1), random.integers(0, width - side + 1), side])


def _crop(pixels: Pixels, box: Placement, *, mirrored: bool = False) -> Pixels:
    top, left, side = (int(edge) for edge in box)
    crop: Any = pixels[top : top + side, left : left + side]
    crop = crop[:, ::-1] if mirrored else crop
    return np.asarray(Image.fromarray(crop).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def _fit(cut: Pixels, share: float) -> Pixels:
    scale = share * SIDE_PX / max(cut.shape[:2])
    height, width = (max(1, min(SIDE_PX, round(scale * side))) for side in cut.shape[:2])
    return np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC))
