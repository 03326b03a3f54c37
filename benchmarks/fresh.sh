#!/bin/bash
# Tries README's two commands on a fresh system that has git and Python and nothing else: made by debootstrap, as root and
# as an ordinary user. Prints how long each took and how many bytes it received.
#
#     sudo benchmarks/fresh.sh [bookworm|noble] [root|user] [train|bench]...     all users and commands if none is named
#     sudo benchmarks/fresh.sh user train -- --set steps=1                       what follows -- goes to the commands
#
# Needs root, debootstrap and slirp4netns (apt-get install debootstrap slirp4netns; for noble Ubuntu's archive keyring too). The
# system has processes, mounts and a network of its own, and the checkout is a clone of this one's last commit. Index
# settings such as PIP_INDEX_URL or SWE_AEM_TORCH_INDEX and a bundle of certificates in SSL_CERT_FILE are handed on.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=${FRESH_DIR:-/var/tmp/swe-aem-fresh}

if [ "${1:-}" != --inside ]; then
    suite=bookworm users=() commands=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        case $1 in
            bookworm | noble) suite=$1 ;;
            root | user) users+=("$1") ;;
            train | bench) commands+=("$1") ;;
            *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        esac
        shift
    done
    export FRESH_ARGUMENTS="${*:2}"
    [ ${#users[@]} -gt 0 ] || users=(root user)
    [ ${#commands[@]} -gt 0 ] || commands=(bench train)
    mkdir -p "$work"
    if [ ! -e "$work/$suite.tar" ]; then
        options=(--variant=minbase --include=git,python3) scripts=/usr/share/debootstrap/scripts
        mirror=http://deb.debian.org/debian script=$scripts/$suite
        if [ "$suite" = noble ]; then
            options+=(--components=main,universe --keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg)
            mirror=http://archive.ubuntu.com/ubuntu script=$scripts/gutsy # what every Ubuntu since then is a link to
        fi
        rm -rf "$work/$suite"
        debootstrap "${options[@]}" "$suite" "$work/$suite" "${FRESH_MIRROR:-$mirror}" "$script" >"$work/debootstrap.log"
        tar -C "$work/$suite" -cf "$work/$suite.tar.part" .
        mv "$work/$suite.tar.part" "$work/$suite.tar"
        rm -rf "${work:?}/$suite"
    fi
    for user in "${users[@]}"; do
        root=$(mktemp -d "$work/$suite-$user.XXXX")
        trap 'rm -rf "$root"' EXIT
        tar -C "$root" -xf "$work/$suite.tar"
        chmod 755 "$root"
        home=$root/home/user
        mkdir -p "$home"
        git -c advice.detachedHead=false clone --quiet "file://$here" "$home/swe-aem"
        chown -R 1000:1000 "$home"
        [ "$user" != root ] || chown -R 0:0 "$home"
        [ -z "${SSL_CERT_FILE:-}" ] || cp "$SSL_CERT_FILE" "$root/etc/fresh-certificates.pem"
        unshare --mount --pid --net --ipc --uts --fork --kill-child "$0" --inside "$root" "$user" "${commands[@]}" &
        inside=$!
        until [ "$(readlink "/proc/$inside/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
        slirp4netns --configure --mtu=65520 "$inside" tap0 >"$work/network.log" 2>&1 &
        network=$!
        status=0
        wait "$inside" || status=$?
        kill "$network" 2>/dev/null || true
        wait "$network" 2>/dev/null || true
        rm -rf "$root"
        [ $status = 0 ] || exit $status
    done
    exit
fi

# Inside: a root, mounts and processes of its own, and a network that slirp4netns is about to set up.
shift
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
until grep -q '^tap0' /proc/net/route; do sleep 0.1; done
echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
mkdir "$root/before"
cd "$root"
pivot_root . before
umount -l /before
rmdir /before

variables=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/home/user LANG=C.UTF-8)
for name in PIP_INDEX_URL UV_DEFAULT_INDEX UV_INDEX_URL SWE_AEM_TORCH_INDEX HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [ -z "${!name:-}" ] || variables+=("$name=${!name}")
done
[ ! -e /etc/fresh-certificates.pem ] || variables+=(SSL_CERT_FILE=/etc/fresh-certificates.pem)
as=()
[ "$user" = root ] || as=(setpriv --reuid 1000 --regid 1000 --clear-groups)

received() { awk '/tap0/ { print $2 }' /proc/net/dev; }
. /etc/os-release
cd /home/user/swe-aem
for command in "$@"; do
    case $command in
        bench) line="./start bench tasks/micro --policy gold --limit 4" ;;
        train) line="./start train configs/quickstart.yaml --out runs/quickstart" ;;
    esac
    for line in "$line $FRESH_ARGUMENTS" "./start $command --help"; do
        printf '\n== %s, as %s: %s\n' "$PRETTY_NAME" "$user" "$line"
        bytes=$(received) SECONDS=0 status=0
        env -i "${variables[@]}" "${as[@]}" $line </dev/null || status=$?
        printf '== exit code %d, %d s, %d MB received, .venv has %d MB\n' \
            $status $SECONDS $((($(received) - bytes) / 1000000)) "$(du -sm .venv | cut -f1)"
        [ $status = 0 ] || exit $status
    done
done
