/** Commands of a host that write down, before they do their work, for which session of sshd they do it. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Deed {
  /** The process of sshd below which it was done; 0 where that had ended meanwhile, and the script went on alone. */
  readonly session: number;
  /** Whom the marker of the vmDir named then. */
  readonly owner: number;
  readonly what: 'note' | 'forget' | 'start';
  /** Folder of the VM. */
  readonly folder: string;
}

export interface Witness {
  /** The PATH that begins with its commands. */
  readonly path: string;
  readonly deeds: () => Deed[];
}

/**
 * An effect is one process group, whose first process sshd has started; what outlives its session has a group of its
 * own. Fields of /proc/PID/stat after the name: state, parent, process group.
 */
const NOTE = `
parent() { read -r stat <"/proc/$1/stat" || exit; set -- \${stat##*) }; echo "$2"; }
group() { read -r stat <"/proc/$1/stat" || exit; set -- \${stat##*) }; echo "$3"; }
note() {
  session=$(parent "$(group $$)")
  case $(cat "/proc/$session/comm") in sshd*) ;; *) session=0 ;; esac
  owner=$(sed -n 's/.*"session":{"pid":\\([0-9]*\\).*/\\1/p' "\${2%/*}/.qemu-operator.json")
  printf '%s %s %s %s\\n' "$session" "\${owner:-0}" "$1" "$2" >>"$log"
}
`;

/** The record of a VM is put in its place and removed so, as is the marker of a stop; that of a vmDir is the claim itself. */
const COMMANDS = {
  mv: `case $3 in */.qemu-operator.json|*/stop.json) [ ! -f "\${3%/*/*}/.qemu-operator.json" ] || note note "\${3%/*}" ;; esac`,
  rm: `case $2 in */.qemu-operator.json) note forget "\${2%/*}" ;; esac`,
  'qemu-system-x86_64': `case " $* " in *" -daemonize "*) note start "$PWD" ;; esac`,
};

export function witness(folder: string): Witness {
  const log = join(folder, 'deeds');
  mkdirSync(folder, { recursive: true });
  for (const [name, body] of Object.entries(COMMANDS)) {
    const real = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    const text = `#!/bin/sh\nlog='${log}'\n${NOTE}${body}\nexec '${real}' "$@"\n`;
    writeFileSync(join(folder, name), text, { mode: 0o755 });
  }
  const lines = () => (existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : []);
  return {
    path: `${folder}:${process.env['PATH'] ?? '/usr/bin:/bin'}`,
    deeds: () =>
      lines().map((line): Deed => {
        const [session, owner, what, ...rest] = line.split(' ');
        return { session: Number(session), owner: Number(owner), what: what as Deed['what'], folder: rest.join(' ') };
      }),
  };
}
