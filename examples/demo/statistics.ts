/** The smallest value that at least `share` of all values do not exceed; `undefined` without values. */
export function percentile(values: readonly number[], share: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
}

/**
 * The largest number of moments in any window of `windowMs`, wherever it starts. The end of the window does not belong
 * to it.
 */
export function mostInAnyWindow(moments: readonly number[], windowMs: number): number {
  const sorted = moments.toSorted((a, b) => a - b);
  let most = 0;
  let first = 0;
  for (const [last, moment] of sorted.entries()) {
    while (moment - sorted[first]! >= windowMs) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

/** How many moments lie in each of `slices` slices of `sliceMs`, the first of which starts at `start`. */
export function countPerSlice(
  moments: readonly number[],
  { start, sliceMs, slices }: { readonly start: number; readonly sliceMs: number; readonly slices: number },
): number[] {
  const counts = new Array<number>(slices).fill(0);
  for (const moment of moments) {
    const slice = Math.floor((moment - start) / sliceMs);
    if (slice >= 0 && slice < slices) counts[slice]!++;
  }
  return counts;
}
