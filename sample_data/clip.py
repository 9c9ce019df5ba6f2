"""Make ``clip.mp4``: the camera moves over ``chelsea.png``, so that the cat's face is in some of the frames only.

``python sample_data/clip.py`` writes it anew (MPEG-4 Part 2, by OpenCV).
"""

from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
WIDTH, HEIGHT, RATE, FRAMES = 320, 240, 12, 48


def view(picture: np.ndarray, across: float, down: float, side: float) -> np.ndarray:
    """A part of the picture, ``side`` of its height tall, with its centre as near to a place as fits."""
    height, width = picture.shape[:2]
    wide = side * min(width, height * WIDTH / HEIGHT)
    tall = wide * HEIGHT / WIDTH
    left = np.clip(across * width - wide / 2, 0, width - wide)
    top = np.clip(down * height - tall / 2, 0, height - tall)
    zoom = np.array([[WIDTH / wide, 0, -left * WIDTH / wide], [0, HEIGHT / tall, -top * HEIGHT / tall]], np.float32)
    return np.asarray(cv2.warpAffine(picture, zoom, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE))


def main() -> None:
    """Write the clip."""
    picture = cv2.imread(str(HERE / "chelsea.png"))
    video = cv2.VideoWriter(str(HERE / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    for time in np.linspace(0, 1, FRAMES):
        share = time * time * (3 - 2 * time)  # gently off, gently to a stop
        video.write(view(picture, 0.02 + 0.5 * share, 0.95 - 0.5 * share, 0.34 + 0.6 * share))
    video.release()


if __name__ == "__main__":
    main()
