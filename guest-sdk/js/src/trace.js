// Where an error was, in the author's files. The engine knows positions in the bundle only;
// build.mjs puts a table of what they were behind it.

const SOURCES = Symbol.for('jackfield-sdk/sources');

/** QuickJS: `    at fn (componentize-qjs:user.js:5:19)`. SpiderMonkey: `fn@plugin.js:5:19`. */
const FRAME = /^\s*(?:at )?(?:(.*?)(?: \(|@))?(?:componentize-qjs:user\.js|plugin\.js):(\d+):(\d+)\)?$/;

/** An error as a person reads it: what it says, and the author's lines that led to it. */
export function errorText(error, sources = globalThis[SOURCES]) {
  const stack = frames(String(error.stack ?? ''), sources);
  const cause = error.cause instanceof Error ? `\ncaused by ${errorText(error.cause, sources)}` : '';
  return `${error}${stack.map((frame) => `\n    at ${frame}`).join('')}${cause}`;
}

/** The frames of a stack in the author's files, innermost first; those of the engine and of this SDK are left out. */
export function frames(stack, sources) {
  const known = [];
  for (const frame of stack.split('\n')) {
    const [, name, line, column] = FRAME.exec(frame) ?? [];
    const position = line && sources && positionOf(sources, line - 1, column - 1);
    if (position && !position.startsWith('sdk/')) {
      known.push(name && !name.startsWith('<') ? `${name} (${position})` : position);
    }
  }
  return known;
}

function positionOf({ files, lines }, line, column) {
  // "0 0 12,8 0 13": what begins at column 0 is line 12 of the first file, at column 8 its line 13.
  const segments = lines.split('\n')[line]?.split(',').map((segment) => segment.split(' ').map(Number)) ?? [];
  const [, file, original] = segments.findLast(([start]) => start <= column) ?? [];
  return original === undefined ? undefined : `${files[file]}:${original + 1}`;
}
