"""The relay's requests about the host itself, for ``launcher check`` and bootstrap."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message
    from ..host.echo_server import EchoServer
    from ..host.modules import Search


class SelfTests:
    """Requests by name, like the relay's own. Each imports what it needs: a run needs none of it."""

    root: str
    echo_server: EchoServer | None = None
    searching: Search | None = None

    def do_add(self, request: Message) -> Message:
        """Take the rest of the agent: the sizes of its files, and behind the request their content."""
        from ..base import installing  # once for each version of the agent

        target = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        sizes = request["sizes"].encode("ascii")
        installing.install(target, installing.REST, sizes, request["payload"])
        return {}

    def do_clock(self, request: Message) -> Message:
        """Return this host's clock."""
        return {"time": time.time()}

    def do_pythons(self, request: Message) -> Message:
        """Look for the Pythons of environments, each by a script of sh that prints what it has found."""
        from ..host.modules import LOOKING, MOST_SAID
        from ..processes import processes

        found = []
        for script in request["scripts"]:
            lines = (processes.output_of(["sh", "-c", script], LOOKING) or "").splitlines()
            found.append((lines or [""])[-1][: MOST_SAID * 10])
        return {"said": found}

    def do_search(self, request: Message) -> Message:
        """Start to look for modules, in the background."""
        from ..host.modules import Search

        modules, env, behind = request["modules"], request["env"], request.get("behind", [])
        container = request.get("container")
        if self.searching:
            self.searching.end()
        python = request.get("python")
        self.searching = Search(
            modules, env, request["folder"], behind, python, container, self.root
        )
        return {}

    def do_found(self, request: Message) -> Message:
        """Return those of the modules that were not found, and the packages that are installed."""
        return self.searching.result() if self.searching else {"missing": []}

    def do_survey(self, request: Message) -> Message:
        """Survey this host."""
        from ..host.survey import survey

        modules, env = request.get("modules", []), request.get("env", {})
        return survey(self.root, modules, env, request.get("paths", []))

    def do_end_orphans(self, request: Message) -> Message:
        """Kill what earlier runs left here."""
        from ..host.run_folders import end_strays

        return {"ended": end_strays(self.root)}

    def do_mirror(self, request: Message) -> Message:
        """Start to answer the network tests of other hosts."""
        from ..host.echo_server import EchoServer

        if self.echo_server:
            self.echo_server.close()
        self.echo_server = EchoServer(request["ports"], request["token"])
        return self.echo_server.places()

    def do_unmirror(self, request: Message) -> Message:
        """Stop answering them."""
        if self.echo_server:
            self.echo_server.close()
            self.echo_server = None
        return {}

    def do_resolve(self, request: Message) -> Message:
        """Resolve the names of other hosts here."""
        from ..host.reachability import resolve_all

        return {"names": resolve_all(request["names"])}

    def do_explore(self, request: Message) -> Message:
        """Test the routes to other hosts."""
        from ..host.reachability import explore

        return {"ways": explore(request["ways"])}

    def do_bandwidth(self, request: Message) -> Message:
        """Measure the bandwidth to another host."""
        from ..host.speed import bandwidth

        address, port = request["address"], request["port"]
        return {"bandwidth": bandwidth(address, port, request["token"], request["seconds"])}
