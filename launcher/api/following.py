"""What faces need to show of runs that are followed again."""

from __future__ import annotations

from ..runner.follow_all import News, What
from ..runner.unfollowed import Refreshed

__all__ = ["News", "Refreshed", "What"]
