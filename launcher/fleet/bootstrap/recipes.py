"""Shell scripts for the longer changes that bootstrap makes on a host.

Each may be interrupted at any point and run again.
"""

# Package lists are fetched only if the install fails without them: they may be empty or stale. The
# machine's own upgrade may hold the lock, and an earlier install may have been interrupted.
APT = """\
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt() {{ apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"; }}
install() {{ apt install -y --no-install-recommends {names}; }}
install >/dev/null 2>&1 || {{ dpkg --configure -a; apt update; install >/dev/null; }}"""

# Hosts that share a home share an environment in it: one after the other changes it.
IN_TURN = """\
set -e
mkdir -p {folder}
if command -v flock >/dev/null; then
  exec 9>{folder}/{name}.lock
  flock 9
fi
"""

# For awk: in the line of 127.x with the name n, keep localhost; move other names to the address a.
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
