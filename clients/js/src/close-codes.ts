/** No close frame at all. A browser also reports a refused handshake so. */
export const CONNECTION_LOST = 1006;

/** The other side broke the protocol. */
export const PROTOCOL_BROKEN = 1002;

/** With this code a client says itself that it comes back, so the node waits for it. */
export const COMES_BACK = 4900;

/** What a client does after a connection has ended. */
export type Verdict =
  /** It connects again after a wait. */
  | 'reconnect'
  /** It connects again with a new token. */
  | 'renew-token'
  /** It does not connect again, since the same would happen. */
  | 'final'
  /** The author of the plugin knows; nobody else does. */
  | 'ask';

/** What a client does after a close with this code. */
export function verdictOn(code: number): Verdict {
  switch (code) {
    case 1001:
    case CONNECTION_LOST:
    case 1011:
    case 1012:
    case 1013:
    case COMES_BACK:
    case 4408:
    case 4425:
    case 4429:
      return 'reconnect';
    case 4002:
    case 4401:
      return 'renew-token';
    // The uid was taken over. Two clients with one uid would close each other again and again.
    case 4001:
    case PROTOCOL_BROKEN:
    case 1003:
    case 1007:
    case 1008:
    case 1009:
    case 1010:
      return 'final';
    default:
      if (code >= 4400 && code <= 4499) return 'final';
      return code >= 4500 && code <= 4599 ? 'reconnect' : 'ask';
  }
}
