"""Shell text for the longer changes that bootstrap makes on a host.

Each can be cut off at any point and run again.
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
