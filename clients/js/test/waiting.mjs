// Waiting for what a test is about, with one deadline and without sleeps.
const DEADLINE_MS = 10_000;

/** The next event of this name. */
export function next(target, type) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${type} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
    target.addEventListener(type, (event) => (clearTimeout(late), resolve(event)), { once: true });
  });
}

/** Waits until something holds. It is looked at in each turn of the event loop. */
export async function until(holds, what = holds.toString()) {
  const deadline = Date.now() + DEADLINE_MS;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`this never came: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Lets promises and what follows from them run. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
