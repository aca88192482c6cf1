#!/bin/sh
# Installs meshd from the archive this lies in, or brings an installed one up to date: no network, no compiler.
#   ./install.sh [FOLDER]     FOLDER: where its environment goes, ~/.local/share/meshd-app unless named
#   PYTHON=/path/to/python    the interpreter to use, where the one on PATH is not wanted
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$HOME/.local/share/meshd-app}
. "$here/HOST"

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

kind="$(uname -s)-$(uname -m)"
[ "$kind" = "$KIND" ] || fail "this archive is for $KIND, and this host is $kind; make one on a host like this (just bundle)"

python=${PYTHON:-python$PYTHON_VERSION}
command -v "$python" > /dev/null || fail "no $python here; install it, or name one with PYTHON=/path/to/python"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$PYTHON_VERSION" ] || fail "$python is Python $found, and this archive is for $PYTHON_VERSION; set PYTHON"

libc=$(getconf GNU_LIBC_VERSION 2> /dev/null || echo "glibc 0")
oldest=$(printf '%s\n%s\n' "${libc#glibc }" "$GLIBC" | sort -V | head -n 1)
[ "$oldest" = "$GLIBC" ] || fail "this host has $libc, older than the $GLIBC this was made with; make it on the older host"

for flag in $CPU_FLAGS; do
    grep -qw "$flag" /proc/cpuinfo || fail "the engine in here uses the CPU's $flag, which this host does not have; make \
the archive on the older host"
done

(cd "$here" && sha256sum --check --quiet SHA256SUMS) || fail "the archive is damaged; copy it again"

"$python" -m venv --without-pip "$folder"
pip=$(echo "$here"/pip-*.whl) # a wheel runs as it lies
"$folder/bin/python" "$pip/pip" install --quiet --upgrade --no-index --find-links "$here/wheels" \
    --no-cache-dir --disable-pip-version-check --no-warn-script-location "meshd-gpu[$EXTRAS]"

if [ -d "$here/engine" ]; then # one that `just engine` built, for this kind of GPU
    data=${XDG_DATA_HOME:-$HOME/.local/share}/meshd
    mkdir -p "$data"
    rm -rf "$data/engine"
    cp -R "$here/engine" "$data/engine"
fi

echo "meshd $("$folder/bin/meshd" version) is installed: $folder/bin/meshd"
