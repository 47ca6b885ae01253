#!/bin/sh
# Installs the agent on this device: binary, user, directories, configuration, unit. Run it again to update; an existing
# configuration and what the agent remembers are kept.
#
#   sudo ./install.sh BINARY BUNDLE        e.g. sudo ./install.sh target/release/millgate-edge models/factory
#
# DESTDIR=/some/where installs below that directory, without user and unit start (for images and packages).
set -eu

usage() {
    echo "usage: $0 BINARY BUNDLE" >&2
    exit 2
}

[ $# -eq 2 ] || usage
binary=$1
bundle=$2
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}

[ -x "$binary" ] || { echo "$binary: is not an executable" >&2; exit 1; }
if [ -d "$bundle" ]; then
    [ -f "$bundle/bundle.toml" ] || { echo "$bundle: holds no bundle.toml" >&2; exit 1; }
elif [ ! -f "$bundle" ]; then
    echo "$bundle: no such bundle" >&2
    exit 1
fi
if [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
    echo "run it as root, or set DESTDIR" >&2
    exit 1
fi

# Before anything is changed: a bundle that this binary cannot use on this device is not installed.
"$binary" check --local --bundle "$bundle"

if [ -z "$root" ] && ! id millgate >/dev/null 2>&1; then
    useradd --system --home-dir /var/lib/millgate --shell /usr/sbin/nologin millgate
fi

install -d "$root/usr/local/bin" "$root/etc/millgate" "$root/etc/systemd/system"
install -d -m 0750 "$root/var/lib/millgate" "$root/var/lib/millgate/state"
install -d -m 0700 "$root/var/lib/millgate/identity"

# Put beside its place and renamed, so that a power cut leaves the old binary or the new one. (Of the bundle it may leave
# neither in place: `bundle.old` and `bundle.new` are there then; run this again.)
install -m 0755 "$binary" "$root/usr/local/bin/.millgate-edge.new"
mv "$root/usr/local/bin/.millgate-edge.new" "$root/usr/local/bin/millgate-edge"

place=$root/var/lib/millgate/bundle
rm -rf "$place.new"
cp -R "$bundle" "$place.new"
rm -rf "$place.old"
[ ! -e "$place" ] || mv "$place" "$place.old"
mv "$place.new" "$place"

[ -e "$root/etc/millgate/edge.toml" ] || install -m 0644 "$here/edge.toml" "$root/etc/millgate/edge.toml"
install -m 0644 "$here/edge.service" "$root/etc/systemd/system/millgate-edge.service"

if [ -z "$root" ]; then
    chown -R millgate:millgate /var/lib/millgate
    systemctl daemon-reload
    systemctl enable millgate-edge
    systemctl restart millgate-edge
    systemctl --no-pager --lines 5 status millgate-edge
fi

echo "next: add your camera's folder to $root/etc/millgate/edge.toml ([[sources]]), then"
echo "      millgate-edge check --config /etc/millgate/edge.toml && systemctl restart millgate-edge"
