/** Runs before every test file of the project: tells it, and what it starts, the way. */
import { inject } from 'vitest';
import { OVER_SSH_VARIABLE } from '../e2e/support/over-ssh.ts';

process.env[OVER_SSH_VARIABLE] = JSON.stringify(inject('overSsh'));
