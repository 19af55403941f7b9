/** `true` if the two types are the same, and not only assignable to each other. */
export type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;

/** Compiles only for `true`: `export type A = Expect<Equal<X, Y>>`. */
export type Expect<T extends true> = T;
