// With an assembly file, functions without a body may be declared: the compiler for other machines
// than wasm, as editors use it, then reads this package.
