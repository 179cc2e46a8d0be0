"""The requests about this host itself, as a part of the relay that a run hardly imports more of."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message
    from ..host.echo_server import Mirror
    from ..host.modules import Search


class Checks:
    """Requests by name, as those of the relay are. Everything is imported when it is asked for."""

    root: str
    mirror: Mirror | None = None
    searching: Search | None = None

    def do_clock(self, request: Message) -> Message:
        """The clock here."""
        return {"time": time.time()}

    def do_search(self, request: Message) -> Message:
        """Begins to look for modules; the relay goes on meanwhile."""
        from ..host.modules import Search

        self.searching = Search(request["modules"], request["env"], request["folder"])
        return {}

    def do_found(self, request: Message) -> Message:
        """Which of them are not there."""
        return {"missing": self.searching.missing() if self.searching else []}

    def do_survey(self, request: Message) -> Message:
        """All that can be said of this host by itself."""
        from ..host.survey import survey

        return survey(self.root, request.get("modules", []), request.get("env", {}),
                      request.get("paths", []))  # fmt: skip

    def do_end_orphans(self, request: Message) -> Message:
        """Kills what earlier runs left here."""
        from ..host.run_folders import end_strays

        return {"ended": end_strays(self.root)}

    def do_mirror(self, request: Message) -> Message:
        """Answers the tests of other hosts from now on."""
        from ..host.echo_server import Mirror

        if self.mirror:
            self.mirror.close()
        self.mirror = Mirror(request["ports"], request["token"])
        return self.mirror.places()

    def do_unmirror(self, request: Message) -> Message:
        """No longer."""
        if self.mirror:
            self.mirror.close()
            self.mirror = None
        return {}

    def do_resolve(self, request: Message) -> Message:
        """What the names of other hosts mean here."""
        from ..host.reachability import resolve_all

        return {"names": resolve_all(request["names"])}

    def do_explore(self, request: Message) -> Message:
        """The ways to other hosts."""
        from ..host.reachability import explore

        return {"ways": explore(request["ways"])}

    def do_bandwidth(self, request: Message) -> Message:
        """How much comes through to another host."""
        from ..host.speed import bandwidth

        return {"bandwidth": bandwidth(request["address"], request["port"], request["token"],
                                       request["seconds"])}  # fmt: skip
