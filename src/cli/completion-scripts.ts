/**
 * How each shell asks for completions: it runs `qemu-operator __complete WORD...`, the last word being the one under
 * the cursor. Each answered line is `VALUE<tab>DESCRIPTION`; a line `:files` or `:dirs` leaves it to the shell.
 */

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type ShellName = (typeof SHELLS)[number];

const BASH = `# bash completion for qemu-operator
_qemu_operator() {
  local line=\${COMP_LINE:0:COMP_POINT} answer last prefix= value
  local -a words=()
  # Not COMP_WORDS: bash breaks these at = and : too.
  IFS=$' \\t\\n' read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  last=\${words[\${#words[@]}-1]}
  # Of --option=value bash replaces the value alone.
  [[ $last == --*=* && $COMP_WORDBREAKS == *=* ]] && prefix=\${last%%=*}=
  answer=$("\${words[0]/#\\~/$HOME}" __complete "\${words[@]:1}" 2>/dev/null) || return 0
  COMPREPLY=()
  while IFS=$'\\t' read -r value _; do
    case $value in
      '') ;;
      :files) compopt -o default ;;
      :dirs) compopt -o dirnames ;;
      *) COMPREPLY+=("\${value#"$prefix"}") ;;
    esac
  done <<<"$answer"
}
complete -F _qemu_operator qemu-operator
`;

const ZSH = `#compdef qemu-operator
_qemu_operator() {
  local line
  local -a candidates
  for line in "\${(@f)$("\${(Q)words[1]}" __complete "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      '') ;;
      :files) _files; return ;;
      :dirs) _files -/; return ;;
      *) candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done
  _describe 'qemu-operator' candidates
}
if [ "$funcstack[1]" = _qemu_operator ]; then
  _qemu_operator "$@"
else
  compdef _qemu_operator qemu-operator
fi
`;

const FISH = `# fish completion for qemu-operator
function __qemu_operator_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (command $words[1] __complete $words[2..-1] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :dirs
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c qemu-operator -f -a '(__qemu_operator_complete)'
`;

export const SCRIPTS: Readonly<Record<ShellName, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
