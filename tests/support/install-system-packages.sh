#!/bin/sh
# Installs the Debian packages that this machine lacks, by what for:
#
#   sh tests/support/install-system-packages.sh demo|test|frameworks [sudo]
#
# Without apt or rights it says what is missing.
what=$1 sudo=${2:-}
missing=
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
case $what in
demo)
    have rsync || missing="$missing rsync"
    have git || missing="$missing git"
    have ssh || missing="$missing openssh-client"
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
    ;;
test)
    have sshd || missing="$missing openssh-server"
    have ip || missing="$missing iproute2"
    have nft || missing="$missing nftables"
    have g++ || missing="$missing g++" # it and the next three build horovod
    have cmake || missing="$missing cmake"
    have make || missing="$missing make"
    have mpirun && have mpicxx || missing="$missing openmpi-bin libopenmpi-dev"
    have patchelf || missing="$missing patchelf" # install-python.sh needs it
    have sudo || missing="$missing sudo"
    have ruby || missing="$missing ruby"
    have tcsh && have fish && have zsh && have busybox || missing="$missing tcsh fish zsh busybox-static"
    have chromium || missing="$missing chromium"
    ldconfig -p 2>/dev/null | grep -q libatomic.so.1 || missing="$missing libatomic1" # node of playwright
    [ -e /usr/share/modules/init/bash ] || missing="$missing environment-modules"
    have bwrap || missing="$missing bubblewrap"
    have sshfs || missing="$missing sshfs"
    have dnf && have rpmbuild && have createrepo_c || missing="$missing dnf rpm createrepo-c"
    ;;
frameworks)
    have slurmd && have slurmctld && have sbatch || missing="$missing slurmd slurmctld slurm-client"
    have podman && have crun && have newuidmap || missing="$missing podman crun uidmap"
    ldd "$(command -v busybox)" 2>&1 | grep -q "not a dynamic" || missing="$missing busybox-static" # in images
    have dockerd || missing="$missing docker.io"
    have npm || missing="$missing npm" # for azurite
    ;;
esac
[ -n "$missing" ] || exit 0
echo "installing$missing"
if ! have apt-get; then
    echo "please install:$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get install -y -qq $missing >/dev/null 2>&1 && exit 0
$sudo apt-get update -qq && $sudo apt-get install -y -qq $missing >/dev/null && exit 0
echo "could not install$missing; tests that need them will say so" >&2
