/** The effects as POSIX sh, each run inside the frame of effect-script.ts. Each may be cut anywhere and run again. */
import { FOLDER_FILES, MARKER_FILE, SCREENSHOT_PREFIX } from '../api/effective-spec.ts';
import { EXIT_NO_VM_DIR, LOCK_FILE } from './effect-script.ts';

export const CLAIM_FOLDER = `
[ -d "$folder" ] || mkdir "$folder" || return 1
[ -e "$record" ] && { fail "$record appeared meanwhile"; return 1; }
w "$record" "$1"
`;

export const WRITE_RECORD = `
w "$record" "$1"
`;

/**
 * Gives $partial, which is complete, the name $path: never where another file or link has it. The other name stays until
 * the record says `created`: a creation that was cut off knows its file by it. A file that is not ours is forgotten, so
 * that the next look judges it as any that was there before us. The last lines of an effect.
 */
export const NAME_DISK = `
moved=
if ! [ -e "$path" ] && ! [ -L "$path" ] && ! ln "$partial" "$path" 2>/dev/null; then
  mv -n "$partial" "$path" && ! [ -e "$partial" ] && moved=yes
fi
if [ -n "$moved" ] || [ "$path" -ef "$partial" ]; then
  w "$record" "$created" || return 1
else
  w "$record" "$unknown" || return 1
fi
rm -f "$partial"
`;

/** A file that lies there before anything is noted was made since the look. */
export const CREATE_DISK = `
path=$1 partial=$2 format=$3 size=$4 state=$5 creating=$6 created=$7 unknown=$8
if ! [ -e "$path" ] && ! [ -L "$path" ]; then
  [ "$state" = resumed ] || w "$record" "$creating" || return 1
  rm -f "$partial"
  qemu-img create -q -f "$format" "$partial" "$size" >&2 9>&- || { rm -f "$partial"; return 1; }
  sync "$partial" || return 1
elif [ "$state" != resumed ]; then
  return 0
fi
${NAME_DISK}
`;

export const GROW_DISK = `
qemu-img resize -q -f qcow2 "$1" "$2" >&2 9>&- || return 1
w "$record" "$3"
`;

/**
 * Interfaces that sudo makes for the user: QEMU opens them without any right, and they outlive it. Words are `tap:bridge`.
 * What cannot be removed any more, as the right to was taken away, holds nothing up: it has no guest.
 */
const TAPS = `
make_tap() {
  command -v ip >/dev/null || { fail 'the command ip is missing on the host; install it: apt-get install iproute2'; return 1; }
  [ -e "/sys/class/net/$1" ] || root ip tuntap add dev "$1" mode tap user "$(id -un)" || return 1
  read -r mtu <"/sys/class/net/$2/mtu" && root ip link set dev "$1" mtu "$mtu" master "$2" up
}
remove_taps() {
  for tap in "$@"; do
    tap=\${tap%:*}
    [ ! -e "/sys/class/net/$tap" ] || root ip link delete dev "$tap"
  done
}
`;

/**
 * The seed comes as base64 and passes through builtins and pipes alone: it may hold secrets. One that is no longer
 * wanted goes, and its secrets with it.
 * With -D, QEMU's complaints go to its log once that is open; before, to stderr.
 */
export const LAUNCH = `
${TAPS}before=$1 starting=$2 running=$3 variables=$4 seed=$5 taps=$6; shift 6
cd "$folder" || return 1
if [ -z "$seed" ]; then
  rm -f ${FOLDER_FILES.seed} ${FOLDER_FILES.seed}.tmp || return 1
else
  printf '%s' "$seed" | base64 -d >${FOLDER_FILES.seed}.tmp && sync ${FOLDER_FILES.seed}.tmp &&
    mv -f ${FOLDER_FILES.seed}.tmp ${FOLDER_FILES.seed} || { rm -f ${FOLDER_FILES.seed}.tmp; fail "cannot write ${FOLDER_FILES.seed}"; return 1; }
fi
if [ -n "$variables" ] && ! [ -e ${FOLDER_FILES.firmwareVariables} ]; then
  cp --sparse=always "$variables" ${FOLDER_FILES.firmwareVariables}.tmp && chmod 600 ${FOLDER_FILES.firmwareVariables}.tmp &&
    mv -f ${FOLDER_FILES.firmwareVariables}.tmp ${FOLDER_FILES.firmwareVariables} || return 1
fi
w "$record" "$starting" || return 1
for tap in $taps; do
  make_tap "\${tap%:*}" "\${tap#*:}" || { remove_taps $taps; w "$record" "$before"; return 1; }
done
[ -e ${FOLDER_FILES.stop} ] && rm -f ${FOLDER_FILES.stop}
[ -f ${FOLDER_FILES.log} ] && mv -f ${FOLDER_FILES.log} ${FOLDER_FILES.log}.1
"$@" </dev/null >/dev/null 2>${FOLDER_FILES.log}.stderr 9>&-
rc=$?
if [ $rc -ne 0 ]; then
  { cat ${FOLDER_FILES.log}.stderr; [ -f ${FOLDER_FILES.log} ] && tail -c 1500 ${FOLDER_FILES.log}; } | sed 's/^[0-9TZ:.-]* //' >&2
  rm -f ${FOLDER_FILES.log}.stderr
  remove_taps $taps
  w "$record" "$before"
  return 1
fi
rm -f ${FOLDER_FILES.log}.stderr
# It came up; where it has ended since, pid and ticks are 0 and the next look says how.
pid=; [ -r ${FOLDER_FILES.pidfile} ] && read -r pid <${FOLDER_FILES.pidfile}
ticks=$(started "\${pid:-none}")
w "$record" "$running" || return 1
printf '%s' "$pid"
`;

/** A port of another size than its bridge's would make that smaller, or lose what does not fit. */
export const JOIN_BRIDGE = `
command -v ip >/dev/null || { fail 'the command ip is missing on the host; install it: apt-get install iproute2'; return 1; }
if [ -n "$4" ]; then root ip link set dev "$2" mtu "$3" master "$1" up
else ip link set dev "$2" mtu "$3" master "$1" up 9>&-; fi
`;

export const STOP = `
marker=$1 signal=$2 pid=$3 ticks=$4
# A full disk must not keep a VM from being stopped, nor from being deleted to make room: who asked is told the marker.
w "$folder/${FOLDER_FILES.stop}" "$marker" || printf '%s' "$text"
[ -n "$signal" ] || return 0
[ "$(started "$pid")" = "$ticks" ] || return 0
kill -"$signal" "$pid"
`;

/** $3 to $5: pid, start ticks and boot of the process that ended, where they are known: a look may have missed it. */
export const NOTE_END = `
${TAPS}
boot=; read -r boot </proc/sys/kernel/random/boot_id
if [ "$boot" = "$5" ] && [ "$(started "$3")" = "$4" ] && ! grep -q '^State:[[:space:]]*[ZX]' "/proc/$3/status"; then
  fail "process $3 lives, so its end is not noted"
  return 1
fi
cd "$folder" || return 1
w "$record" "$1" || return 1
remove_taps $2
rm -f ${FOLDER_FILES.pidfile} ${FOLDER_FILES.stop} ${FOLDER_FILES.monitor} ${FOLDER_FILES.userMonitor} ${FOLDER_FILES.console} ${FOLDER_FILES.vnc} ${FOLDER_FILES.agent}
`;

/**
 * $1: suffix of a file in the making; $2: taps; then state and path of each disk. Where a creation did not end, what lies
 * there may be somebody's, unless it is the very file that we made. The record goes last: until then a cut-off removal is
 * seen and finished.
 */
export const REMOVE_FILES = `
${TAPS}
suffix=$1 taps=$2; shift 2
while [ $# -gt 0 ]; do
  state=$1 path=$2; shift 2
  if [ "$state" != creating ] || [ "$path" -ef "$path$suffix" ]; then rm -f "$path" || return 1; fi
  if [ "$state" != attached ]; then rm -f "$path$suffix" || return 1; fi
done
cd "$folder" || return 1
rm -f ${Object.values(FOLDER_FILES)
  .filter((name) => name !== FOLDER_FILES.record)
  .map((name) => `'${name}'`)
  .join(
    ' ',
  )} ${FOLDER_FILES.log}.1 ${FOLDER_FILES.log}.stderr ${FOLDER_FILES.firmwareVariables}.tmp ${FOLDER_FILES.seed}.tmp ./${FOLDER_FILES.record}.tmp* ./${FOLDER_FILES.stop}.tmp* ./${SCREENSHOT_PREFIX}* || return 1
remove_taps $taps
sync "$folder"
rm -f "$record" || return 1
cd / && rmdir "$folder" 2>/dev/null
return 0
`;

/**
 * Where the user may not make it, nor write into it, and $5 says so, sudo makes it the user's: one that is not there, or
 * a file system that nobody has used yet.
 */
export const MAKE_VM_DIR = `
said=
if ! { said=$(mkdir -p "$vmdir" 2>&1) && [ -w "$vmdir" ]; }; then
  used=$([ ! -d "$vmdir" ] || ls -A "$vmdir" 2>&1 | grep -vx 'lost+found' | head -n 3 | tr '\\n' ' ')
  if [ -z "$5" ]; then
    fail "$vmdir cannot be made: \${said:-it is not writable}. Make it on the host: sudo install -d -o $(id -un) -m 700 '$vmdir'"
    return ${EXIT_NO_VM_DIR}
  elif [ -n "$used" ]; then
    fail "$vmdir belongs to another user and is in use ($used): it is not taken. Choose another vmDir, or on the host: sudo chown $(id -un) '$vmdir'"
    return ${EXIT_NO_VM_DIR}
  fi
  root install -d -o "$(id -un)" -g "$(id -gn)" -m 700 "$vmdir" || return ${EXIT_NO_VM_DIR}
  [ -w "$vmdir" ] || { fail "$vmdir was made for $(id -un), to whom a folder above it is closed"; return ${EXIT_NO_VM_DIR}; }
fi
`;

/**
 * Raises the epoch. $1: the marker line that was seen, empty for none; $2: the new marker; $3, $4: the former
 * session's pid and start, which is ended first. Our own session is this script's parent.
 */
export const CLAIM = `
seen=$1 next=$2 former=$3 formerticks=$4
marker="$vmdir/${MARKER_FILE}"
flock -x -w 20 9 || return 75
line=; [ -e "$marker" ] && IFS= read -r line <"$marker"
[ "$line" = "$seen" ] || { fail "the marker of $vmdir changed meanwhile"; return 1; }
if [ -n "$former" ] && [ "$former" != "$PPID" ] && [ "$(started "$former")" = "$formerticks" ]; then
  kill -KILL "$former" || { fail "the former controller (pid $former) cannot be ended"; return 1; }
  i=0
  while [ "$(started "$former")" = "$formerticks" ] && [ "$(sed 's/.*) //' "/proc/$former/stat" | cut -c1)" != Z ]; do
    i=$((i+1)); [ $i -gt 50 ] && { fail "the former controller (pid $former) does not end"; return 1; }
    sleep 0.1
  done
fi
pid=$PPID; ticks=$(started "$PPID")
w "$marker" "$next"
`;

export const UNCLAIM = `
flock -x -w 20 9 || return 75
at=$(sed -n 's/.*"epoch":\\([0-9]*\\).*/\\1/p' "$vmdir/${MARKER_FILE}" 2>/dev/null)
[ "$at" = "$epoch" ] || return 78
rm -f "$vmdir/${MARKER_FILE}" "$vmdir/${LOCK_FILE}"
`;
