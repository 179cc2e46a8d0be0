"""FAKES of micromamba and pixi: no package of pip, apt or npm brings real ones. They take the words of
the real ones, and answer in theirs; what they make is a real Python, in which a real pip installs.

``tiny`` is the one package of micromamba's channel. ``slow`` waits for a file ``go`` in the home, beside a child of
its own; ``away`` is on a server that cannot be reached; ``old`` brings a Python 3.6.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = r"""
import os, subprocess, sys, time
import yaml

home, words = os.path.expanduser("~"), sys.argv[1:]
if words == ["--version"]:
    print("2.0.5")
    sys.exit()
if words[:2] == ["shell", "activate"]:
    print("export PATH='%s/bin:'\"$PATH\" CONDA_PREFIX='%s' CONDA_SHLVL=1 BY=micromamba" % (words[2], words[2]))
    sys.exit()
if words[:3] != ["create", "--yes", "--prefix"] or words[4] != "--file":
    sys.exit("critical libmamba not what micromamba takes: %s" % words)
prefix, file = words[3], words[5]
if os.path.exists(prefix):
    sys.exit("critical libmamba Non-conda folder exists at prefix - aborting.")
with open(os.path.join(home, "builds"), "a") as counted:
    counted.write(prefix + "\n")
print("conda-forge/linux-64  Using cache", flush=True)
wanted = yaml.safe_load(open(file))["dependencies"]
names = [one.partition("=")[0] for one in wanted if isinstance(one, str)]
if "away" in names:
    print("critical libmamba Download error (6) Could not resolve hostname"
          " [https://conda.example.com/linux-64/repodata.json.zst]")
    sys.exit(1)
known = {"python", "pip", "tiny", "slow", "old"}
if unknown := [one for one in wanted if isinstance(one, str) and one.partition("=")[0] not in known]:
    print("error    libmamba Could not solve for environment specs")
    print("    The following package could not be installed")
    for one in unknown:
        print("    └─ %s does not exist (perhaps a typo or a missing channel)." % one)
    print("critical libmamba Could not solve for environment specs")
    sys.exit(1)
os.makedirs(prefix + "/conda-meta")
print("Linking tiny-1.0-0", flush=True)
if "slow" in names:
    child = subprocess.Popen(["sleep", "1000"])
    with open(home + "/slow", "w") as said:
        said.write("%d" % child.pid)
    while not os.path.exists(home + "/go"):
        time.sleep(0.02)
    child.kill()
if "python" in names:
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", prefix])
    for name in ("history", "cuda-cudart-12.4-h0.json", "tiny-1.0-0.json"):
        with open(prefix + "/conda-meta/" + name, "w"):
            pass
if "old" in names:
    os.makedirs(prefix + "/bin")
    with open(prefix + "/bin/python", "w") as python:
        python.write("#!/bin/sh\necho 3.6; exit 1\n")
    os.chmod(prefix + "/bin/python", 0o755)
if "tiny" in names:
    site = subprocess.check_output(
        [prefix + "/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    ).decode().strip()
    os.makedirs(site + "/tiny-1.0.dist-info")
    with open(site + "/tiny.py", "w") as module:
        module.write("version = '1.0'\n")
for one in wanted:
    if isinstance(one, dict):
        with open("mambafrequirements", "w") as lines:
            lines.write("\n".join(one["pip"]))
        pip = [sys.executable, "-m", "pip", "--python", prefix + "/bin/python"]
        if subprocess.call([*pip, "install", "--no-index", "-r", "mambafrequirements"]):
            sys.exit("critical libmamba pip failed to install packages")
"""


def micromamba(file: Path) -> Path:
    """Write the fake; return its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!{sys.executable}\n{_PROGRAM}")
    file.chmod(0o755)
    return file


_PIXI = r"""
import os, re, subprocess, sys

words = sys.argv[1:]
if words == ["--version"]:
    print("pixi 0.72.0")
    sys.exit()
manifest = words[words.index("--manifest-path") + 1]
root = os.path.dirname(manifest)
prefix = root + "/.pixi/envs/default"
text = open(manifest).read()
if words[0] == "shell-hook" and "--frozen" in words and "--no-install" in words:
    scripts = re.findall(r'"([^"]+\.sh)"', text)
    print('export PATH="%s/bin:$PATH"' % prefix)
    print('export CONDA_PREFIX="%s" PIXI_PROJECT_ROOT="%s"' % (prefix, root))
    print("\n".join('. "%s/%s"' % (root, name) for name in scripts))
    sys.exit()
lock = open(root + "/pixi.lock").read()
if words[0] != "install" or not {"--locked", "--frozen"} & set(words):
    sys.exit("error: unexpected argument %s" % words)
if "detached-environments = false" not in open(root + "/.pixi/config.toml").read():
    sys.exit("error: it is built elsewhere")
if "away" in lock:
    sys.stderr.write("Error:   × failed to fetch tiny\n  ├─▶ error sending request for url"
                     " (https://conda.example.com/tiny.conda)\n  ╰─▶ dns error\n")
    sys.exit(1)
if "--locked" in words and "outdated" in lock:
    sys.stderr.write("Error:   × lock-file not up-to-date with the workspace\n  help: run pixi lock\n")
    sys.exit(1)
for name in re.findall(r"^- pypi: \.\S*\n  name: (\S+)", lock, re.M):
    if name not in words[words.index("--skip"):]:
        sys.exit("error: %s is not there" % name)
os.makedirs(prefix + "/conda-meta")
subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", prefix])
site = subprocess.check_output(
    [prefix + "/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
).decode().strip()
with open(site + "/tiny.py", "w") as module:
    module.write("version = '1.0'\n")
"""


def pixi(file: Path) -> Path:
    """Write the fake; return its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!{sys.executable}\n{_PIXI}")
    file.chmod(0o755)
    return file
