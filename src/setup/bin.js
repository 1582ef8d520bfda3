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

import('./main.js').catch((error) => {
  console.error(error);
  process.exit(1);
});
