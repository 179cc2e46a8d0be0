#!/bin/sh
# Builds horovod's wheel against the torch of an environment and installs it there.
#
#   sh build-horovod.sh PYTHON [REQUIREMENT...]
#
# The wheel is kept in $LAUNCHER_WHEELS (by default ~/.cache/launcher/wheels), in a folder named by the
# versions of horovod, torch, Python and Open MPI, so it is built once: some five minutes of two cores.
# REQUIREMENTs are what it needs besides torch, where certain versions are wanted.
#
# Of horovod's frameworks this builds torch, of its controllers gloo, and MPI where Open MPI is there
# with its headers (HOROVOD_WITHOUT_MPI=1 leaves that out). Some things need help:
# - It asks for C++14, torch's headers want C++20: a wrapper around g++ says the one for the other.
# - Its part gloo asks for a CMake older than those that CMake 4 still knows: a variable says it may.
# - Of its connections between ranks, those of process sets (the one of all ranks among them) forget
#   HOROVOD_GLOO_IFACE and take the address of the host's own name. Where that is 127.0.1.1, as in
#   Debian's /etc/hosts, ranks on two hosts never meet. One line passes the interface on.
# What goes wrong is told on stderr in two lines: "error: ..." and "hint: ...".
set -eu
python=$1
shift
[ $# -gt 0 ] || set -- cffi cloudpickle packaging psutil PyYAML
version=0.28.1
build=1 # another wheel for the same versions
packages="can $python reach its index of packages? $python -m pip download horovod==$version"
fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
pip() { "$python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

key=$("$python" -c 'import platform; from importlib.metadata import version
print(version("torch"), "python" + platform.python_version(), platform.machine(), sep="-")' 2>/dev/null) ||
    fail "there is no torch in $python, which horovod is built for" "$python -m pip install torch"
mpi=
if [ "${HOROVOD_WITHOUT_MPI:-0}" != 1 ] && command -v mpirun >/dev/null 2>&1; then
    mpi=$(mpicxx --showme:version 2>/dev/null | sed -n 's/.*Open MPI \([0-9][0-9.]*\).*/-openmpi\1/p')
fi
name=$version-$build-torch-$key$mpi
wheels=${LAUNCHER_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/launcher/wheels}/horovod-$name
installed=$("$python" -c 'import horovod, pathlib; print(pathlib.Path(horovod.__file__).with_name("built-as").read_text())' 2>/dev/null || true)
[ "$installed" != "$name" ] || exit 0
pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null 2>&1 ||
    fail "there is no pip in $python" "$python -m ensurepip, or uv venv --seed"

build_wheel() {
    for tool in g++ cmake make; do
        command -v $tool >/dev/null 2>&1 || fail "$tool is missing on $(uname -n), and horovod has to be compiled" \
            "Debian: apt-get install g++ cmake make python3-dev; Red Hat: dnf install gcc-c++ cmake make python3-devel"
    done
    echo "building horovod $version against torch ($key$mpi): some five minutes, once"
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/horovod.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT TERM
    cat >"$scratch/c++" <<'SH'
#!/bin/sh
for word; do
    shift
    case $word in -std=*) word=-std=c++20 ;; esac
    set -- "$@" "$word"
done
exec g++ "$@"
SH
    chmod +x "$scratch/c++"
    pip install "$@" 'setuptools>=70.1,<85' || fail "what horovod needs could not be installed" "$packages"
    pip download --no-binary :all: --no-deps --no-build-isolation -d "$scratch" "horovod==$version" ||
        fail "the source of horovod $version could not be fetched" "$packages"
    tar -xzf "$scratch/horovod-$version.tar.gz" -C "$scratch"
    file=$scratch/horovod-$version/horovod/common/gloo/gloo_context.cc
    sed -i '/GlooContext::InitializeForProcessSet(/,/^}/ s/^  device_attr.iface = gloo_iface_;$/  gloo_iface_ = global_context.gloo_iface_;\n&/' "$file"
    grep -q 'gloo_iface_ = global_context.gloo_iface_' "$file" ||
        fail "the source of horovod $version is not the one that was known" "where does pip find it? pip config list"
    with_mpi=HOROVOD_WITHOUT_MPI=1
    [ -z "$mpi" ] || with_mpi=HOROVOD_WITH_MPI=1
    mkdir -p "$wheels"
    env -u HOROVOD_WITHOUT_MPI "$with_mpi" HOROVOD_WITH_GLOO=1 HOROVOD_WITH_PYTORCH=1 \
        HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 CMAKE_POLICY_VERSION_MINIMUM=3.5 \
        CXX="$scratch/c++" TMPDIR="$scratch" MAKEFLAGS="${HOROVOD_MAKEFLAGS:--j2}" \
        nice "$python" -m pip --disable-pip-version-check wheel --use-pep517 --no-build-isolation --no-deps \
        --wheel-dir "$scratch/wheel" "$scratch/horovod-$version" >"$wheels/build.log" 2>&1 ||
        fail "horovod $version could not be built: $(grep -E 'error:|Error' "$wheels/build.log" | head -n 1)" \
            "its whole log is $wheels/build.log"
    mv "$scratch"/wheel/horovod-*.whl "$wheels/"
}

if ! ls "$wheels"/horovod-*.whl >/dev/null 2>&1; then
    build_wheel "$@"
fi
pip install "$@" || fail "what horovod needs could not be installed" "$packages"
pip install --no-deps --force-reinstall "$wheels"/horovod-*.whl
said=$("$python" -c 'import horovod.torch, pathlib, sys
pathlib.Path(sys.modules["horovod"].__file__).with_name("built-as").write_text(sys.argv[1])' "$name" 2>&1) ||
    fail "horovod is installed and cannot be imported: $(printf %s "$said" | tail -n 1)" \
        "built anew it may do: rm -r $wheels, then again"
