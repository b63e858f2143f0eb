// UTF-8, which QuickJS does not have.

/** The bytes of a string; half of a surrogate pair becomes U+FFFD. */
export function encode(string) {
  const bytes = new Uint8Array(string.length * 3);
  let length = 0;
  for (let at = 0; at < string.length; at++) {
    let code = string.charCodeAt(at);
    if (code < 0x80) {
      bytes[length++] = code;
      continue;
    }
    if (code < 0x800) {
      bytes[length++] = 0xc0 | (code >> 6);
    } else {
      if (code >= 0xd800 && code < 0xe000) code = string.codePointAt(at);
      if (code > 0xffff) {
        at++;
        bytes[length++] = 0xf0 | (code >> 18);
        bytes[length++] = 0x80 | ((code >> 12) & 0x3f);
      } else {
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
        bytes[length++] = 0xe0 | (code >> 12);
      }
      bytes[length++] = 0x80 | ((code >> 6) & 0x3f);
    }
    bytes[length++] = 0x80 | (code & 0x3f);
  }
  return bytes.slice(0, length);
}

/** The string of these bytes. What is not UTF-8 becomes U+FFFD, or, with `fatal`, throws a TypeError. */
export function decode(bytes, fatal = false) {
  let string = '';
  const units = [];
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    let code = first;
    if (first >= 0x80) {
      const size = first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
      code = size === 0 ? -1 : first & (0x7f >> size);
      for (let more = 1; more < size; more++) {
        const next = bytes[at];
        // The second byte tells already whether the whole can be valid.
        const low = more === 1 ? (first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80) : 0x80;
        const high = more === 1 ? (first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf) : 0xbf;
        if (!(next >= low && next <= high)) {
          code = -1;
          break;
        }
        code = (code << 6) | (next & 0x3f);
        at++;
      }
      if (code < 0) {
        if (fatal) throw new TypeError(`the byte ${at} is no UTF-8`);
        code = 0xfffd;
      }
    }
    if (code > 0xffff) units.push(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
    else units.push(code);
    if (units.length > 4096) string += String.fromCharCode(...units.splice(0));
  }
  return string + String.fromCharCode(...units);
}
