// The globals beside those of ECMAScript. A project has no `DOM` in its `lib`: most of it is not there.

interface URLSearchParams extends Iterable<[name: string, value: string]> {
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(work: (value: string, name: string, params: URLSearchParams) => void, self?: unknown): void;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  entries(): IterableIterator<[name: string, value: string]>;
  toString(): string;
}
declare var URLSearchParams: {
  new (init?: string | Iterable<readonly [string, string]> | { readonly [name: string]: string }): URLSearchParams;
  prototype: URLSearchParams;
};

interface TextEncoder {
  readonly encoding: string;
  encode(string?: string): Uint8Array;
}
declare var TextEncoder: { new (): TextEncoder; prototype: TextEncoder };

interface TextDecoder {
  readonly encoding: string;
  readonly fatal: boolean;
  decode(bytes?: ArrayBuffer | ArrayBufferView): string;
}
declare var TextDecoder: {
  new (label?: string, options?: { fatal?: boolean }): TextDecoder;
  prototype: TextDecoder;
};

/** Each line goes to the node's log, at the level of its name; `log` is `info`. */
declare var console: {
  log(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
  debug(...values: unknown[]): void;
  trace(...values: unknown[]): void;
};

declare var crypto: {
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  randomUUID(): string;
};

declare var performance: { now(): number };

declare function queueMicrotask(work: () => void): void;
declare function atob(data: string): string;
declare function btoa(data: string): string;

/** @deprecated It throws: nothing runs between events. Use `setTimer` and `onTimer`. */
declare function setTimeout(...unusable: unknown[]): never;
/** @deprecated It throws: nothing runs between events. Use `setTimer` and `onTimer`. */
declare function setInterval(...unusable: unknown[]): never;
