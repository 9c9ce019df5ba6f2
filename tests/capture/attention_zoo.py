"""Attention modules as papers describe them: all of them, with the kinds that must be found in each."""

import zoo_gates  # noqa: F401  # each file enters its modules
import zoo_pairwise  # noqa: F401
import zoo_sums  # noqa: F401
from zoo_cases import CASES

__all__ = ["CASES"]
