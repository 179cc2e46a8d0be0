#!/bin/sh
# Unpacks a Python of Debian's unstable release, with the C library it needs, under ~/.cache/launcher.
# The system stays as it is.
#
#   sh tests/support/install-python.sh 3.14
set -e
version=$1 place=${XDG_CACHE_HOME:-$HOME/.cache}/launcher/python$1
keys=/usr/share/keyrings/debian-archive-keyring.gpg
python=$place/usr/bin/python$version
[ -x "$python" ] && exit 0
# Where this machine has its own packages from; empty on Ubuntu.
debian=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n 's/^Debian //p' | head -1)
[ -n "$debian" ] || {
    echo "no Python $version: this machine's packages are not Debian's" >&2
    exit 0
}
for needed in dpkg-deb patchelf $keys; do
    command -v "$needed" >/dev/null || [ -e "$needed" ] || {
        echo "no Python $version: this machine has no $needed" >&2
        exit 0
    }
done
mkdir -p "${place%/*}"
new=$(mktemp -d "$place.XXXXXX")
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/lists/partial" "$new/cache/archives/partial"
echo "deb [signed-by=$keys] $debian sid main" >"$new/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$new/lists" -o Dir::Cache="$new/cache" -o APT::Sandbox::User=root "$@"
}
(
    cd "$new"
    apt update
    apt download libc6 libgcc-s1 zlib1g libzstd1 libexpat1 libffi8 liblzma5 libbz2-1.0 libssl3t64 libuuid1 \
        "libpython$version-minimal" "libpython$version-stdlib" "python$version-minimal"
    for package in *.deb; do dpkg-deb -x "$package" .; done
    # Its own loader and libraries, which its modules inherit.
    loader=$(find . -name 'ld-linux-*.so.*' | head -1)
    libraries=$(dirname "$(find . -name 'libz.so.1' | head -1)")
    patchelf --set-interpreter "$place/${loader#./}" --force-rpath \
        --set-rpath "$place/${libraries#./}" "usr/bin/python$version"
    rm -rf lists cache ./*.deb sources.list usr/share
)
chmod 755 "$new"
mv -T "$new" "$place"
trap - EXIT
"$python" -c 'import json, socket, sys, zlib; print("Python", sys.version.split()[0])'
