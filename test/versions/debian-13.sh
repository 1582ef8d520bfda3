#!/bin/sh
# Debian 13 in a folder of the cache, with its QEMU 10 and what the tests call, and commands that run in it as if it
# were this machine: same processes, temporary folder, source tree and cache. Needs root and a mount namespace.
#
#   debian-13.sh check                says what stands in the way on this machine
#   debian-13.sh make                 makes it unless the cache has it
#   debian-13.sh run TREE COMMAND...  runs a command there, with the source tree TREE at its own path
set -eu
umask 022
export LC_ALL=C

SUITE=trixie
PACKAGES="qemu-system-x86 qemu-system-arm qemu-utils ovmf qemu-efi-aarch64 mtools syslinux openssh-client openssh-server xorriso
  curl wget openssl ca-certificates file iproute2 procps sudo libatomic1"

fail() { echo "debian-13: $*" >&2; exit 1; }

# --- what it needs -----------------------------------------------------------------------------------------

check_rights() {
  [ "$(id -u)" = 0 ] || fail "QEMU 10 runs in a chroot with mounts of its own, for which this user has no rights. Run as root: sudo npm run test:versions"
  unshare --mount true 2>/dev/null ||
    fail "this machine allows no mount namespace, not even to root (in a container: run it with CAP_SYS_ADMIN). QEMU 10 runs in a chroot with mounts of its own: run this on another machine"
}

# The mirror that this machine's own apt uses; nobody else's address is assumed.
mirror() {
  apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" && $2 !~ /-/ { print $3; exit }'
}

# --- making it ---------------------------------------------------------------------------------------------

make() { # tree
  command -v debootstrap >/dev/null || fail "debootstrap is missing. Run: sudo apt-get install --no-install-recommends debootstrap"
  mirror=$(mirror)
  [ -n "$mirror" ] || fail "apt knows no Debian mirror from which Debian 13 could be fetched. On a Debian system: sudo apt-get update"
  work=$(mktemp -d "$1.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT HUP TERM
  chmod 755 "$work"
  include=$(echo $PACKAGES | tr ' ' ,)
  # It mounts /proc there: in a namespace of its own nothing stays mounted, however it ends.
  unshare --mount --propagation private \
    debootstrap --variant=minbase --include="$include" "$SUITE" "$work" "$mirror" >"$work/made.log" 2>&1 ||
    fail "debootstrap could not make Debian 13: $(tail -n 3 "$work/made.log")"
  # Without lists the sample guest is the one that this machine has made already.
  rm -rf "$work"/var/lib/apt/lists/* "$work"/var/cache/apt/archives/* "$work/made.log" "$work/etc/apt/sources.list"
  tr -d - </proc/sys/kernel/random/uuid >"$work/etc/machine-id"
  mv "$work" "$1"
}

# --- running in it -----------------------------------------------------------------------------------------

# In a mount namespace of our own: all this is gone with the last process, and nobody else sees it.
enter() { # Debian, source tree, folder of the cache, command...
  debian=$1 tree=$2 cache=$3
  shift 3
  mount --bind "$debian" "$debian"
  mkdir -p "$debian$tree" "$debian$HOME"
  for folder in proc sys dev tmp var/tmp; do mount --rbind "/$folder" "$debian/$folder"; done
  # What tests write elsewhere is not to stay.
  for folder in /run "$HOME"; do mount -t tmpfs -o mode=755 tmpfs "$debian$folder"; done
  # Users are made, and granted what sudo may do.
  mount -t tmpfs -o mode=755 tmpfs "$debian/mnt"
  cp -a "$debian/etc/." "$debian/mnt"
  mount --move "$debian/mnt" "$debian/etc"
  mkdir -p "$debian$cache" "$debian$tree"
  mount --bind "$cache" "$debian$cache"
  mount --rbind "$tree" "$debian$tree"
  for file in hosts resolv.conf hostname; do
    [ ! -e "/etc/$file" ] || { touch "$debian/etc/$file" && mount --bind "/etc/$file" "$debian/etc/$file"; }
  done
  mount -o remount,bind,ro "$debian"
  cd "$debian"
  # shellcheck disable=SC2016
  exec chroot . /bin/sh -c 'cd "$0" && exec "$@"' "$tree" "$@"
}

cache=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/qemu-operator
debian=$cache/debian-13-$(echo $SUITE $PACKAGES | sha256sum | cut -c1-12)

case ${1:-} in
  check) check_rights ;;
  make)
    check_rights
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock 9
    [ -d "$debian" ] || make "$debian"
    ;;
  run)
    check_rights
    tree=$2
    shift 2
    exec unshare --mount --propagation private "$0" enter "$debian" "$tree" "$cache" "$@"
    ;;
  enter)
    shift
    enter "$@"
    ;;
  *) fail "check, make, or run TREE COMMAND..." ;;
esac
