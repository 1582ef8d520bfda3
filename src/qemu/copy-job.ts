/**
 * The job that makes a disk from an image: a process on the host that outlives the controller. It fetches (once per
 * checksum for all VMs of the vmDir), verifies, inspects, copies and grows, and writes how far it is into the VM's
 * folder. It makes one file and gives it no name of the VM's; that is an effect's work (FINISH_COPY).
 */
import { createHash } from 'node:crypto';
import { type EffectiveDisk, type EffectiveImage, FOLDER_FILES, IMAGES_FOLDER } from '../api/effective-spec.ts';
import { shellQuote } from '../host/quote.ts';
import { NAME_DISK } from './scripts.ts';

export interface CopyJob {
  readonly folder: string;
  readonly vmDir: string;
  readonly disk: EffectiveDisk;
  /** The file that it makes. */
  readonly partial: string;
  readonly image: EffectiveImage;
  readonly bootID: string;
  readonly attempt: number;
  readonly nonce: string | undefined;
}

/** Name of an image in the folder of images; without a checksum the URL names it until it is there. */
function keyOf({ url, checksum }: EffectiveImage): string {
  if (checksum !== undefined) return `${checksum.algorithm}-${checksum.digest}`;
  return `url-${createHash('sha256')
    .update(url ?? '')
    .digest('hex')
    .slice(0, 32)}`;
}

/** What a download that was broken off leaves; undefined where nothing is downloaded. */
export function partialFile(vmDir: string, image: EffectiveImage): string | undefined {
  return image.url === undefined ? undefined : `${vmDir}/${IMAGES_FOLDER}/${keyOf(image)}.part`;
}

/** The whole script, its values in its text: a command line would show the URL to everybody. */
export function copyScript({ folder, vmDir, disk, partial, image, bootID, attempt, nonce }: CopyJob): string {
  const identity = JSON.stringify({ disk: disk.name, attempt, ...(nonce === undefined ? {} : { nonce }) }).slice(1, -1);
  const values = {
    folder,
    images: `${vmDir}/${IMAGES_FOLDER}`,
    key: keyOf(image),
    url: image.url ?? '',
    file: image.path ?? '',
    algorithm: image.checksum?.algorithm ?? '',
    digest: image.checksum?.digest ?? '',
    partial,
    format: disk.format,
    bytes: String(disk.sizeBytes ?? 0),
    boot: bootID,
    identity,
  };
  const assignments = Object.entries(values).map(([name, value]) => `${name}=${shellQuote(value)}`);
  return `${assignments.join('\n')}\n${BODY}`;
}

const BODY = `
LC_ALL=C; export LC_ALL; umask 077
cd "$folder" || exit 1
exec 8>>${FOLDER_FILES.jobLock}
flock -n 8 || exit 0
read -r stat </proc/$$/stat; set -f; set -- \${stat##*) }; set +f
ticks=\${20} phase=copying have=0 total=0
[ -z "$url" ] || phase=waiting

report() {
  printf '{"pid":%s,"startTicks":%s,"bootID":"%s",%s,"phase":"%s","doneBytes":%s,"totalBytes":%s,"at":%s%s}\\n' \\
    $$ "$ticks" "$boot" "$identity" "$phase" "\${have:-0}" "\${total:-0}" "$(date +%s%3N)" "$1" >${FOLDER_FILES.job}.tmp &&
    mv -f ${FOLDER_FILES.job}.tmp ${FOLDER_FILES.job}
}
words() { tr -d '"\\\\' | tr -c '[:print:]' ' ' | tail -c 400; }
failed() {
  blocks=$(stat -f -c '%a' . 2>/dev/null)
  rm -f "$partial"
  # The words themselves may have found no room.
  case $2 in *[![:space:]]*) ;; *) [ "\${blocks:-64}" -ge 64 ] || set -- "$1" 'No space left on device' ;; esac
  case $2 in *'No space left'*|*'Disk quota'*|*'Failure writing output'*) rm -f "$images/$key.part"; set -- InsufficientStorage "$2" ;; esac
  phase=failed
  report ",\\"reason\\":\\"$1\\",\\"message\\":\\"$(printf '%s' "$2" | words)\\""
  exit 1
}
# follow PID FILE: reports how the file grows until the process has ended, and answers as it did.
follow() {
  ticked=0
  while kill -0 "$1" 2>/dev/null; do
    if [ $ticked -lt 10 ]; then sleep 0.2; else sleep 1; fi
    ticked=$((ticked+1))
    have=$(stat -c '%b' "$2" 2>/dev/null) && have=$((have*512))
    [ -s ${FOLDER_FILES.jobHeaders} ] && [ "\${total:-0}" -eq 0 ] && total=$(length)
    report
  done
  wait "$1"
}
# Of the last answer in a chain of redirections; a resumed one says the whole after the slash.
length() {
  tr -d '\\r' <${FOLDER_FILES.jobHeaders} | awk '
    /^HTTP\\// { n = 0 }
    tolower($1) == "content-length:" && n == 0 { n = $2 }
    tolower($1) == "content-range:" { split($3, whole, "/"); n = whole[2] }
    END { printf "%d", n }'
}

fetch_with_curl() {
  protocols=https; case $url in http:*) protocols=http,https ;; esac
  set -- --disable --silent --show-error --fail --location --globoff --proto "=$protocols" --proto-redir "=$protocols" \\
    --connect-timeout 20 --speed-limit 1 --speed-time 60 --output "$images/$key.part" "$@"
  printf 'url = "%s"\\n' "$url" | curl --config - "$@" --dump-header ${FOLDER_FILES.jobHeaders} 2>${FOLDER_FILES.jobErrors} &
  follow $! "$images/$key.part"
}
fetch_with_wget() {
  [ -n "$digest" ] || { echo 'wget cannot keep a redirection from leaving https: install curl, or give the checksum' >${FOLDER_FILES.jobErrors}; return 1; }
  printf '%s\\n' "$url" | wget --no-config --quiet --server-response --tries=1 --timeout=60 -i - -O "$images/$key.part" 2>${FOLDER_FILES.jobErrors} &
  follow $! "$images/$key.part"
}
download() {
  phase=downloading have=0 total=0 resumed=
  rm -f ${FOLDER_FILES.jobHeaders}
  report
  if command -v curl >/dev/null; then
    # Without a checksum nobody would notice that the rest is of another file.
    [ -n "$digest" ] || rm -f "$images/$key.part"
    if [ -s "$images/$key.part" ]; then
      fetch_with_curl --continue-at - && resumed=yes && return
      rm -f "$images/$key.part"; total=0
    fi
    fetch_with_curl && return
  elif command -v wget >/dev/null; then
    fetch_with_wget && return
  else
    failed ImageDownloadFailed 'neither curl nor wget is on the host; install one of them, or put the image there and name it by image.path'
  fi
  said=$(words <${FOLDER_FILES.jobErrors})
  case $said in
    *'error: 404'*|*'error: 410'*|*'404 Not Found'*|*'410 Gone'*) rm -f "$images/$key.part"; failed ImageNotFound "$said" ;;
  esac
  failed ImageDownloadFailed "$said"
}
# verified FILE
verified() {
  phase=verifying have=0 total=0; report
  sum=$("\${algorithm:-sha256}sum" "$1") && sum=\${sum%% *}; sum=\${sum#\\\\}
  [ -z "$digest" ] || [ "$sum" = "$digest" ]
}
provide() {
  { mkdir -p "$images" && : >>"$images/$key.lock"; } 2>${FOLDER_FILES.jobErrors} || failed InsufficientStorage "$(words <${FOLDER_FILES.jobErrors})"
  exec 7>>"$images/$key.lock"
  until flock -w 1 7; do
    have=$(stat -c '%b' "$images/$key.part" 2>/dev/null) && have=$((have*512))
    report
  done
  file="$images/$key"
  if [ -f "$file" ]; then
    verified "$file" && return
    rm -f "$file"
  fi
  download
  # What was resumed may have begun as another file.
  verified "$images/$key.part" || { [ -n "$resumed" ] && rm -f "$images/$key.part" && download && verified "$images/$key.part"; } || {
    rm -f "$images/$key.part"
    failed ImageChecksumMismatch "its $algorithm is $sum, the spec says $digest"
  }
  file="$images/\${algorithm:-sha256}-$sum"
  sync "$images/$key.part" && mv -f "$images/$key.part" "$file" || failed InsufficientStorage "$file cannot be written"
}

# Sets source and virtual. By the header alone: a program that opens an image may follow what it refers to.
inspect() {
  header=$(head -c 104 "$1" | od -An -v -tx1 | tr -d ' \\n')
  case $header in
    514649fb*)
      source=qcow2
      [ "$(at 9 8)" = 0000000000000000 ] || failed ImageUnusable 'it has a backing file: flatten it with qemu-img convert'
      [ "$(at 33 4)" = 00000000 ] || failed ImageUnusable 'it is encrypted'
      case $(at 5 4)$(at 80 1) in 00000002*|*[0-3]|*[89ab]) ;; *) failed ImageUnusable 'it has an external data file: flatten it with qemu-img convert' ;; esac
      virtual=$((0x$(at 25 8)))
      ;;
    1f8b*|fd377a585a00*|28b52ffd*|425a68*|504b0304*) failed ImageUnusable 'it is compressed as a whole: unpack it and name the image itself' ;;
    4b444d56*|23204469736b2044*|7668647866696c65*|636f6e6563746978*|3c3c3c20*) failed ImageUnusable 'it is neither qcow2 nor raw: convert it with qemu-img convert -O qcow2' ;;
    *)
      source=raw
      if [ -b "$1" ]; then virtual=$(blockdev --getsize64 "$1"); else virtual=$(stat -L -c '%s' "$1"); fi
      [ "$virtual" -gt 0 ] && [ $((virtual%512)) -eq 0 ] || failed ImageUnusable "it is no disk image: it has $virtual bytes and no header that is known"
      ;;
  esac
  [ "$bytes" -eq 0 ] || [ "$virtual" -le "$bytes" ] || failed ImageUnusable "it has $virtual bytes, more than the size of $bytes: set a larger size"
}
# at BYTE COUNT of the header, in hex; the first byte is 1.
at() { printf '%s' "$header" | cut -c $((2*$1-1))-$((2*($1+$2-1))); }

copy() {
  phase=copying have=0 total=0
  rm -f ${FOLDER_FILES.jobHeaders}
  report
  qemu-img convert -q -f "$source" -O "$format" "$file" "$partial" 2>${FOLDER_FILES.jobErrors} &
  follow $! "$partial" || failed ImageUnusable "$(words <${FOLDER_FILES.jobErrors})"
  if [ "$bytes" -gt "$virtual" ]; then
    qemu-img resize -q -f "$format" "$partial" "$bytes" 2>${FOLDER_FILES.jobErrors} || failed ImageUnusable "$(words <${FOLDER_FILES.jobErrors})"
  fi
  sync "$partial" 2>${FOLDER_FILES.jobErrors} || failed InsufficientStorage "$(words <${FOLDER_FILES.jobErrors})"
}

report
rm -f "$partial"
if [ -n "$url" ]; then
  provide
elif [ -n "$digest" ]; then
  verified "$file" || failed ImageChecksumMismatch "its $algorithm is $sum, the spec says $digest"
fi
inspect "$file"
exec 7>&-
copy
phase=done; report
rm -f ${FOLDER_FILES.jobHeaders} ${FOLDER_FILES.jobErrors}
`;

const JOB_FILES = [
  FOLDER_FILES.job,
  `${FOLDER_FILES.job}.tmp`,
  FOLDER_FILES.jobScript,
  FOLDER_FILES.jobHeaders,
  FOLDER_FILES.jobErrors,
].join(' ');

/** $1: the job's script; $2: the record with the disk as `creating`. Returns once the job has reported. */
export const START_COPY = `
cd "$folder" || return 1
w "$record" "$2" || return 1
rm -f ${JOB_FILES}
printf '%s\\n' "$1" >${FOLDER_FILES.jobScript} || return 1
setsid sh ${FOLDER_FILES.jobScript} </dev/null >/dev/null 2>&1 9>&- &
i=0
while ! [ -e ${FOLDER_FILES.job} ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done
[ -e ${FOLDER_FILES.job} ] || { fail 'the job that copies the image did not begin'; return 1; }
`;

/** $1: the disk's path; $2: what the job made; $3: the record with the disk as `created`; $4: without it. */
export const FINISH_COPY = `
path=$1 partial=$2 created=$3 unknown=$4
cd "$folder" || return 1
if [ -f "$partial" ] || [ -e "$path" ]; then
  ${NAME_DISK}
fi
rm -f ${JOB_FILES}
`;

/**
 * Ends the job with all that it started and removes what it made. $1, $2: its pid and start; $3: what it was making, empty
 * where the disk is complete; $4: its partial download, empty for none; $5: the record without the disk.
 */
export const CANCEL_COPY = `
pid=$1 ticks=$2 partial=$3 part=$4 forgotten=$5
cd "$folder" || return 1
if [ "$(started "$pid")" = "$ticks" ]; then
  kill -KILL -"$pid" 2>/dev/null
  i=0
  while [ "$(started "$pid")" = "$ticks" ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done
fi
# A process that the job left behind still holds its lock.
exec 8>>${FOLDER_FILES.jobLock}
flock -w 10 8 || { fail 'the job that copies the image does not end'; return 1; }
[ -z "$partial" ] || rm -f "$partial" || return 1
# Another VM may be fetching the same image: it holds the lock.
[ -z "$part" ] || ! [ -e "$part" ] || { flock -n 7 && rm -f "$part"; } 7>>"\${part%.part}.lock"
# Where the disk is full it stays \`creating\` there, which is no more than a creation that was cut off.
w "$record" "$forgotten"
rm -f ${JOB_FILES}
`;
