"""The public plugin API: what may be extended, as pluggy hook specifications by phase.

A plugin marks its functions with :data:`hookimpl` and names itself with the module
attributes that :mod:`axoneme.hooks.lifecycle` describes.
"""

from axoneme.hooks.markers import API_VERSION, PROJECT, hookimpl, hookspec

__all__ = ["API_VERSION", "PROJECT", "hookimpl", "hookspec"]
