"""A command that does nothing in an image: by launcher, by hand, and without an image.

The image is there already; it has a busybox, which is linked statically, and no Python.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from .measure import race, spread, table
from .place import ROOT, Place, labs

sys.path.append(str(ROOT / "tests"))
from support.images import with_podman, write_folder, write_image

MOUNT = ("--mount", "/usr:ro")


def main(rounds: int) -> str:
    """The table."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        specs = [labs.HostSpec("lab1", namespaces=True)]
        share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
        with labs.Lab(specs, scratch / "lab", share) as lab:
            host = lab.hosts["lab1"]
            with_podman(host)
            write_folder(host, "/srv/root")
            write_image(scratch / "x.tar", "tiny:1", busybox=True)
            host.write("/tmp/x.tar", (scratch / "x.tar").read_bytes())
            host.run("podman", "load", "-i", "/tmp/x.tar")
            here = Place(lab, scratch)
            plain = ["--framework", "env", "--", "true", "x"]  # two words: no shell between
            hand = "podman run --rm --network=host --cgroups=disabled --ulimit host"
            far = [*here.ssh().split(), "lab1"]
            commands = {
                "launcher": here.launcher(1, *plain),
                "launcher, podman": here.launcher(1, "--image", "tiny:1", *plain),
                "launcher, bwrap": here.launcher(1, "--image", "/srv/root", *MOUNT, *plain),
                "ssh true": [*far, "true"],
                "ssh podman run": [*far, f"{hand} tiny:1 true"],
            }
            samples = race({name: here.timed(argv) for name, argv in commands.items()}, rounds)
    bare = statistics.median(one.wall for one in samples["launcher"])
    rows = [
        [
            name,
            spread([one.wall for one in found]),
            f"{statistics.median(one.wall for one in found) / bare:.2f}",
        ]
        for name, found in samples.items()
    ]
    names = ("launcher, podman", "launcher", "ssh podman run", "ssh true")
    walls = [[one.wall for one in samples[name]] for name in names]
    price = [(a - b) / (c - d) for a, b, c, d in zip(*walls, strict=True)]
    most, plain, by_hand, nothing = map(statistics.median, walls)
    added = f"{most - plain:.2f} s to launcher, and {by_hand - nothing:.2f} s to ssh"
    told = f"podman adds {added}: {(most - plain) / (by_hand - nothing):.2f}, in rounds {spread(price)}."
    return f"{table(['command', 'seconds', 'of launcher'], rows)}\n\n{told}"
