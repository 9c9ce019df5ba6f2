"""attnviz: find, verify, visualise and measure the attention ``g(x)`` of PyTorch vision models.

``import attnviz`` is fast: each name of ``__init__.pyi`` is imported at its first use.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
