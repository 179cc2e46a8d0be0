"""Writes the golden records of a version: what two real runs leave here and on their hosts.

``python tests/golden/make.py 0.1`` takes the release from git, ``python tests/golden/make.py`` the
one of this working tree. Records of a release that is out are never written again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from launcher.spec.version import __version__  # noqa: E402
from support import lab as labs  # noqa: E402
from support import releases  # noqa: E402

#: Where it happens, since records hold paths.
PLACE = Path("/tmp/golden")
INVENTORY = """
ssh_config: {config}
defaults: {{python: python3, user: root, env: {{SITE: lab}}}}
hosts:
  lab1: {{labels: {{rack: r1}}}}
  lab2: {{}}
groups:
  all: [lab1, lab2]
"""
#: Fails once, is started again, and writes an output.
RESTARTED = """
name: restarted
run: |
  echo "rank $RANK of attempt $LAUNCHER_ATTEMPT"
  [ "$LAUNCHER_ATTEMPT$RANK" != 01 ] || {{ echo "went wrong" >&2; exit 3; }}
  echo "$RANK" > "$LAUNCHER_OUTPUT_DIR/$RANK.txt"
framework: env
num_nodes: 2
setup: echo set up
envs: {{A: b}}
secrets: [TOKEN]
max_restarts: 1
"""
#: Roles, stopped by its user.
STOPPED = """
name: stopped
framework: env
num_nodes: 2
roles:
  boss:
    run: sleep 600
    {lead}: true
    on_exit: {{fail: 11-20}}
  worker:
    replicas: 2
    spread: true
    resources: {{cpus: 1}}
    overrides: {{1: {{envs: {{X: y}}}}}}
    run: sleep 600
"""
#: What of a run's folder is golden, and the journals of its hosts beside it.
FILES = ("*.json", "*.jsonl")


def main(version: str) -> None:
    """Both runs, into a folder named by the version."""
    shutil.rmtree(PLACE, ignore_errors=True)
    (PLACE / "work").mkdir(parents=True)
    code = PLACE / "code"
    if version in releases.RELEASES:
        if trouble := releases.unpack(version, code):
            sys.exit(trouble)
    else:
        code = ROOT
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(PLACE),
        "LAUNCHER_HOME": str(PLACE / "home"),
        "PYTHONPATH": str(code),
        "TOKEN": "unseen",
    }
    lead = "lead" if version == "0.1" else "primary"

    def call(*words: str) -> int:
        argv = [sys.executable, "-m", "launcher", *words]
        return subprocess.run(argv, cwd=PLACE / "work", env=env, check=False).returncode

    specs = [labs.HostSpec("lab1"), labs.HostSpec("lab2")]
    target = HERE / version
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder, labs.Lab(specs, Path(folder)) as lab:
        config = PLACE / "ssh_config"
        config.write_text(lab.ssh_config.read_text())
        (PLACE / "inventory.yaml").write_text(INVENTORY.format(config=config))
        for name, text in {"restarted": RESTARTED, "stopped": STOPPED}.items():
            (PLACE / "work" / f"{name}.yaml").write_text(text.format(lead=lead))
        where = ("-i", str(PLACE / "inventory.yaml"))
        assert call("run", *where, "restarted.yaml") == 0
        assert call("run", *where, "--detach", "stopped.yaml") == 0
        assert call("stop", "stopped", "--grace", "1s") == 0
        for run in sorted((PLACE / "home" / "runs").iterdir()):
            kept = target / run.name.partition("-")[0]
            kept.mkdir(parents=True)
            for pattern in FILES:
                for file in run.glob(pattern):
                    shutil.copy(file, kept)
            for host in lab.hosts.values():
                journal = f"/root/.launcher/host/runs/{run.name}/journal.jsonl"
                (kept / f"journal-{host.name}.jsonl").write_bytes(host.read(journal))
    shutil.rmtree(PLACE)
    print(f"{target}: {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".".join(__version__.split(".")[:2]))
