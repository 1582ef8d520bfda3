/** POSIX quoting: the one place where text becomes part of a script. */

/** One word of a POSIX shell, whatever the text. @throws RangeError for NUL, which no argument can carry */
export function shellQuote(text: string): string {
  if (text.includes('\0')) throw new RangeError('a shell argument cannot contain NUL');
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * A script for `sh -s` that sees args as "$1", "$2", ... The body is a function, so that the shell reads all of it
 * before anything runs, and no command of the script can eat the rest of the text from stdin. The call stands in
 * braces: a connection that is cut anywhere in the text runs nothing, least of all with some of the arguments.
 */
export function scriptWithArguments(script: string, args: readonly string[]): string {
  return `main() {\n${script}\n}\n{ main ${args.map(shellQuote).join(' ')} </dev/null; exit $?; }\n`;
}
