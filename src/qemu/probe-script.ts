/**
 * The script of a look, POSIX sh with coreutils: a constant number of processes, however many VMs.
 * Arguments: nonce, boot id file, machine id file, `ports` and `bridges` where they matter, clock ticks per second where
 * they are known, counts of vmDirs and log folders, then vmDirs, log folders, paths. Each program that it starts costs
 * some milliseconds, which is most of what a look takes.
 */
import { FOLDER_FILES, MARKER_FILE } from '../api/effective-spec.ts';

/** Where distributions have it; only one that runs as root is of use. */
export const BRIDGE_HELPERS = [
  '/usr/lib/qemu/qemu-bridge-helper',
  '/usr/libexec/qemu-bridge-helper',
  '/usr/local/libexec/qemu-bridge-helper',
];

/** Enough of an image for the qcow2 header, its extensions and the name of a backing file. */
export const HEAD_BYTES = 1024;

export const PROBE_SCRIPT = `
LC_ALL=C; export LC_ALL; umask 077; set +e
nonce=$1 bootfile=$2 midfile=$3 net=$4 ticks=$5 nd=$6 nl=$7; shift 7
s() { printf '@%s %s\\n' "$nonce" "$*"; }
# A look without one of these would take "cannot see" for "absent".
missing=
for c in awk base64 cut date flock getconf grep head id readlink sed stat sync; do command -v $c >/dev/null || missing="$missing $c"; done
[ -z "$missing" ] || { printf 'these programs are missing on the host:%s\\n' "$missing" >&2; return 69; }
up= boot= mid=
read -r up _ </proc/uptime; read -r boot <"$bootfile"; read -r mid <"$midfile"
s host
echo "$up $boot $mid $(date +%s%3N) \${ticks:-$(getconf CLK_TCK)}"
s tools
tools() {
  set -f; IFS=:
  for c in qemu-system-x86_64 qemu-system-aarch64 qemu-img; do
    for d in $PATH; do [ -f "$d/$c" ] && [ -x "$d/$c" ] && { set -- "$@" "$d/$c"; break; }; done
  done
  unset IFS; set +f
  stat -L -c '%n %s %Y' "$@" 2>/dev/null
}
tools /usr/share/qemu/firmware /etc/qemu/firmware /usr/share/OVMF /usr/share/AAVMF
for h in ${BRIDGE_HELPERS.join(' ')}; do [ -u $h ] && echo $h; done
[ -e /dev/kvm ] && echo kvm; [ -r /dev/kvm ] && [ -w /dev/kvm ] && echo usable
# The neighbours of bridges: guests that talk to the host itself.
s neighbours
for b in /sys/class/net/*/bridge; do
  [ -d "$b" ] || continue
  cat /proc/net/arp 2>/dev/null
  command -v ip >/dev/null && ip -6 neigh show 2>/dev/null
  break
done
# Processes come before pidfiles: QEMU removes its pidfile as it ends, and a pidfile that is still there after its
# process was seen gone was left behind. The other way round, an orderly end during the look would be taken for a crash.
# No awk opens these files: mawk gives up all of them where one process ends while it is read.
s locks; locks=$(grep -F POSIX /proc/locks); printf '%s\\n' "$locks"
s unix; grep -F ' 00010000 ' /proc/net/unix
qemus=
for f in $(grep -sl '^qemu-' /proc/[0-9]*/comm); do p=\${f#/proc/}; qemus="$qemus \${p%/comm}"; done
s stat
stats=
for p in $qemus $(printf '%s\\n' "$locks" | awk '$2 == "POSIX" && $4 == "WRITE" && !seen[$5]++ { print $5 }'); do
  stats="$stats /proc/$p/stat"
done
[ -n "$stats" ] && cat $stats 2>/dev/null
newline='
'
own=' '
i=0
while [ $i -lt $nd ]; do
  d=$1; shift; i=$((i+1))
  s vmdir "$d"
  if ! [ -d "$d" ]; then
    # What lies behind a folder that is closed to this user cannot be told from what is not there.
    p=$d; while [ -n "$p" ] && ! [ -e "$p" ]; do p=\${p%/*}; done
    [ -x "\${p:-/}" ] && echo absent || echo not-writable
    continue
  fi
  if ! cd "$d" 2>/dev/null || ! [ -w . ]; then echo not-writable; else echo present; fi
  cd "$d" 2>/dev/null || continue
  stat -f -c '%S %a %b' .
  s closed; for f in ./*/; do { [ -r "$f" ] && [ -x "$f" ]; } || printf '%s\\0' "$f"; done; echo
  s folders; printf '%s\\0' ./*/ ; echo
  s entries; printf '%s\\0' ./*/* ./*/.[!.]* ; echo
  s lines; grep -aHm1 '' ./${MARKER_FILE} ./*/${FOLDER_FILES.record} ./*/${FOLDER_FILES.stop} ./*/${FOLDER_FILES.pidfile} 2>/dev/null
  # The process between two readings: a report of its end that came between is not taken for a process that died.
  s jobs
  for f in ./*/${FOLDER_FILES.job}; do
    [ -r "$f" ] && IFS= read -r line <"$f" || continue
    p=\${line#'{"pid":'}; p=\${p%%,*}; process=
    case $p in ''|*[!0-9]*) ;; *) [ -r "/proc/$p/stat" ] && read -r process <"/proc/$p/stat" ;; esac
    IFS= read -r line <"$f"
    printf '%s\\0%s\\0%s\\0' "$f" "$process" "$line"
  done; echo
  s inodes; stat -c '%i %n' ./*/${FOLDER_FILES.pidfile} 2>/dev/null
  for f in ./*/${FOLDER_FILES.pidfile}; do
    p=; [ -r "$f" ] && read -r p <"$f"
    case $p in ''|*[!0-9]*) ;; *) own="$own$p ";; esac
  done
done
cd /
for p in $qemus; do
  case $own in *" $p "*) ;; *) s stranger $p; head -c 16384 /proc/$p/cmdline 2>/dev/null; echo ;; esac
done
s ports
# Sockets that listen: state 0A of TCP, any of UDP. Source: proc_pid_net(5).
case $net in *ports*)
  grep -Hs : /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 |
    awk '{ sub(/:/, " ") } $1 ~ /udp/ || $5 == "0A" { print $1, $3, $11 }'
esac
s bridges
case $net in *bridges*)
  for b in /sys/class/net/*/bridge; do
    b=\${b%/bridge} mtu=; [ -d "$b/bridge" ] && read -r mtu <"$b/mtu" || continue
    printf '%s %s' "\${b##*/}" "$mtu"
    for i in "$b"/brif/*; do [ -e "$i" ] && printf ' %s' "\${i##*/}"; done
    echo
  done
esac
s logs
awk -v n=$nl 'BEGIN {
  for (i = 1; i <= n; i++) {
    f = ARGV[i] "/${FOLDER_FILES.log}"; l = ""; read = 0
    while ((getline line < f) > 0) { l = substr(line, 1, 1000); read = 1 }
    close(f); if (read) print f "\\t" l
  }
  exit
}' "$@" 2>/dev/null
shift $nl
[ $# -gt 0 ] || { s end; return 0; }
s real; readlink -m -- "$@"
# Told at once: each line of its own would wake the reader.
k=0 access= beside= blocks= chosen=
for f in "$@"; do
  k=$((k+1)) r=0 d=1 l=0
  [ -L "$f" ] && l=1
  if [ -r "$f" ]; then
    r=1
    # As references: rebuilding the arguments one by one takes time by the square of their number.
    if [ -f "$f" ]; then chosen="$chosen \\"\\\${$k}\\""
    elif [ -b "$f" ]; then chosen="$chosen \\"\\\${$k}\\"" blocks="$blocks \\"\\\${$k}\\""; fi
  elif ! [ -e "$f" ]; then
    [ -d "\${f%/*}/" ] || d=0
    case $f in *.[iI][sS][oO]) beside="$beside \\"\\\${$k}\\"" ;; esac
  fi
  access="$access$r $d $l$newline"
done
s access; printf '%s' "$access"
# Of an ISO image that is not there: those beside it, for a "did you mean".
beside() {
  for f in "$@"; do
    m=0
    for o in "\${f%/*}"/*.[iI][sS][oO]; do
      [ -f "$o" ] && [ $m -lt 10 ] && { m=$((m+1)); printf '%s\\0%s\\0' "$f" "\${o##*/}"; }
    done
  done
}
s beside; eval "beside $beside"; echo
s files; stat -L -c '%s %b %Y %n	%F' -- "$@" 2>/dev/null
s fs; stat -f -c '%S %a %n' -- "$@" 2>/dev/null
blocks() {
  for f in "$@"; do printf '%s %s\\n' "$(blockdev --getsize64 "$f" 2>/dev/null)" "$f"; done
}
s block; eval "blocks $blocks"
eval "set -- $chosen"
s heads
[ $# -gt 0 ] && head -v -c ${HEAD_BYTES} -- "$@" 2>/dev/null | base64 -w 0; echo
s end
`;
