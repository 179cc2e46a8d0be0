"""Turn a lab host into one of the Red Hat family: its system's name, no apt, and the real dnf.

It knows nothing of launcher. The packages are real RPMs, built here from this machine's files, in
a folder that is the only repository of the host's dnf: a lab is offline. The rest of the disk is still this machine's.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.lab import LabHost

TOOLS = ("dnf", "rpmbuild", "createrepo_c")
#: By package, as Rocky 9 names it: where a file goes there, and what it is: a file here, or text.
PACKAGES: Mapping[str, Mapping[str, str]] = {
    "rsync": {"/usr/bin/rsync": "/usr/bin/rsync"},
    "python3.11": {"/usr/bin/python3.11": "/usr/bin/python3.11"},
    "openmpi": {"/usr/lib64/openmpi/bin/mpirun": "#!/bin/sh\necho 'mpirun (Open MPI) 4.1.1'\n"},
    "openmpi-devel": {"/usr/lib64/openmpi/bin/mpicxx": '#!/bin/sh\nexec g++ "$@"\n'},
}
OS_RELEASE = """\
NAME="Rocky Linux"
VERSION="9.4 (Blue Onyx)"
ID="rocky"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.4"
PLATFORM_ID="platform:el9"
PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"
"""
REPOSITORY = "/opt/rpms"
REPO = f"[base]\nname=packages of this lab\nbaseurl=file://{REPOSITORY}\ngpgcheck=0\n"
#: The system's own Python, which dnf has beside all others, as on RHEL.
PLATFORM_PYTHON = "/usr/libexec/platform-python"
_GONE = (
    "apt",
    "apt-get",
    "dpkg",
    "rsync",
    "python3",
    "python3.11",
    "python3-config",
    "mpirun",
    "uv",
)
_PACKAGE = """
%package -n {name}
Summary: {name} of a lab
AutoReqProv: no
%description -n {name}
{name}
%files -n {name}
{files}
"""


def missing() -> str:
    """Return the tools that this machine needs for it and does not have, or ""."""
    return " ".join(tool for tool in TOOLS if shutil.which(tool) is None)


def packages(folder: Path) -> Path:
    """Make a repository with all packages in a folder."""
    head = "Name: lab\nVersion: 1\nRelease: 1\nSummary: a lab\nLicense: none\n%description\na lab\n"
    parts, copies = [], []
    for name, files in PACKAGES.items():
        parts.append(_PACKAGE.format(name=name, files="\n".join(files)))
        for number, (there, here) in enumerate(files.items()):
            if not here.startswith("/"):
                text, here = here, str(folder / f"{name}-{number}")
                Path(here).write_text(text)
            copies.append(f"install -D -m 755 {here} %{{buildroot}}{there}")
    spec = folder / "lab.spec"
    spec.write_text(head + "".join(parts) + "%install\n" + "\n".join(copies) + "\n")
    defined = {
        "_topdir": str(folder / "top"),
        "debug_package": "%{nil}",
        "__os_install_post": "%{nil}",
        "_build_id_links": "none",
        "_binary_payload": "w0.gzdio",
    }
    defines = [word for item in defined.items() for word in ("--define", " ".join(item))]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *defines, spec], check=True, capture_output=True)
    made = folder / "top/RPMS"
    subprocess.run(["createrepo_c", "--quiet", "--compatibility", made], check=True)
    return made


def convert(host: LabHost, repository: Path) -> None:
    """Turn a Debian host of a lab into one of the Red Hat family."""
    host.run("mkdir", "-p", REPOSITORY, "/usr/libexec")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(repository, ".")
    host.run("tar", "-x", "-C", REPOSITORY, "--no-same-owner", input=archive.getvalue())
    host.run("cp", "/usr/bin/python3.11", PLATFORM_PYTHON)
    host.run("sed", "-i", f"1s|.*|#!{PLATFORM_PYTHON}|", "/usr/bin/dnf-3")
    host.write("/etc/os-release", OS_RELEASE.encode())
    host.write("/etc/yum.repos.d/lab.repo", REPO.encode())
    for name in _GONE:
        for folder in ("/usr/bin", "/usr/local/bin"):
            host.hide(f"{folder}/{name}")
