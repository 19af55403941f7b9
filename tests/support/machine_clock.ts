// Bound, because a test may give this process another clock later.
const elapsed = performance.now.bind(performance);
/** How long the wall clock is observed: it advances by a millisecond at a time. */
const LOOK_MS = 8;

/**
 * How far the wall clock is ahead of this process's clock. `performance.timeOrigin` says so too, but is wrong by
 * milliseconds if the machine was busy when the process started. The wall clock is cut off to milliseconds, so the
 * largest difference is the true one.
 */
function originOf(): number {
  let origin = -Infinity;
  for (const end = elapsed() + LOOK_MS; elapsed() < end;) {
    origin = Math.max(origin, Date.now() - elapsed());
  }
  return origin;
}

const origin = originOf();

/**
 * The time in milliseconds since the Unix epoch, the same in all processes of this machine to within some microseconds.
 */
export const machineNow = (): number => origin + elapsed();
