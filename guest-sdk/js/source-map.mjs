// The `mappings` of a source map, made easy to read for src/trace.js.

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/** A line of text for each line of the bundle: "COLUMN FILE LINE,…", where file or line change. */
export function linesOf(mappings) {
  // Column in the bundle; file, line and column of the original. All but the first go on from line to line.
  const at = [0, 0, 0, 0];
  return mappings.split(';').map((line) => {
    at[0] = 0;
    const segments = [];
    let last;
    for (const segment of line.split(',')) {
      const fields = numbers(segment);
      if (fields.length < 4) continue;
      fields.slice(0, 4).forEach((change, field) => (at[field] += change));
      const place = `${at[1]} ${at[2]}`;
      if (place !== last) segments.push(`${at[0]} ${place}`);
      last = place;
    }
    return segments.join(',');
  }).join('\n');
}

/** Base64 VLQ: five bits a digit and one that says whether the number goes on; its lowest bit is the sign. */
function numbers(segment) {
  const numbers = [];
  let value = 0;
  let shift = 0;
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value += (digit & 31) << shift;
    shift += 5;
    if (digit < 32) {
      numbers.push(value & 1 ? -(value >> 1) : value >> 1);
      value = shift = 0;
    }
  }
  return numbers;
}
