/** Headers in their order, each as often as it came. */
export class HeaderList {
  #pairs;

  constructor(pairs) {
    this.#pairs = pairs;
  }

  get(name) {
    return this.getAll(name)[0] ?? null;
  }

  getAll(name) {
    return this.#pairs.filter((pair) => pair[0] === name.toLowerCase()).map((pair) => pair[1]);
  }

  has(name) {
    return this.getAll(name).length > 0;
  }

  [Symbol.iterator]() {
    return this.#pairs[Symbol.iterator]();
  }
}
