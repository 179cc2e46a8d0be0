#!/bin/sh
# Installs the Debian packages that the suite and the demo need and this machine lacks.
# The first argument is "sudo" or nothing. Without apt or rights it says what is missing.
sudo=$1
missing=
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
have rsync || missing="$missing rsync"
have git || missing="$missing git"
have ssh || missing="$missing openssh-client"
have sshd || missing="$missing openssh-server"
have ip || missing="$missing iproute2"
have nft || missing="$missing nftables"
have g++ || missing="$missing g++" # it and the next two build horovod
have cmake || missing="$missing cmake"
have make || missing="$missing make"
have mpirun || missing="$missing openmpi-bin libopenmpi-dev"
have sudo || missing="$missing sudo"
have slurmd && have slurmctld && have sbatch || missing="$missing slurmd slurmctld slurm-client"
have ruby || missing="$missing ruby"
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
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
