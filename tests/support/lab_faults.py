"""How to break a host of a lab: its cable, its firewall, its sshd and its clock.

Its power is in lab_host.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.lab_host import Host
from support.lab_spec import LAUNCHER, keygen, sh, source, wait_until


class LabHost(Host):
    """A host of a lab, with its faults."""

    # Its cable and its firewall.

    def unplug(self) -> None:
        """Pull the cable out of the switch."""
        sh(["ip", "link", "set", self._cable, "down"])

    def plug(self) -> None:
        """Put the cable back."""
        sh(["ip", "link", "set", self._cable, "up"])

    def block_port(self, port: int, from_host: str | None = None) -> None:
        """Drop packets to a TCP port, from everywhere or from one host (or LAUNCHER).

        Established connections are cut off, too. The host still reaches its own port.
        """
        match = source(self._site.addresses[from_host]) if from_host else ""
        self._drop("blocked", f"{match} tcp dport {port}")

    def drop_packets(self, from_host: str = LAUNCHER) -> None:
        """Drop every packet from the launcher's machine, or from another host."""
        self._drop("blocked", source(self._site.addresses[from_host]))

    def unblock(self) -> None:
        """Undo `block_port` and `drop_packets`."""
        self._net(["nft", "flush chain inet lab blocked"])

    def loss(self, percent: int) -> None:
        """Lose this percentage of incoming packets; 0 for none."""
        self._net(["nft", "flush chain inet lab lossy"])
        if percent:  # nft refuses the comparison that is always true
            self._drop("lossy", f"numgen random mod 100 < {percent}" if percent < 100 else "")

    def slow(self, mbit: float) -> None:
        """Limit the cable to this many Mbit/s in each direction; 0 for no limit."""
        # A bucket of 10 ms, and never less than a few packets: see tc-tbf(8) on burst and HZ.
        rate = ["rate", f"{mbit}mbit", "burst", f"{max(32_000, int(mbit * 1250))}"]
        shape = ["tbf", *rate, "latency", "100ms"]
        for dev, tc in ((self._cable, sh), (self.spec.interface, self._net)):
            tc(["tc", "qdisc", "replace", "dev", dev, "root", *(shape if mbit else ["noqueue"])])

    def join(self, other: LabHost, interface: str, far: str) -> None:
        """Connect two hosts with a second cable. `interface` is its name here, `far` there."""
        ends = ((self, interface, 1), (other, far, 2))
        pids = [str(host.pid) for host, *_ in ends]
        mine, peer = [interface, "netns", pids[0]], ["name", far, "netns", pids[1]]
        sh(["ip", "link", "add", *mine, "type", "veth", "peer", *peer])
        for host, name, number in ends:
            host._net(["ip", "address", "add", f"172.30.7.{number}/24", "dev", name])
            host._net(["ip", "link", "set", name, "up"])

    def _drop(self, chain: str, match: str) -> None:
        self._net(["nft", f'add rule inet lab {chain} iifname != "lo" {match} drop'])

    def _net(self, command: Sequence[str]) -> None:
        """Run this machine's tool in the host's network, whatever is hidden on the host."""
        sh(["nsenter", f"--target={self.pid}", "--net", "--", *command])

    # Its sshd.

    def freeze_sshd(self) -> None:
        """Stop the listener: the kernel accepts connections, and then nobody speaks."""
        self._signal("STOP", [self._listener()])

    def thaw_sshd(self) -> None:
        """Let the listener continue."""
        self._signal("CONT", [self._listener()])

    def kill_sshd_sessions(self) -> None:
        """Kill the sshd process of every connection; keep the listener, and what runs."""
        listener = self._listener()
        found = [pid for pid, name, *_ in self._all_processes() if name.startswith("sshd")]
        self._signal("KILL", [pid for pid in found if pid != listener])

    def stop_sshd(self) -> None:
        """Kill the listener: new connections are refused, established ones stay."""
        listener = self._listener()
        self._signal("KILL", [listener])
        wait_until(lambda: not self.exists(f"/proc/{listener}"), f"end of {self.name}'s sshd")

    def start_sshd(self) -> None:
        """Start a listener; return when it answers."""
        self._say("sshd")
        wait_until(self._answers, f"sshd of {self.name} answers, see {self.dir / 'sshd.log'}")

    def max_sessions(self, count: int) -> None:
        """Allow so many sessions on each new connection."""
        config = "/etc/ssh/lab/sshd_config"
        lines = self.read(config).splitlines()
        kept = [line for line in lines if not line.startswith(b"MaxSessions")]
        self.write(config, b"\n".join([*kept, b"MaxSessions %d" % count]) + b"\n")
        self.stop_sshd()
        self.start_sshd()

    def set_clock(self, offset: int) -> None:
        """Show whatever sshd starts from now on a clock that is `offset` seconds off; 0 to undo.

        lab_clock.c is preloaded there, since the kernel has one clock for all hosts. Monotonic
        clocks, and the times of files, which the kernel writes, stay true.
        """
        self._preload(f"LAB_CLOCK={offset}" if offset else None, "lab_clock.c")

    def even_seconds(self, *, keep: bool = True) -> None:
        """Have whatever sshd starts from now on set times of files to even seconds; or undo that.

        Times that the kernel sets stay exact.
        """
        self._preload("LAB_EVEN=1" if keep else None, "lab_even_seconds.c")

    def _preload(self, setting: str | None, code: str) -> None:
        """Load a library of ours into whatever sshd starts from now on; with None, none."""
        config, library = "/etc/ssh/lab/sshd_config", "/etc/ssh/lab/preloaded.so"
        kept = [line for line in self.read(config).splitlines() if b"LD_PRELOAD" not in line]
        if setting:
            made = self.dir / "preloaded.so"
            source = str(Path(__file__).with_name(code))
            sh(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), source, "-ldl"])
            self.write(library, made.read_bytes(), 0o755)
            kept.append(f"SetEnv LD_PRELOAD={library} {setting}".encode())
        self.write(config, b"\n".join(kept) + b"\n")
        self.stop_sshd()
        self.start_sshd()

    def change_host_key(self) -> None:
        """Give the host a new key for good: `known_hosts` no longer matches."""
        self.stop_sshd()
        fresh = self.dir / "fresh_key"
        sh(keygen(fresh))
        self.write("/etc/ssh/lab/host_key", fresh.read_bytes(), 0o600)
        for path in (fresh, fresh.with_suffix(".pub")):
            path.unlink()
        self.start_sshd()

    def _listener(self) -> int:
        return int(self.read("/run/sshd.pid"))

    def _signal(self, name: str, pids: Sequence[int]) -> None:
        if pids:  # one may just have exited: no failure
            self.run("sh", "-c", f"kill -{name} {' '.join(map(str, pids))}", check=False)
