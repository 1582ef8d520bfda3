#!/usr/bin/env node
// Entry of the installed command. It parses on any Node there is, so that an old one gets a sentence, not a stack.
const needed = [22, 19];
const have = process.versions.node.split('.').map(Number);

if (have[0] < needed[0] || (have[0] === needed[0] && have[1] < needed[1])) {
  console.error(`qemu-operator needs Node ${needed.join('.')} or newer, and this is Node ${process.versions.node}.
Get one from https://nodejs.org, or run it once with a Node from npm:
  npx --yes --package node@24 -- node "${process.argv[1]}"`);
  process.exit(1);
}

// Node 22 warns of its SQLite at every start; Node 24 no longer does. What we use of it is the same in both.
const emitWarning = process.emitWarning;
process.emitWarning = (warning, ...rest) =>
  String(warning).startsWith('SQLite is an experimental') || emitWarning.call(process, warning, ...rest);

import('./main.js').catch((error) => {
  console.error(error);
  process.exit(1);
});
