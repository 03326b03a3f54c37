#!/bin/sh
# Builds the image of the bundled tasks, swe-aem/micro:1: a plain Python with git and pytest.
#
#   sandboxes/micro/build.sh              from Debian packages with debootstrap (root; no registry needed)
#   sandboxes/micro/build.sh --registry   from debian:bookworm-slim with sandboxes/micro/Dockerfile
#
# With SWE_AEM_ENGINE=podman it becomes an image of podman.
set -eu
image=swe-aem/micro:1
engine=${SWE_AEM_ENGINE:-docker}
if [ "${1:-}" = --registry ]; then
    exec "$engine" build --tag "$image" "$(dirname "$0")"
fi
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 2; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase \
    --include=ca-certificates,git,patch,procps,python3,python3-pip,python3-pytest,python3-setuptools,python3-venv,python3-wheel \
    bookworm "$root" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; exit 1; }
rm -f "$root.log"
ln -s python3 "$root/usr/bin/python"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale
mkdir -p "$root/testbed"
tar -C "$root" --numeric-owner -c . | "$engine" import \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'WORKDIR /testbed' --change 'CMD ["bash"]' - "$image"
