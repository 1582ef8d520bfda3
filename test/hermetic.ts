/** Runs before every test file: what a developer, or the runner itself, set for this user is not for tests. */
for (const name of [
  'XDG_DATA_HOME',
  'XDG_CONFIG_HOME',
  'XDG_STATE_HOME',
  'QEMU_OPERATOR_STORE',
  'QEMU_OPERATOR_VM_DIR',
])
  delete process.env[name];
