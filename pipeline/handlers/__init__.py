"""Calling the user's code. From here come the ready-made handlers `pipeline.handlers:log` and
`pipeline.handlers:forward`."""

from pipeline.handlers.ready import forward, log

__all__ = ["forward", "log"]
