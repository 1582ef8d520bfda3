#!/bin/sh
# Builds the sample guest: a bootable x86_64 BIOS disk with Debian's cloud kernel and busybox, without root.
# It reaches a shell on its serial console, answers the ACPI power button, panics on request (pvpanic) and runs the
# QEMU guest agent.
#
#   build-linux-guest.sh           build it, or find it in the cache; the path is the last line on stdout
#   build-linux-guest.sh --check   only say what is missing
#
# The cache is ${XDG_CACHE_HOME:-~/.cache}/qemu-operator; everything in it may be deleted at any time.
set -eu
umask 022
export LC_ALL=C

say() { echo "$*" >&2; }
fail() { say "build-linux-guest: $*"; exit 1; }

# --- what it needs -----------------------------------------------------------------------------------------

# Prints the Debian packages whose commands are missing, one line each: the package and what it is for.
missing_packages() {
  command -v mformat >/dev/null && command -v mcopy >/dev/null || echo mtools
  command -v syslinux >/dev/null || echo syslinux
  command -v qemu-img >/dev/null || echo qemu-utils
  command -v flock >/dev/null || echo util-linux
}

check_tools() {
  for tool in apt-get apt-cache dpkg dpkg-deb; do
    command -v $tool >/dev/null ||
      fail "needs a Debian system ($tool is not here): the guest is made from Debian's kernel and busybox packages"
  done
  [ "$(dpkg --print-architecture)" = amd64 ] ||
    fail "needs Debian on amd64, this is $(dpkg --print-architecture): depmod of the guest's own busybox runs here"
  packages=$(missing_packages | tr '\n' ' ')
  [ -z "$packages" ] || fail "missing: ${packages% }. Install with: sudo apt-get install --no-install-recommends ${packages% }"
}

# --- which packages the guest is made of -------------------------------------------------------------------

as_apt() {
  if [ "$(id -u)" = 0 ]; then
    # Root's apt would try to write as user _apt, who cannot reach a private folder.
    apt-get -qq -o APT::Sandbox::User=root "$@"
  else
    apt-get -qq "$@"
  fi
}

# linux-image-cloud-amd64 is empty and depends on the kernel of the day.
kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image-.*cloud/ { print $2; exit }'
}

# The agent is linked against shared libraries: their packages, and those that these need.
agent_packages() {
  found=qemu-guest-agent more=$found
  while [ -n "$more" ]; do
    # shellcheck disable=SC2086
    needed=$(apt-cache depends --important $more 2>/dev/null | awk '$1 ~ /Depends:$/ && $2 ~ /^lib/ { print $2 }' | sort -u)
    more=''
    for package in $needed; do
      case " $found " in *" $package "*) ;; *) found="$found $package" more="$more $package" ;; esac
    done
  done
  echo "$found"
}

# --- the guest's own files ---------------------------------------------------------------------------------

MODULES="virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio_console virtio-rng button evdev
  pvpanic-mmio pvpanic-pci i6300esb ahci sd_mod sr_mod isofs vfat nls_cp437 nls_ascii nls_iso8859-1 nls_utf8"

# The modules of the list that this kernel has, with what they depend on, as paths below lib/modules/VERSION.
module_files() { # modules.dep
  for module in $MODULES; do echo "$module"; done | awk -v dep="$1" '
    function base(path) { sub(/.*\//, "", path); sub(/\.ko.*/, "", path); gsub(/_/, "-", path); return path }
    BEGIN { while ((getline line < dep) > 0) { split(line, part, ": *"); path[base(part[1])] = part[1]; needs[part[1]] = part[2] } }
    { name = $1; gsub(/_/, "-", name); if (!(name in path)) next
      count = split(needs[path[name]], list, " ")
      for (i = 1; i <= count; i++) if (!seen[list[i]]++) print list[i]
      if (!seen[path[name]]++) print path[name] }'
}

write_guest_files() { # initrd folder
  mkdir -p "$1/bin" "$1/sbin" "$1/dev" "$1/proc" "$1/sys" "$1/tmp" "$1/run" "$1/var/log" "$1/etc/acpi" "$1/disk" \
    "$1/root" "$1/usr/bin" "$1/usr/sbin" "$1/usr/share/udhcpc"

  cat >"$1/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s 2>/dev/null
exec /sbin/init
INIT

  cat >"$1/etc/inittab" <<'INITTAB'
::sysinit:/etc/rc
ttyS0::respawn:-/bin/sh
tty1::respawn:-/bin/sh
::once:/etc/agent
::respawn:/sbin/acpid -f -c /etc/acpi -a /etc/acpid.conf -l /var/log/acpid.log
::shutdown:/bin/umount /disk
::ctrlaltdel:/sbin/reboot
INITTAB

  cat >"$1/etc/rc" <<'RC'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
for module in $(cat /etc/modules); do modprobe "$module" 2>/dev/null; done
hostname linux
ifconfig lo up
# The first disk is the one this system was booted from: what is written there stays, all else is memory.
mount -t vfat -o sync /dev/vda /disk 2>/dev/null
for net in /sys/class/net/eth*; do
  [ -e "$net" ] || continue
  ifconfig "${net##*/}" up
  udhcpc -i "${net##*/}" -b -S -s /usr/share/udhcpc/default.script >/dev/null 2>&1 &
done
exit 0
RC

  # Without udev nobody names the ports of /dev/virtio-ports.
  cat >"$1/etc/agent" <<'AGENT'
#!/bin/sh
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  [ -s "$port/name" ] && ln -sf "../${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"
done
port=/dev/virtio-ports/org.qemu.guest_agent.0
[ -e "$port" ] || exit 0
exec qemu-ga -m virtio-serial -p "$port" -t /run
AGENT

  # What the agent runs to switch off (-h), restart (-r) or halt (-H).
  cat >"$1/sbin/shutdown" <<'SHUTDOWN'
#!/bin/sh
case $1 in -r) exec reboot ;; -H) exec halt ;; *) echo 'Switching off, as the agent was asked.' >/dev/console; exec poweroff ;; esac
SHUTDOWN

  cat >"$1/etc/os-release" <<'OSRELEASE'
PRETTY_NAME="Linux with busybox"
NAME="Linux"
ID=linux
OSRELEASE

  cat >"$1/etc/profile" <<'PROFILE'
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='linux:\w# '
cd /root
cat <<BANNER

Welcome. This is Linux $(uname -r) with busybox, up for $(cut -d. -f1 /proc/uptime) s:
$(nproc) CPU, $(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB of memory, files below /disk are kept.
Type a command, \`poweroff\` to switch it off.

BANNER
PROFILE

  # busybox acpid runs ./ACTION below its -c folder; a path here would silently do nothing.
  echo 'PWRF power-off' >"$1/etc/acpid.conf"
  cat >"$1/etc/acpi/power-off" <<'POWEROFF'
#!/bin/sh
echo 'Power button pressed: switching off.' >/dev/console
sync
umount /disk 2>/dev/null
exec poweroff -f
POWEROFF

  cat >"$1/usr/share/udhcpc/default.script" <<'UDHCPC'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet"
[ -z "$router" ] || route add default gw "${router%% *}" dev "$interface" 2>/dev/null
: >/etc/resolv.conf
for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
exit 0
UDHCPC

  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\n' >"$1/etc/group"
  chmod 755 "$1/init" "$1/etc/rc" "$1/etc/agent" "$1/sbin/shutdown" "$1/etc/acpi/power-off" "$1/usr/share/udhcpc/default.script"
}

# The agent and the libraries that its own loader finds for it.
add_agent() { # agent tree, initrd folder
  loader=$(find "$1" -name 'ld-linux-x86-64.so.2' | head -n 1)
  folders=$(find "$1" -name '*.so.*' ! -path '*/gconv/*' | sed 's|/[^/]*$||' | sort -u | tr '\n' ':')
  mkdir -p "$2/lib64" "$2/lib/x86_64-linux-gnu"
  cp -L "$loader" "$2/lib64/ld-linux-x86-64.so.2"
  "$loader" --library-path "$folders" --list "$1/usr/sbin/qemu-ga" | awk '$2 == "=>" { print $3 }' |
    while read -r library; do cp -L "$library" "$2/lib/x86_64-linux-gnu/"; done
  cp "$1/usr/sbin/qemu-ga" "$2/usr/sbin/qemu-ga"
}

build_initrd() { # kernel tree, busybox, agent tree, initrd folder, output
  release=$(ls "$1/lib/modules")
  "$2" depmod -b "$1" "$release"
  write_guest_files "$4"
  cp "$2" "$4/bin/busybox"
  ln -s busybox "$4/bin/sh"
  add_agent "$3" "$4"
  module_files "$1/lib/modules/$release/modules.dep" | while read -r file; do
    mkdir -p "$4/lib/modules/$release/${file%/*}"
    cp "$1/lib/modules/$release/$file" "$4/lib/modules/$release/$file"
  done
  "$2" depmod -b "$4" "$release"
  for module in $MODULES; do echo "$module"; done >"$4/etc/modules"
  (cd "$4" && find . | sort | "$2" cpio -o -H newc -R 0:0 2>/dev/null | gzip -6n) >"$5"
}

# --- the disk ----------------------------------------------------------------------------------------------

# A FAT disk without partitions: its first sector is syslinux's, and a BIOS starts it like any disk's.
build_disk() { # kernel, initrd, work folder, output
  cat >"$3/syslinux.cfg" <<'SYSLINUX'
DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND console=tty0 console=ttyS0,115200 quiet panic=0 net.ifnames=0
SYSLINUX
  # mtools would otherwise compare the geometry with its own ideas and refuse.
  export MTOOLS_SKIP_CHECK=1
  mformat -C -i "$3/disk.raw" -h 64 -s 32 -t 48 ::
  mcopy -i "$3/disk.raw" "$1" ::vmlinuz
  mcopy -i "$3/disk.raw" "$2" ::initrd.gz
  mcopy -i "$3/disk.raw" "$3/syslinux.cfg" ::syslinux.cfg
  syslinux --install "$3/disk.raw"
  qemu-img convert -q -f raw -O qcow2 "$3/disk.raw" "$4"
}

# --- from start to end -------------------------------------------------------------------------------------

hash_of() { sha256sum | cut -c1-12; }

build() { # image
  say "Building the sample Linux disk (once; about 33 MB of Debian packages)"
  work=$(mktemp -d "$cache/build.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT HUP TERM
  mkdir "$work/deb" "$work/kernel" "$work/busybox" "$work/agent" "$work/initrd"
  # shellcheck disable=SC2086
  (cd "$work/deb" && as_apt download $packages) >&2 ||
    fail "apt-get could not download $packages. Bring its lists up to date with: sudo apt-get update"
  dpkg-deb -x "$work"/deb/linux-image-*.deb "$work/kernel"
  dpkg-deb -x "$work"/deb/busybox-static_*.deb "$work/busybox"
  for package in "$work"/deb/qemu-guest-agent_*.deb "$work"/deb/lib*.deb; do dpkg-deb -x "$package" "$work/agent"; done
  say "Packing kernel, $(echo "$MODULES" | wc -w) modules and busybox"
  build_initrd "$work/kernel" "$work/busybox/bin/busybox" "$work/agent" "$work/initrd" "$work/initrd.gz"
  build_disk "$work"/kernel/boot/vmlinuz-* "$work/initrd.gz" "$work" "$work/disk.qcow2"
  mv "$work/disk.qcow2" "$1"
  say "Built $1"
}

check_tools
kernel=$(kernel_package)
[ -n "$kernel" ] || uris=''
packages="$kernel busybox-static $(agent_packages)"
# shellcheck disable=SC2086
[ -z "$kernel" ] || uris=$(as_apt --print-uris download $packages 2>/dev/null || true)

cache=${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/qemu-operator
name=linux-x86_64-$(hash_of <"$0")

if [ -z "$uris" ]; then
  # Without apt's lists the versions are unknown; an image that this very script built serves as well.
  image=$(ls -t "$cache/$name"-*.qcow2 2>/dev/null | head -n 1)
  [ -n "$image" ] ||
    fail "apt knows no package linux-image-cloud-amd64. Fetch its lists with: sudo apt-get update (this needs Debian)"
else
  # Names and versions, not the mirror's address, decide what is in the image.
  image=$cache/$name-$(echo "$uris" | awk '{ print $2, $4 }' | hash_of).qcow2
fi
[ "${1:-}" != --check ] || exit 0

if [ ! -s "$image" ]; then
  mkdir -p "$cache"
  exec 9>"$cache/.lock"
  flock 9
  [ -s "$image" ] || build "$image"
fi
echo "$image"
