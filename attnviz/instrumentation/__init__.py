"""Everything that touches a model: forward wrapper, module hooks, function patches, modes and adapters."""

from attnviz.instrumentation.adapters import ADAPTERS, adapter

__all__ = ["ADAPTERS", "adapter"]
