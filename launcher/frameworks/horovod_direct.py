"""horovod-direct: Horovod's ranks and its rendezvous server, started by the agents.

There is no horovodrun: only the ranks themselves connect to other hosts.
"""

from __future__ import annotations

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from . import rsh
from .base import Framework, Place
from .horovod import COMPUTED, HOROVOD, environment

# It exits with the ranks of its host: until then they may shut Horovod down and start it again.
SERVER = """\
import json, os, sys, threading, time
try:
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
except ImportError as error:
    sys.exit("%s\\n%s has no Horovod" % (error, sys.executable))
port, hosts, size, ranks = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
try:
    server = RendezvousHTTPServer(("", port), RendezvousHandler, 0)
except OSError as error:
    sys.exit("port %d: %s" % (port, error))
server.daemon_threads = True
server.init(get_host_assignments(parse_hosts(hosts), size))
threading.Thread(target=server.serve_forever, daemon=True).start()
attempt = int(os.environ["LAUNCHER_ATTEMPT"])
ended, text = 0, b""
with open(os.path.join(os.environ["LAUNCHER_RUN_DIR"], "journal.jsonl"), "rb") as journal:
    while ended < ranks:
        text += journal.read()
        *lines, text = text.split(b"\\n")
        for record in map(json.loads, lines):
            ended += (record["event"] == "ProcessExited" and record["attempt"] == attempt
                      and record["key"].startswith("rank-"))
        time.sleep(0.2)
"""


class HorovodDirect(Framework):
    """For the same scripts as ``horovod``.

    Source of the variables: create_slot_env_vars and create_run_env_vars in horovod.runner.gloo_run.
    """

    name = "horovod-direct"
    about = "one process per rank with Horovod's environment, without horovodrun"
    computed = COMPUTED
    needs = (HOROVOD,)
    allreduce = "horovod"
    ip_versions = frozenset({4})

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per rank, which waits for the server; on the first host also the server."""
        node, layout, meeting = place.node, place.layout, place.meeting
        address, port = meeting.master_addr, str(meeting.master_port)
        shared = {
            **environment(place),
            "HOROVOD_HOSTNAME": node.host.name,
            "HOROVOD_SIZE": str(layout.world_size),
            "HOROVOD_LOCAL_SIZE": str(node.local_world_size),
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_PORT": port,
        }
        wait = (node.python, "-I", "-S", place.agent, "await-port", address, port, "--")
        ranks = tuple(
            Process(
                str(ProcessKey.of_rank(rank)),
                rank,
                (*wait, *rsh.own_command(place)),
                {
                    **shared,
                    "HOROVOD_RANK": str(rank),
                    "HOROVOD_LOCAL_RANK": str(local_rank),
                    **_across(place, local_rank),
                },
            )
            for local_rank, rank in enumerate(node.ranks)
        )
        if node.node_rank > 0:
            return ranks
        words = (port, rsh.slots(place.layout), str(layout.world_size), str(len(ranks)))
        server = (node.python, "-c", SERVER, *words)
        return (Process(str(ProcessKey.of_node(0)), None, server, dict(place.env)), *ranks)


def _across(place: Place, local_rank: int) -> dict[str, str]:
    """Return the variables that number a rank among those with the same local rank."""
    ranks = [n.node_rank for n in place.layout.nodes if n.local_world_size > local_rank]
    return {
        "HOROVOD_CROSS_RANK": str(ranks.index(place.node.node_rank)),
        "HOROVOD_CROSS_SIZE": str(len(ranks)),
    }
