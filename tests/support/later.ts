/** The process has slept for so many milliseconds, or had nothing to do: what it knows of the server's time is that old. */
export function laterBy(ms: number): Disposable {
  const truth = performance.now;
  const show = (now: () => number) => Object.defineProperty(performance, "now", { value: now, configurable: true });
  show(() => truth.call(performance) + ms);
  return { [Symbol.dispose]: () => void show(() => truth.call(performance)) };
}
