/** A u64 or s64 as the engine wants it: QuickJS takes numbers, SpiderMonkey BigInts. */
export const u64 = JACKFIELD_ENGINE === 'quickjs' ? (number) => number : BigInt;

/** The largest u32 that can be passed: QuickJS takes no more than an s32 has. */
export const MAX_U32 = JACKFIELD_ENGINE === 'quickjs' ? 2 ** 31 - 1 : 2 ** 32 - 1;
