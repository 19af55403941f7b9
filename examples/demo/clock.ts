/** The time in milliseconds since the Unix epoch: the same for all processes of this host, and it never jumps. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
