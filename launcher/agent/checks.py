"""The requests of ``launcher check``, as a part of the relay that a run never imports more of.

Not responsible for measuring: survey and pairs do that.
"""

import time


class Checks:
    """Requests by name, as those of the relay are. Everything is imported when it is asked for."""

    server = None

    def do_clock(self, request):
        """The clock here."""
        return {"time": time.time()}

    def do_survey(self, request):
        """All that can be said of this host by itself."""
        from .survey import survey

        return survey(self.root, request.get("modules", []), request.get("env", {}),
                      request.get("paths", []))  # fmt: skip

    def do_end_orphans(self, request):
        """Kills what earlier runs left here."""
        from .folders import end_strays

        return {"ended": end_strays(self.root)}
