"""Task files of other systems: the job that they become, what is said, and that it runs.

Those of Polyaxon and OSMO are in the modules of their documents.
"""

from __future__ import annotations

import re

from support import lab as labs
from support.command import Launcher
from support.task_files import SKYPILOT


def test_a_task_of_skypilot_runs_as_it_is(clean: labs.Lab, launcher: Launcher) -> None:
    dropped = ("accelerators: A100:8", "infra: ssh/my-cluster", "workdir: ~/code")
    lines = [line for line in SKYPILOT.splitlines() if line.strip() not in dropped]
    text = "\n".join(lines).replace("pip install -r req.txt", "true") + "\n"
    launcher.script(text, "task.yaml")
    done = launcher.call("import", "skypilot", "task.yaml", "-o", "job.yaml")
    assert done.returncode == 0, done.stderr
    assert "a job in job.yaml" in done.stderr
    assert launcher.call("import", "skypilot", "task.yaml", "-o", "job.yaml").returncode == 2
    launcher.env |= {"WANDB": "1", "HF_TOKEN": "2", "OTHER": "3"}
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    for rank in (0, 1):
        assert f"sky {rank}/2 2 0.1\n" in ran.out
    assert re.search(r"lab(1|\[1-2\]) │ same master\n", ran.out)  # as one, if they came as one
    addresses = [clean.hosts[name].address for name in ("lab1", "lab2")]
    assert re.search(rf"lab(1|\[1-2\]) │ all of them: {' '.join(addresses)} \n", ran.out)


LEAD = """\
type: task
nodes: 2
resources: {gpu: 1}
stop_criteria: master-done
env: {GREETING: hello}
commands:
  - echo "$GREETING from $DSTACK_NODE_RANK of $DSTACK_NODES_NUM" to $DSTACK_NODES_IPS
  - test $DSTACK_NODE_RANK = 0 || sleep 600
"""


def test_a_task_of_dstack_ends_with_its_first_node(clean: labs.Lab, launcher: Launcher) -> None:
    launcher.script(LEAD, "task.dstack.yml")
    launcher.inventory.write_text(launcher.inventory.read_text().replace("{}", "{gpus: 1}"))
    done = launcher.call("import", "dstack", "task.dstack.yml", "-o", "job.yaml")
    assert done.returncode == 0, done.stderr
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    assert ran.receipt["reason"] == "primary-exited-0"
    assert [host["host"] for host in ran.receipt["hosts"]] == ["lab1", "lab2"]
    addresses = " ".join(clean.hosts[name].address for name in ("lab1", "lab2"))
    assert ran.log("master-0.out").decode() == f"hello from 0 of 2 to {addresses}\n"
