/**
 * Does KVM run code here? A device node that opens, and even a KVM that says "enabled", prove nothing: nested and
 * restricted hypervisors abort or crawl later. So a 512-byte guest is booted under KVM with a deadline.
 */
import type { Shell } from '../host/shell.ts';

/** Boot sector: prints TINY-UP and, after one disk write and read, TINY-IO on the first serial port. Zero-padded to 510, then 55 AA. */
const X86_GUEST =
  '+jHAjtiOwI7QvAB8iBZmfL54fOhEAPu0QzDA6DIAtELoLQByBr6CfOgvALoABrgAAe+6Agbv9LoABu32xAF09r6MfOgUALoEBrgAIO/06/2KFmZ8vmh8zRPDrITAdAa6+APu6/XDgJAQAAgAAHwAAAgAAAAAAAAAVElOWS1VUA0KAFRJTlktSU8NCgBUSU5ZLVBPV0VSRE9XTg0KAAAAAA==';
/** Firmware for the virt machine: prints TINY-UP on its serial port. Zero-padded to 64 MiB. */
const ARM64_GUEST =
  'kwUAWGAEABAdAACUdQUAWJYFAFi3BQBYIQCAUsECALnhAgC54R+AUuEGALkBAKhSwQIBuRjgO9WBAoDSGAvBmhjiG9UhAIDSIeIb1d8/A9V/IAPV4w5AueMSALmiAkC5Av8PNqABAFAFAACUIAMAWAIAANR/IAPV////FwEUQDhhAAA0YQIAuf3//xfAA1/WVElOWS1VUA0KAFRJTlktUE9XRVJET1dODQoAAB8gA9UAAAAJAAAAAAAACAkAAAAAAAAACAAAAAAAAAEIAAAAAAgAAIQAAAAA';

const SCRIPT = `
LC_ALL=C; export LC_ALL; umask 077
[ -e /dev/kvm ] || { echo 'there is no /dev/kvm'; return 1; }
{ [ -r /dev/kvm ] && [ -w /dev/kvm ]; } || { echo "$(id -un) may not open /dev/kvm: usermod -aG kvm $(id -un)"; return 1; }
# Its files have no name for longer than it takes to open them: a probe that is killed leaves nothing behind.
d=$(mktemp -d) || { echo 'no temporary folder'; return 1; }
exec 3<>"$d/disk" 4<>"$d/console" 5<>"$d/error"
rm -rf "$d"
disk=/proc/self/fd/3 console=/proc/self/fd/4 error=/proc/self/fd/5
case $(uname -m) in
  x86_64)
    { printf %s "$1" | base64 -d; } >&3; truncate -s 510 $disk; printf '\\125\\252' >>$disk; truncate -s 1M $disk
    set -- qemu-system-x86_64 -machine q35,accel=kvm -drive "file=$disk,format=raw,if=virtio" ;;
  *)
    { printf %s "$2" | base64 -d; } >&3; truncate -s 64M $disk
    set -- qemu-system-aarch64 -machine virt,gic-version=max,accel=kvm -drive "file=$disk,format=raw,if=pflash" ;;
esac
"$@" -cpu host -m 32 -nodefaults -no-user-config -display none -serial "file:$console" >/dev/null 2>&5 &
pid=$! i=0 result='KVM ran no code within 2 s'
while [ $i -lt 40 ]; do
  grep -q TINY-UP $console 2>/dev/null && { result=ok; break; }
  kill -0 $pid 2>/dev/null || { result="KVM failed: $(head -n 1 $error | head -c 160)"; break; }
  sleep 0.05; i=$((i+1))
done
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
echo "$result"
[ "$result" = ok ]
`;

const TIMEOUT_MS = 10_000;

export async function probeKvm(shell: Shell, signal: AbortSignal): Promise<{ works: boolean; reason: string }> {
  const result = await shell.run(SCRIPT, [X86_GUEST, ARM64_GUEST], { timeoutMs: TIMEOUT_MS, signal });
  const said = result.stdout.toString('utf8').trim();
  return result.code === 0
    ? { works: true, reason: 'KVM was seen to run code' }
    : { works: false, reason: said || 'KVM could not be tried' };
}
