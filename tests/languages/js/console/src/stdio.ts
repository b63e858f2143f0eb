import { getStderr } from 'wasi:cli/stderr@0.2.0';
import { getStdout } from 'wasi:cli/stdout@0.2.0';

/** One line on stdout and one on stderr. */
export function print(text: string): void {
  const line = new TextEncoder().encode(`${text}\n`);
  getStdout().blockingWriteAndFlush(line);
  getStderr().blockingWriteAndFlush(line);
}
