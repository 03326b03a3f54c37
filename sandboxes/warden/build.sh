#!/bin/sh
# build.sh [OUT] builds the warden for every architecture of $ARCHITECTURES (default: both) whose compiler is there
# (Debian: gcc, gcc-aarch64-linux-gnu) into OUT (default: swe_aem/sandbox/bin/). The binaries are committed, so that
# users need no compiler; a test rebuilds and compares.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../swe_aem/sandbox/bin}
mkdir -p "$out"
digest=$(cd "$here" && LC_ALL=C && cat *.h warden.c | sha256sum | cut -d' ' -f1)
for arch in ${ARCHITECTURES:-x86_64 aarch64}; do
    compiler=$arch-linux-gnu-gcc
    command -v "$compiler" >/dev/null || { echo "no $compiler: the $arch binary stays as it is" >&2; continue; }
    "$compiler" -std=c11 -Os -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-stack-protector -fno-pie \
        -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -nostdlib -static -no-pie \
        -Wl,--build-id=none -Wl,-z,norelro -Wl,-z,noexecstack -s "-DSOURCE_DIGEST=\"$digest\"" \
        -o "$out/warden-$arch" "$here/warden.c"
    echo "$out/warden-$arch: $(wc -c <"$out/warden-$arch") bytes"
done
