"""Instrumentation of a model: forward wrapper, module hooks, function patches, interceptor and adapters."""

from attnviz.instrumentation.adapters import ADAPTERS, adapter

__all__ = ["ADAPTERS", "adapter"]
