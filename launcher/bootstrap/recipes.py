"""Shell text for the longer changes that bootstrap makes on a host.

Not responsible for when they are made. Each can be cut off at any point and run again.
"""

# The lists of a fresh machine are empty, those of an old one stale: only then they are fetched. A
# lock may be held by the machine's own upgrade, and an earlier one may have been cut off.
APT = """\
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt() {{ apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }}
install() {{ apt install -y --no-install-recommends {names}; }}
install >/dev/null 2>&1 || {{ dpkg --configure -a; apt update; install >/dev/null; }}"""

# awk: the line of 127.x with the name n keeps localhost; its other names go to the address a.
MOVE_NAMES = r"""
/^127\./ {
    left = $1; names = ""; mine = 0
    for (i = 2; i <= NF; i++) {
        if ($i == n) mine = 1
        if ($i ~ /^localhost/) left = left " " $i
        else names = names " " $i
    }
    if (mine) { if (left != $1) print left; print a names; next }
}
{ print }"""

# It asks for C++14, and headers of torch want more than that: a wrapper says the one for the other.
BUILD_HOROVOD = """\
set -e
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/c++" <<'END'
#!/bin/sh
for word; do
    shift
    case $word in -std=*) word=-std=c++20 ;; esac
    set -- "$@" "$word"
done
exec g++ "$@"
END
chmod +x "$scratch/c++"
{install} cffi cloudpickle packaging psutil PyYAML wheel 'setuptools<85'
export CXX="$scratch/c++" HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1
export HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 HOROVOD_{mpi}_MPI=1
{install} --no-build-isolation --no-deps {what}"""
