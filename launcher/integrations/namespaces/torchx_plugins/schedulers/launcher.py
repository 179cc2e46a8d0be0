"""Where TorchX after 0.7 looks for schedulers: a namespace package, to which each adds a file."""

from __future__ import annotations

from torchx.plugins import register

from launcher.integrations.torchx import LauncherScheduler, create_scheduler


@register.scheduler(name="launcher")  # type: ignore[untyped-decorator] # it has no types
def launcher_scheduler(session_name: str, **kwargs: object) -> LauncherScheduler:
    """Return the scheduler."""
    return create_scheduler(session_name, **kwargs)
