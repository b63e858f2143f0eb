/** Notices a connection that is dead without saying so: one that gives no sign of life when it is asked. */
export class Heartbeat {
  readonly #silenceMs: number;
  readonly #timeoutMs: number;
  readonly #ask: () => void;
  readonly #onDead: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Calls `ask` after this silence, and `onDead` if nothing is heard in time. With a silence of 0, never. */
  constructor(silenceMs: number, timeoutMs: number, ask: () => void, onDead: () => void) {
    this.#silenceMs = silenceMs;
    this.#timeoutMs = timeoutMs;
    this.#ask = ask;
    this.#onDead = onDead;
  }

  /** A frame has arrived. */
  heard(): void {
    this.stop();
    if (this.#silenceMs > 0) this.#timer = setTimeout(() => this.probe(), this.#silenceMs);
  }

  /** Asks now, without waiting for the silence. */
  probe(): void {
    if (this.#silenceMs === 0) return;
    this.stop();
    this.#ask();
    this.#timer = setTimeout(this.#onDead, this.#timeoutMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
