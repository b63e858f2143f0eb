/** Headers in their order, each as often as it came, with names in lower case. */
export class HeaderList implements Iterable<[name: string, value: string]> {
  constructor(pairs: [name: string, value: string][]);
  /** The first header of this name, in any case. */
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string): boolean;
  [Symbol.iterator](): IterableIterator<[name: string, value: string]>;
}
