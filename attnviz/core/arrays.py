"""The type of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    pass


Array = np.ndarray[Any, np.dtype[Any]]
