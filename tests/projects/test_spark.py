"""The example of Spark on two hosts, with the real PySpark: ``make test-projects``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.framework_lab import with_python_of

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[2] / "examples" / "spark_pi"
SECRET = "spark-secret-of-this-test"


def test_a_cluster_of_roles(lab: labs.Lab, launcher: Launcher, clean: labs.Lab) -> None:
    """Both workers do their part; nothing of Spark stays, and no command line has the secret."""
    if shutil.which("java") is None:
        pytest.skip("no java here: apt-get install openjdk-17-jre-headless")
    ours = with_python_of("spark", lab, launcher)
    ours = replace(ours, env={**ours.env, "_SPARK_AUTH_SECRET": SECRET})
    shutil.copytree(EXAMPLE, ours.work, dirs_exist_ok=True)
    script = (ours.work / "pi.py").read_text()
    told = 'print("argv", [f for f in glob.glob("/proc/[0-9]*/cmdline") if SECRET in read(f)])\n'
    (ours.work / "pi.py").write_text(script.replace("spark.stop()", f"{SEES}{told}spark.stop()"))
    ran = ours.run("job.yaml", timeout=500)
    assert ran.code == 0, ran.err[-6000:]
    said = ran.log("driver-0.out").decode()
    assert "pi is roughly 3.1" in said
    assert "argv []" in said
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]
    for host in clean.hosts.values():
        assert not [one for one in host.processes() if "java" in one.argv[0]]
    assert len({line.split()[-1] for line in said.splitlines() if line.startswith("part on")}) == 2


#: Added to the script: which hosts worked, and who shows the secret.
SEES = f"""
import glob, socket, time
SECRET = {SECRET!r}.encode()

def read(name):
    try:
        return open(name, "rb").read()
    except OSError:
        return b""

def where(part):
    time.sleep(1)
    return os.environ["POD_IP"]

for place in spark.sparkContext.parallelize(range(16), 16).map(where).collect():
    print("part on", place)
"""
