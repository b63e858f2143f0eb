// What the SDK's world has of WASI and no author needs.

declare module 'wasi:cli/exit@0.2.0' {
  export function exit(status: { tag: 'ok' | 'err' }): never;
}

declare module 'wasi:cli/stdout@0.2.0' {
  export function getStdout(): { blockingWriteAndFlush(bytes: Uint8Array): void };
}

declare module 'wasi:cli/stderr@0.2.0' {
  export function getStderr(): { blockingWriteAndFlush(bytes: Uint8Array): void };
}
