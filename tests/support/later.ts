/**
 * Acts as if the process had slept, or had had nothing to do, for `ms` milliseconds: what it knows of the server's time
 * is that old.
 */
export function laterBy(ms: number): Disposable {
  const truth = performance.now;
  const show = (now: () => number) => Object.defineProperty(performance, "now", { value: now, configurable: true });
  show(() => truth.call(performance) + ms);
  return { [Symbol.dispose]: () => void show(() => truth.call(performance)) };
}
