/** The effects as POSIX sh, each run inside the frame of effect-script.ts. Each may be cut anywhere and run again. */
import { FOLDER_FILES, MARKER_FILE } from '../api/effective-spec.ts';
import { LOCK_FILE } from './effect-script.ts';

export const CLAIM_FOLDER = `
[ -d "$folder" ] || mkdir "$folder" || return 1
[ -e "$record" ] && { fail "$record appeared meanwhile"; return 1; }
w "$record" "$1"
`;

export const WRITE_RECORD = `
w "$record" "$1"
`;

/**
 * The image is made under another name and linked to its own, which fails where a file of that name appeared. The
 * other name stays until the record says `created`: a creation that was cut off knows its file by it.
 */
export const CREATE_DISK = `
path=$1 format=$2 size=$3 state=$4 creating=$5 created=$6 unknown=$7
if [ -e "$path" ]; then
  # Somebody made it since the look: look again.
  [ "$state" = resumed ] || return 0
  # Not the file that we made: forgotten, so that the next look judges it as any file that was there before us.
  [ "$path" -ef "$path.creating" ] || { w "$record" "$unknown" && rm -f "$path.creating"; return; }
  w "$record" "$created" && rm -f "$path.creating"; return
fi
[ "$state" = resumed ] || w "$record" "$creating" || return 1
rm -f "$path.creating"
qemu-img create -q -f "$format" "$path.creating" "$size" >&2 9>&- || { rm -f "$path.creating"; return 1; }
sync "$path.creating" || return 1
ln "$path.creating" "$path" 2>/dev/null || mv -n "$path.creating" "$path" || return 1
w "$record" "$created" && rm -f "$path.creating"
`;

export const GROW_DISK = `
qemu-img resize -q -f qcow2 "$1" "$2" >&2 9>&- || return 1
w "$record" "$3"
`;

/** With -D, QEMU's complaints go to its log once that is open; before, to stderr. */
export const LAUNCH = `
before=$1 starting=$2 running=$3 variables=$4; shift 4
cd "$folder" || return 1
if [ -n "$variables" ] && ! [ -e ${FOLDER_FILES.firmwareVariables} ]; then
  cp --sparse=always "$variables" ${FOLDER_FILES.firmwareVariables}.tmp && chmod 600 ${FOLDER_FILES.firmwareVariables}.tmp &&
    mv -f ${FOLDER_FILES.firmwareVariables}.tmp ${FOLDER_FILES.firmwareVariables} || return 1
fi
w "$record" "$starting" || return 1
[ -e ${FOLDER_FILES.stop} ] && rm -f ${FOLDER_FILES.stop}
[ -f ${FOLDER_FILES.log} ] && mv -f ${FOLDER_FILES.log} ${FOLDER_FILES.log}.1
"$@" </dev/null >/dev/null 2>${FOLDER_FILES.log}.stderr 9>&-
rc=$?
if [ $rc -ne 0 ]; then
  { cat ${FOLDER_FILES.log}.stderr; [ -f ${FOLDER_FILES.log} ] && tail -c 1500 ${FOLDER_FILES.log}; } | sed 's/^[0-9TZ:.-]* //' >&2
  rm -f ${FOLDER_FILES.log}.stderr
  w "$record" "$before"
  return 1
fi
rm -f ${FOLDER_FILES.log}.stderr
# It came up; where it has ended since, pid and ticks are 0 and the next look says how.
pid=; [ -r ${FOLDER_FILES.pidfile} ] && read -r pid <${FOLDER_FILES.pidfile}
ticks=$(started "\${pid:-none}")
w "$record" "$running"
`;

/** A port of another size than its bridge's would make that smaller, or lose what does not fit. */
export const JOIN_BRIDGE = `
command -v ip >/dev/null || { fail 'the command ip is missing on the host; install it: apt-get install iproute2'; return 1; }
ip link set dev "$2" mtu "$3" master "$1" up 9>&-
`;

export const STOP = `
marker=$1 signal=$2 pid=$3 ticks=$4
# A full disk must not keep a VM from being stopped, nor from being deleted to make room.
w "$folder/${FOLDER_FILES.stop}" "$marker"
[ -n "$signal" ] || return 0
[ "$(started "$pid")" = "$ticks" ] || return 0
kill -"$signal" "$pid"
`;

export const NOTE_END = `
cd "$folder" || return 1
w "$record" "$1" || return 1
rm -f ${FOLDER_FILES.pidfile} ${FOLDER_FILES.stop} ${FOLDER_FILES.monitor} ${FOLDER_FILES.userMonitor} ${FOLDER_FILES.console} ${FOLDER_FILES.vnc}
`;

/** The record goes last: until then a cut-off removal is seen and finished. */
export const REMOVE_FILES = `
for path in "$@"; do
  rm -f "$path" "$path.creating" || return 1
done
cd "$folder" || return 1
rm -f ${Object.values(FOLDER_FILES)
  .filter((name) => name !== FOLDER_FILES.record)
  .map((name) => `'${name}'`)
  .join(
    ' ',
  )} ${FOLDER_FILES.log}.1 ${FOLDER_FILES.log}.stderr ${FOLDER_FILES.firmwareVariables}.tmp ./${FOLDER_FILES.record}.tmp* ./${FOLDER_FILES.stop}.tmp* || return 1
sync "$folder"
rm -f "$record" || return 1
cd / && rmdir "$folder" 2>/dev/null
return 0
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
