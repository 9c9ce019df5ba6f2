"""Pictures and files that are none, for runs of many images; and what a run wrote."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CLI = Path(__file__).parent / "cli"
TINY = "tiny_model:build"
ODD_NAME = "<img src=x onerror=alert(1)>\"'\n&日本é.png"


def picture(seed: int, width: int = 40, height: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG whose header declares 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rows(folder: Path, table: str) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(folder / table).to_pylist()


def parquet(folder: Path) -> dict[str, bytes]:
    """Every Parquet file of a run, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}
