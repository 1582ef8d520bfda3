/** completion: what a shell sources to complete words of this command line. */
import { Argument, type Command } from 'commander';
import { SCRIPTS, SHELLS, type ShellName } from './completion-scripts.ts';
import { type Declare, examples } from './context.ts';

export const declareCompletion: Declare = (command: Command, context) => {
  command
    .addArgument(new Argument('<shell>', 'whose words are to be completed').choices(SHELLS))
    .action((shell: ShellName) => void context.stdout.write(SCRIPTS[shell]));
  examples(command, [
    [
      'For bash, read by its completion package',
      'completion bash >~/.local/share/bash-completion/completions/qemu-operator',
    ],
    ['For zsh, in a folder of its fpath', 'completion zsh >~/.zfunc/_qemu-operator'],
    ['For fish', 'completion fish >~/.config/fish/completions/qemu-operator.fish'],
  ]);
};
