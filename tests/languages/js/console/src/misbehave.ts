// Bad events on purpose: what a node must survive.

import { isOnline } from 'jackfield-sdk';
import { exit as exitProcess } from 'wasi:cli/exit@0.2.0';

const MIB = 1 << 20;

export function panic(message: string): never {
  throw new Error(message);
}

/** The machine's own trap cannot be had from JavaScript. */
export function unreachable(): never {
  throw new Error('unreachable');
}

/** Works for this time, or for ever. */
export function spin(ms = Infinity): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** Never ends either, but keeps coming back to the node. */
export function spinHost(client: string): never {
  for (;;) isOnline(client);
}

export function overflowStack(depth = 0): number {
  return overflowStack(depth + 1) + 1;
}

/** One allocation of this size, touched; or more and more until something gives way. */
export function eatMemory(bytes: number | undefined): void {
  if (bytes !== undefined) return void new Uint8Array(bytes).fill(1);
  const eaten: Uint8Array[] = [];
  for (;;) eaten.push(new Uint8Array(MIB).fill(1));
}

/** Whether so much memory can be had. */
export function growMemory(bytes: number): boolean {
  try {
    return new ArrayBuffer(bytes).byteLength === bytes;
  } catch {
    return false;
  }
}

/** The interface knows success and failure, and no other codes. */
export function exit(code: number): never {
  exitProcess({ tag: code === 0 ? 'ok' : 'err' });
}
