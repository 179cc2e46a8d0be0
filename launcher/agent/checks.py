"""The requests about this host itself, as a part of the relay that a run hardly imports more of.

Not responsible for measuring: survey, mirror, paths, speed and modules do that.
"""

import time


class Checks:
    """Requests by name, as those of the relay are. Everything is imported when it is asked for."""

    mirror = None
    searching = None

    def do_clock(self, request):
        """The clock here."""
        return {"time": time.time()}

    def do_search(self, request):
        """Begins to look for modules; the relay goes on meanwhile."""
        from .modules import Search

        self.searching = Search(request["modules"], request["env"], request["folder"])
        return {}

    def do_found(self, request):
        """Which of them are not there."""
        return {"missing": self.searching.missing()}

    def do_survey(self, request):
        """All that can be said of this host by itself."""
        from .survey import survey

        return survey(self.root, request.get("modules", []), request.get("env", {}),
                      request.get("paths", []))  # fmt: skip

    def do_end_orphans(self, request):
        """Kills what earlier runs left here."""
        from .folders import end_strays

        return {"ended": end_strays(self.root)}

    def do_mirror(self, request):
        """Answers the tests of other hosts from now on."""
        from .mirror import Mirror

        if self.mirror:
            self.mirror.close()
        self.mirror = Mirror(request["ports"], request["token"])
        return self.mirror.places()

    def do_unmirror(self, request):
        """No longer."""
        if self.mirror:
            self.mirror.close()
            self.mirror = None
        return {}

    def do_resolve(self, request):
        """What the names of other hosts mean here."""
        from .paths import resolve_all

        return {"names": resolve_all(request["names"])}

    def do_explore(self, request):
        """The ways to other hosts."""
        from .paths import explore

        return {"ways": explore(request["ways"])}

    def do_bandwidth(self, request):
        """How much comes through to another host."""
        from .speed import bandwidth

        return {"bandwidth": bandwidth(request["address"], request["port"], request["token"],
                                       request["seconds"])}  # fmt: skip
