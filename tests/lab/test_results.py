"""Results are where people save them: what a run writes beside its outputs is named, and can be had."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal

SAVER = """
import os, pathlib
rank = os.environ["RANK"]
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
pathlib.Path("checkpoints").mkdir(exist_ok=True)
pathlib.Path("checkpoints/model.pt").write_bytes(b"m" * 1_000_000)
pathlib.Path("results.csv").write_text("1,2")
pathlib.Path("__pycache__").mkdir(exist_ok=True)
pathlib.Path("__pycache__/x.pyc").write_text("x")
(out / "metrics.json").write_text("{}")
(out / "big.pt").write_bytes(b"w" * 2_000_000)
"""


def test_what_a_script_saves_beside_its_outputs(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """Named with sizes, brought on request, and not deleted without a question."""
    flags = ["--hosts", "lab1", "--framework", "torch", "--nproc-per-node", "1"]
    ran = launcher.run(*flags, "--keep-on-host", "*.pt", launcher.script(SAVER))
    assert ran.code == 0, ran.err
    folder = ran.folder
    name = folder.name
    assert f"now: launcher pull {name} --also checkpoints,results.csv" in ran.err
    assert "checkpoints/ (1 file, 1.0 MB)  results.csv (3 B)" in ran.err
    assert "kept on the hosts: 1 file, 2.0 MB on lab1" in ran.err
    assert "pycache" not in ran.err
    assert ran.receipt.get("outputs_complete", True)
    left = {(one["path"], one["because"]) for one in ran.receipt["not_brought"]}
    assert left == {
        ("checkpoints/", "outside-outputs"),
        ("results.csv", "outside-outputs"),
        ("", "kept-on-host"),
    }
    outputs = folder / "outputs"
    assert [path.name for path in outputs.iterdir()] == ["metrics.json"]

    refused = launcher.call("rm", name)
    assert refused.returncode == 1
    assert "checkpoints/ (1 file, 1.0 MB)" in refused.stderr
    assert f"launcher rm -y {name}" in refused.stderr
    assert folder.exists()

    dest = tmp_path / "dest"
    only = launcher.call("pull", name, str(dest), "--only", "*.pt")
    assert only.returncode == 0, only.stderr
    got = {path.relative_to(dest / "outputs").as_posix() for path in files(dest / "outputs")}
    assert got == {"big.pt", "checkpoints/model.pt"}
    assert not (outputs / "big.pt").exists(), "straight there"
    assert (dest / "logs" / "attempt-0" / "rank-0.out").exists()

    also = launcher.call("pull", name, "--also", "checkpoints,results.csv", "--json")
    assert also.returncode == 0, also.stderr
    value = json.loads(also.stdout)
    assert (value["files"], value["failed"]) == (3, {})
    assert [one["because"] for one in value["not_brought"]] == ["kept-on-host"]
    assert (outputs / "checkpoints" / "model.pt").stat().st_size == 1_000_000

    again = launcher.call("rerun", name, timeout=90)
    assert again.returncode == 0, again.stderr
    newest = launcher.call("show", "-").stdout
    assert "results.csv (3 B)" in newest, "it wrote its own: those of the first run are no code"
    assert launcher.call("rm", "-y", "-").returncode == 0
    argv = [sys.executable, "-m", "launcher", "rm", name]
    with Terminal(argv, launcher.work, {**launcher.environment(), "TERM": "xterm"}) as terminal:
        terminal.expect("Delete")
        terminal.type("n")
        assert terminal.end() == 1
        assert b"this also deletes 1 file, 2.0 MB on lab1" in terminal.seen
    assert folder.exists()
    assert launcher.call("rm", "-y", name).returncode == 0
    assert not folder.exists()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_auto_brings_small_files_from_anywhere(launcher: Launcher, clean: labs.Lab) -> None:
    """All that fits its limit; the code itself is no result."""
    launcher.script("x = 1\n", "pkg/a.py")
    script = launcher.script(
        "import pathlib\n"
        "pathlib.Path('pkg/log.csv').write_text('1')\n"
        "with open('huge.bin', 'wb') as file: file.truncate(200_000_000)\n"
    )
    ran = launcher.run(
        "--hosts", "lab1", "--framework", "env", "--output", "auto", "--", "python3", script
    )
    assert ran.code == 0, ran.err
    assert {path.name for path in files(ran.folder / "outputs")} == {"log.csv"}
    assert "huge.bin (200.0 MB)" in ran.err
    assert "up to 100.0 MB of each host" in ran.err


def test_outputs_that_do_not_come_are_an_exit_code_of_their_own(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Never 0 where results are missing here, and the next command brings them."""
    outputs = "/tmp/blocked"
    host = clean.hosts["lab1"]
    host.run("rm", "-rf", outputs)
    script = launcher.script(
        "import os, pathlib\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "for n in range(3): (out / f'f{n}').write_bytes(b'x' * 1000)\n"
        "os.rename('/usr/bin/rsync', '/usr/bin/rsync.away')\n"
    )
    try:
        ran = launcher.run("--hosts", "lab1", "--framework", "env", "--", "python3", script)
    finally:
        host.run(
            "sh", "-c", "test ! -e /usr/bin/rsync.away || mv /usr/bin/rsync.away /usr/bin/rsync"
        )
    assert ran.code == 74, ran.err
    assert ran.receipt["status"] == "succeeded"
    assert ran.receipt["outputs_complete"] is False
    assert f"NOT brought back: 3 files, 3.0 kB on lab1: launcher pull {ran.folder.name}" in ran.err
    pulled = launcher.call("pull", ran.folder.name)
    assert pulled.returncode == 0, pulled.stderr
    assert len(files(ran.folder / "outputs")) == 3
    assert launcher.call("rm", ran.folder.name).returncode == 0, "nothing is lost: no question"


def test_ctrl_c_while_outputs_come_back_says_what_stays(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """It was a success without a word, with everything on the host."""
    script = launcher.script(
        "import os, pathlib\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "(out / 'model.pt').write_bytes(os.urandom(40_000_000))\n"
    )
    host = clean.hosts["lab1"]
    host.slow(8)  # 40 s for the file
    flags = ["--hosts", "lab1", "--framework", "env", "--pull-every", "1h"]
    running = launcher.start(*flags, "--", "python3", script)
    try:
        events = launcher.home / "runs"
        labs.wait_until(
            lambda: any(b'"collect"' in f.read_bytes() for f in events.glob("*/events.jsonl")),
            "the collection",
            60,
        )
        running.send_signal(signal.SIGINT)
        assert running.stderr
        said = b""
        while b"Ctrl-C again leaves them on the hosts" not in said:
            line = running.stderr.readline()
            assert line, said.decode()
            said += line
        running.send_signal(signal.SIGINT)
        said += running.communicate(timeout=60)[1]
    finally:
        host.slow(0)
        running.kill()
        running.communicate()
    (folder,) = events.iterdir()
    assert running.returncode == 74, said.decode()
    text = f"NOT brought back: 1 file, 40.0 MB on lab1: launcher pull {folder.name}"
    assert text in said.decode()
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["outputs_failed"] == {"lab1": "you did not wait for them"}
    assert launcher.call("pull", folder.name).returncode == 0
    assert (folder / "outputs" / "model.pt").stat().st_size == 40_000_000


def test_a_file_that_another_host_has(launcher: Launcher, clean: labs.Lab) -> None:
    """Rank 0 saves, all ranks load: without a shared folder the screen says who has it."""
    script = launcher.script(
        "import os, pathlib, socket, time\n"
        "path = pathlib.Path('ckpt/best.pt')\n"
        "where = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])\n"
        "if os.environ['NODE_RANK'] == '0':\n"
        "    path.parent.mkdir()\n    path.write_text('weights')\n"
        "    socket.create_server(('', where[1])).accept()\n    time.sleep(600)\n"
        "while True:\n"
        "    try:\n        socket.create_connection(where)\n        break\n"
        "    except OSError:\n        time.sleep(0.05)\n"
        "print(path.read_text())\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "env", "--grace", "1s", f"python3 {script}")
    assert ran.code == 1
    assert "likely: lab1 has ckpt/best.pt, but lab2 does not: hosts share no files" in ran.err
    assert "Run with --share ckpt: what one host writes there then appears on all hosts" in ran.err


def test_a_module_of_the_workdir_that_a_script_does_not_find(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """As many projects have it: tools/train.py, and the package beside tools."""
    for folder in ("tools", "mynet"):
        (launcher.work / folder).mkdir()
    launcher.script("", "mynet/__init__.py")
    launcher.script("import mynet\nprint('found')\n", "tools/train.py")
    command = ("--framework", "env", "python3", "tools/train.py")
    ran = launcher.run("--nodes", "1", *command)
    assert ran.code == 1
    cause = "likely: mynet is in the workdir, but Python looks for it beside tools/train.py"
    assert cause in " ".join(ran.err.split())
    assert "-e PYTHONPATH=." in ran.err
    assert launcher.run("--nodes", "1", "-e", "PYTHONPATH=.", *command).code == 0


def test_outputs_that_nothing_matches(launcher: Launcher, clean: labs.Lab) -> None:
    script = launcher.script("open('a.pt', 'w').write('x')\n")
    flags = ["--hosts", "lab1", "--framework", "torch", "--nproc-per-node", "1"]
    ran = launcher.run(*flags, "--output", "**/*.pt", "--output", "no it's", script)
    assert ran.code == 0, ran.err
    assert "outputs  nothing was written that matches no it's" in ran.err
    assert (ran.folder / "outputs" / "a.pt").exists()
    assert ran.receipt["unmatched"] == ["no it's"]
    for wrong, why in {
        "../x": "is outside the workdir",
        "~": "is too much",
        "/*": "is too much",
    }.items():
        refused = launcher.run(*flags, "--output", wrong, script)
        assert refused.code == 2
        assert f"--output '{wrong}' {why}" in refused.err


def test_hard_links_stay_links(launcher: Launcher, clean: labs.Lab) -> None:
    """Those of the code on hosts, and those of outputs here; also once one of them has changed."""
    (launcher.work / "data").mkdir()
    (launcher.work / "data" / "one").write_text("x" * 1000)
    os.link(launcher.work / "data" / "one", launcher.work / "data" / "two")
    script = launcher.script(
        """
import os, pathlib, time
assert os.path.samefile("data/one", "data/two"), "those of the code"
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
(out / "ckpt").mkdir()
(out / "ckpt" / "epoch=1.pt").write_bytes(os.urandom(300_000))
os.link(out / "ckpt" / "epoch=1.pt", out / "last.pt")
pathlib.Path("saved").mkdir()
os.link(out / "last.pt", "saved/best.pt")
print("first", flush=True)
while not (out.parent / "go").exists():
    time.sleep(0.05)
(out / "ckpt" / "epoch=2.pt").write_bytes(os.urandom(300_000))
os.link(out / "ckpt" / "epoch=2.pt", out / "next.pt")
os.replace(out / "next.pt", out / "last.pt")
"""
    )
    words = (
        "--hosts",
        "lab1",
        "--framework",
        "torch",
        "--nproc-per-node",
        "1",
        "--output",
        "saved",
    )
    process = launcher.start(*words, "--pull-every", "1s", script)
    runs = launcher.home / "runs"

    def found(name: str) -> list[Path]:
        return list(runs.glob(f"*/outputs/{name}"))

    labs.wait_until(lambda: process.poll() is not None or bool(found("last.pt")), "its outputs", 60)
    outputs = found("last.pt")[0].parent
    assert outputs.joinpath("last.pt").samefile(outputs / "ckpt" / "epoch=1.pt")
    run = outputs.parent.name
    clean.hosts["lab1"].run("touch", f"/root/.launcher/host/runs/{run}/go")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert outputs.joinpath("last.pt").samefile(outputs / "ckpt" / "epoch=2.pt")
    assert outputs.joinpath("saved", "best.pt").samefile(outputs / "ckpt" / "epoch=1.pt")
    there = clean.hosts["lab1"].read(f"/root/.launcher/host/runs/{run}/outputs/last.pt")
    assert there == (outputs / "last.pt").read_bytes()


def test_outputs_outside_of_the_run(launcher: Launcher, clean: labs.Lab) -> None:
    """Absolute paths and ~ mean what they say, on all hosts, for what the run has written there."""
    for name in ("lab1", "lab2"):
        host = clean.hosts[name]
        host.run("rm", "-rf", "/tmp/ckpt", "/root/results", "/tmp/real", "/tmp/to-real")
        host.run("mkdir", "-p", "/tmp/ckpt", "/tmp/real")
        host.run("touch", "-d", "2020-01-01", "/tmp/ckpt/old.pt")
        host.run("ln", "-s", "/tmp/real", "/tmp/to-real")
    script = launcher.script(
        """
import os, pathlib, sys
me = os.environ["LAUNCHER_HOST"]
deep = pathlib.Path("/tmp/ckpt/deep it's")
deep.mkdir(parents=True)
(deep / "a.pt").write_text(me)
(deep / "same.pt").write_text("all")
(deep / "last.pt").symlink_to("a.pt")
(deep / "shadow").symlink_to("/etc/shadow")
home = pathlib.Path("~/results").expanduser()
home.mkdir()
(home / "r.json").write_text("1")
(home / "r.log").write_text("1")
pathlib.Path("/tmp/to-real/x").write_text("x")
pathlib.Path("/tmp/to-real/.launcher").write_text("x")
pathlib.Path("/tmp/one.txt").write_text("one")
"""
    )
    wanted = (
        "/tmp/ckpt",
        "~/results/*.json",
        "/tmp/to-real",
        "/tmp/one.txt",
        "/tmp/none",
        "~/no/*",
    )
    flags = [word for path in wanted for word in ("--output", path)]
    labs.wait_until(lambda: _age(clean, "/tmp/ckpt/old.pt") > 4, "a file older than the run")
    shape = ("--nodes", "2", "--framework", "torch", "--nproc-per-node", "1")
    ran = launcher.run(*shape, *flags, script)
    assert ran.code == 0, ran.err
    deep = "_root/tmp/ckpt/deep it's"
    outputs = {output["path"]: tuple(output["hosts"]) for output in ran.receipt["outputs"]}
    both = ("lab1", "lab2")
    assert outputs == {
        f"{deep}/a@lab1.pt": ("lab1",),
        f"{deep}/a@lab2.pt": ("lab2",),
        f"{deep}/same.pt": both,
        "_home/results/r.json": both,
        "_root/tmp/to-real/x": both,
        "_root/tmp/to-real/.launcher": both,
        "_root/tmp/one.txt": both,
    }
    assert (ran.folder / "outputs" / deep / "a@lab2.pt").read_text() == "lab2"
    assert ran.receipt["unmatched"] == ["/tmp/none", "~/no/*"]
    assert "/tmp/ckpt/deep it's/shadow was left there: it is a link to /etc/shadow" in ran.err
    links = [path for path in (ran.folder / "outputs" / deep).iterdir() if path.is_symlink()]
    assert {path.name: os.readlink(path) for path in links} == {
        "last@lab1.pt": "a@lab1.pt",
        "last@lab2.pt": "a@lab2.pt",
    }
    written = "/tmp/ckpt/deep\\ it\\'s/a.pt"
    labs.wait_until(lambda: _age(clean, written) > 4, "files older than the next run")
    again = launcher.run(
        "--hosts", "lab1", *shape[2:], "--output", "/tmp/ckpt", launcher.script("1")
    )
    assert again.code == 0, again.err
    assert "nothing was written that matches /tmp/ckpt" in again.err, (
        "what was there before is not its"
    )
    pulled = launcher.call("pull", "-", "--also", "~/results")
    assert pulled.returncode == 0, pulled.stderr
    for name in both:
        clean.hosts[name].run(
            "rm", "-rf", "/tmp/ckpt", "/root/results", "/tmp/real", "/tmp/one.txt"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("framework", "step"),
    [("torchrun", "init_process_group()"), ("lightning", "Trainer(num_nodes=...)")],
)
def test_ranks_that_never_meet_are_named(
    launcher: Launcher, clean: labs.Lab, framework: str, step: str
) -> None:
    """As a script without a process group, or a Trainer that counts one machine: each rank trains alone,
    and exits with 0. One that meets for a moment, at its end, has met."""
    meets = launcher.script(
        """
import sys, time
import torch.distributed as dist
time.sleep(11)
if "meet" in sys.argv:
    dist.init_process_group("gloo")
    dist.barrier()
    dist.destroy_process_group()
"""
    )
    shape = ("--nodes", "2", "--nproc-per-node", "1", "--framework", framework, "--no-check")
    alone = launcher.run(*shape, meets)
    assert alone.code == 0, alone.err
    assert "each of 2 worked alone" in alone.err and step in alone.err
    assert alone.receipt["alone"] is True
    together = launcher.run(*shape, meets, "meet")
    assert together.code == 0, together.err
    assert "alone" not in together.err
    assert "alone" not in together.receipts[-1], "left out where it says nothing"


def _age(lab: labs.Lab, path: str) -> float:
    """Return how many seconds ago a file was touched on the hosts, by their clocks."""
    ages = []
    for name in ("lab1", "lab2"):
        now, changed = (
            lab.hosts[name].run("sh", "-c", f"date +%s; stat -c %Z {path}").stdout.split()
        )
        ages.append(float(now) - float(changed))
    return min(ages)
