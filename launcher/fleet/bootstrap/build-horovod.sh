#!/bin/sh
# Builds horovod's wheel against the torch of an environment, and installs it there.
#
#   sh build-horovod.sh PYTHON [REQUIREMENT...]
#
# The wheel is kept in $LAUNCHER_WHEELS (default: ~/.cache/launcher/wheels), in a folder named after the
# versions of horovod, torch, Python and Open MPI, so it is built once: about five minutes on two cores.
# REQUIREMENTs are horovod's dependencies besides torch, for pinned versions.
#
# It builds horovod for torch, with gloo, and with MPI if Open MPI and its headers are installed
# (HOROVOD_WITHOUT_MPI=1 builds without). The source and its build tool are checked by hash. Three
# things need help:
# - horovod asks for C++14, but torch's headers need C++20: a wrapper around g++ replaces the option.
# - Its gloo asks for a CMake older than CMake 4 supports: a variable raises that minimum.
# - Connections of process sets, including that of all ranks, ignore HOROVOD_GLOO_IFACE and use the
#   address of the host's own name. If that is 127.0.1.1, as in Debian's /etc/hosts, ranks on two hosts
#   never meet. One line passes the interface on.
# Failures are two lines on stderr: "error: ..." and "hint: ...".
set -eu
python=$1
shift
[ $# -gt 0 ] || set -- cffi cloudpickle packaging psutil PyYAML
version=0.28.1
build=1 # raise it to build another wheel of the same versions
packages="can $python reach its package index? try $python -m pip download horovod==$version"
fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }
pip() { "$python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

key=$("$python" -c 'import platform; from importlib.metadata import version
print(version("torch"), "python" + platform.python_version(), platform.machine(), sep="-")' 2>/dev/null) ||
    fail "there is no torch in $python, and horovod is built for it" "$python -m pip install torch"
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

# Wheels are installed without a hash: a wheel of our own build has no known one.
require_private() {
    [ -z "$(find "$wheels" -prune \( ! -user 0 ! -user "$(id -u)" -o -perm -0002 \))" ] ||
        fail "$wheels can be changed by other users" "remove it, or set LAUNCHER_WHEELS to a folder of your own"
}

build_wheel() {
    for tool in g++ cmake make; do
        command -v $tool >/dev/null 2>&1 || fail "$tool is missing on $(uname -n), and horovod must be compiled" \
            "Debian: apt-get install g++ cmake make python3-dev; Red Hat: dnf install gcc-c++ cmake make python3-devel"
    done
    echo "building horovod $version against torch ($key$mpi): about five minutes, once"
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
    cat >"$scratch/tools.txt" <<'TXT'
setuptools==75.3.2; python_version < "3.9" --hash=sha256:90ab613b6583fc02d5369cbca13ea26ea0e182d1df2d943ee9cbe81d4c61add9
setuptools==80.9.0; python_version >= "3.9" --hash=sha256:062d34222ad13e0cc312a4c02d73f059e86a4acbfbdea8f8f76b28c99f306922
TXT
    cat >"$scratch/source.txt" <<TXT
horovod==$version --hash=sha256:92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0
TXT
    pip install "$@" || fail "horovod's dependencies could not be installed" "$packages"
    pip install --require-hashes --no-deps --target "$scratch/tools" -r "$scratch/tools.txt" ||
        fail "setuptools, which builds horovod, could not be fetched, or has another hash" "$packages"
    PYTHONPATH=$scratch/tools "$python" -m pip --quiet --disable-pip-version-check --no-input download \
        --require-hashes --no-binary :all: --no-deps --no-build-isolation -d "$scratch" -r "$scratch/source.txt" ||
        fail "the source of horovod $version could not be fetched, or has another hash" "$packages"
    tar -xzf "$scratch/horovod-$version.tar.gz" -C "$scratch"
    file=$scratch/horovod-$version/horovod/common/gloo/gloo_context.cc
    sed -i '/GlooContext::InitializeForProcessSet(/,/^}/ s/^  device_attr.iface = gloo_iface_;$/  gloo_iface_ = global_context.gloo_iface_;\n&/' "$file"
    grep -q 'gloo_iface_ = global_context.gloo_iface_' "$file" ||
        fail "the source of horovod $version could not be patched" "is sed GNU sed? sed --version"
    with_mpi=HOROVOD_WITHOUT_MPI=1
    [ -z "$mpi" ] || with_mpi=HOROVOD_WITH_MPI=1
    (umask 022 && mkdir -p "$wheels")
    require_private
    env -u HOROVOD_WITHOUT_MPI "$with_mpi" PYTHONPATH="$scratch/tools" HOROVOD_WITH_GLOO=1 HOROVOD_WITH_PYTORCH=1 \
        HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 CMAKE_POLICY_VERSION_MINIMUM=3.5 \
        CXX="$scratch/c++" TMPDIR="$scratch" MAKEFLAGS="${HOROVOD_MAKEFLAGS:--j2}" \
        nice "$python" -m pip --disable-pip-version-check wheel --use-pep517 --no-build-isolation --no-deps \
        --wheel-dir "$scratch/wheel" "$scratch/horovod-$version" >"$wheels/build.log" 2>&1 ||
        fail "horovod $version could not be built: $(grep -E 'error:|Error' "$wheels/build.log" | head -n 1)" \
            "the whole log is $wheels/build.log"
    mv "$scratch"/wheel/horovod-*.whl "$wheels/"
}

if ! ls "$wheels"/horovod-*.whl >/dev/null 2>&1; then
    build_wheel "$@"
fi
require_private
pip install "$@" || fail "horovod's dependencies could not be installed" "$packages"
pip install --no-deps --force-reinstall "$wheels"/horovod-*.whl
output=$("$python" -c 'import horovod.torch, pathlib, sys
pathlib.Path(sys.modules["horovod"].__file__).with_name("built-as").write_text(sys.argv[1])' "$name" 2>&1) ||
    fail "horovod is installed but cannot be imported: $(printf %s "$output" | tail -n 1)" \
        "build it again: rm -r $wheels, then repeat"
