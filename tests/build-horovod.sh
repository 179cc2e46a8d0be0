#!/bin/sh
# Builds horovod's wheel against the torch of an environment and installs it there.
#
#   sh tests/build-horovod.sh PYTHON
#
# The wheel is kept in $LAUNCHER_WHEELS (by default ~/.cache/launcher/wheels), in a folder named by the
# versions of horovod, torch and Python, so it is built once: some five minutes of two cores.
# Of horovod's controllers this builds gloo, of its frameworks torch. Two things need help:
# - It asks for C++14, torch's headers want C++20: a wrapper around g++ says the one for the other.
# - Of its connections between ranks, those of process sets (the one of all ranks among them) forget
#   HOROVOD_GLOO_IFACE and take the address of the host's own name. Where that is 127.0.1.1, as in
#   Debian's /etc/hosts, ranks on two hosts never meet. One line passes the interface on.
set -eu
python=$1
version=0.28.1
build=1 # another wheel for the same versions
needs="cffi==2.1.1 cloudpickle==3.1.2 packaging==26.3 psutil==7.2.2 PyYAML==6.0.3"
pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }

key=$("$python" -c 'import platform; from importlib.metadata import version
print(version("torch"), "python" + platform.python_version(), platform.machine(), sep="-")' 2>/dev/null) ||
    { echo "horovod: there is no torch in $python" >&2; exit 1; }
wheels=${LAUNCHER_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/launcher/wheels}/horovod-$version-$build-torch-$key
installed=$("$python" -c 'import horovod, pathlib; print(pathlib.Path(horovod.__file__).with_name("built-as").read_text())' 2>/dev/null || true)
[ "$installed" != "$version-$build-torch-$key" ] || exit 0

build_wheel() {
    for tool in g++ cmake make; do
        command -v $tool >/dev/null 2>&1 || { echo "horovod: $tool is missing here" >&2; exit 1; }
    done
    echo "building horovod $version against torch ($key): some five minutes, once"
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
    pip install $needs 'setuptools<85'
    pip download --no-binary :all: --no-deps --no-build-isolation -d "$scratch" "horovod==$version"
    tar -xzf "$scratch/horovod-$version.tar.gz" -C "$scratch"
    file=$scratch/horovod-$version/horovod/common/gloo/gloo_context.cc
    sed -i '/GlooContext::InitializeForProcessSet(/,/^}/ s/^  device_attr.iface = gloo_iface_;$/  gloo_iface_ = global_context.gloo_iface_;\n&/' "$file"
    grep -q 'gloo_iface_ = global_context.gloo_iface_' "$file" ||
        { echo "horovod: its source is not the one that was known" >&2; exit 1; }
    CXX="$scratch/c++" TMPDIR="$scratch" MAKEFLAGS="${HOROVOD_MAKEFLAGS:--j2}" \
        HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
        HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 \
        nice "$python" -m pip --disable-pip-version-check wheel --no-build-isolation --no-deps \
        --wheel-dir "$scratch/wheel" "$scratch/horovod-$version" >"$scratch/log" 2>&1 ||
        { tail -n 40 "$scratch/log" >&2; exit 1; }
    mkdir -p "$wheels"
    mv "$scratch"/wheel/horovod-*.whl "$wheels/"
}

ls "$wheels"/horovod-*.whl >/dev/null 2>&1 || build_wheel
pip install $needs
pip install --no-deps --force-reinstall "$wheels"/horovod-*.whl
"$python" -c 'import horovod.torch, pathlib, sys
pathlib.Path(sys.modules["horovod"].__file__).with_name("built-as").write_text(sys.argv[1])' "$version-$build-torch-$key"
