"""attnviz: find every ``g(x)`` in a PyTorch vision model, prove it, show it, measure it.

``import attnviz`` is cheap: each name of ``__init__.pyi`` is imported when it is first used.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
