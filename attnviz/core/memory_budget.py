"""What a capture keeps, given its memory needs and the available memory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch

from attnviz.errors import CaptureError

Keep: TypeAlias = Literal["full", "rows", "summary"]
KEEPS: tuple[Keep, ...] = get_args(Keep)

UNCHECKED_BYTES = 64 * 2**20
"""Needs up to this size are not checked: querying the memory takes longer than capturing a small model."""

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes(
    device: torch.device | None = None, meminfo: Path = MEMINFO, control_group: Path = CONTROL_GROUP
) -> int | None:
    """Available memory of a device in bytes; ``None`` if unknown.

    Args:
        device: By default the CPU.
        meminfo: File with Linux's estimate for the machine.
        control_group: Folder with the limit of the container.
    """
    device = device or torch.device("cpu")
    if device.type == "cuda" and torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserved)
    if device.type != "cpu":
        return None
    found = [n for n in (_from_meminfo(meminfo), _from_control_group(control_group)) if n is not None]
    return min(found) if found else _from_sysconf()


def _from_meminfo(path: Path) -> int | None:
    """Available memory as Linux estimates it, with the reclaimable page cache, which ``sysconf`` excludes."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _from_control_group(folder: Path) -> int | None:
    """Remaining memory below the limit of a container."""
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None


def _from_sysconf() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def choose(wanted: Keep | Literal["auto"], needed: Mapping[Keep, int], available: int | None) -> Keep:
    """Choose what to keep.

    Args:
        wanted: The requested choice; ``"auto"`` takes the largest one that fits into half of the memory, or else the
            smallest.
        needed: Estimated bytes of each choice.
        available: Available bytes; ``None`` if unknown, which allows any choice.

    Raises:
        CaptureError: the choice does not fit; lists those that do.

    >>> choose("auto", {"full": 900, "rows": 90, "summary": 9}, available=1000)
    'rows'
    """
    fits = (keep for keep in KEEPS if available is None or needed[keep] <= available // 2)
    chosen = next(fits, KEEPS[-1]) if wanted == "auto" else wanted
    if available is not None and needed[chosen] > available:
        fitting = [f"keep={keep!r} ({in_words(needed[keep])})" for keep in KEEPS if needed[keep] <= available]
        raise CaptureError(
            f"a capture with keep={chosen!r} needs about {in_words(needed[chosen])}, but "
            f"{in_words(available)} are available: use {' or '.join(fitting) or 'fewer sites or images'}"
        )
    return chosen


def in_words(size: int) -> str:
    """A number of bytes with a binary unit.

    >>> in_words(22_143_590)
    '21.1 MiB'
    """
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
