import type { Logger } from "../../src/core/logger.ts";

/** A logger that keeps what it was told, as `level: message`. */
export interface LogBook extends Logger {
  readonly lines: string[];
  /** Resolves with the first line that matches, now or later. */
  heard(pattern: RegExp): Promise<string>;
}

export function logBook(): LogBook {
  const lines: string[] = [];
  const waiting = new Set<(line: string) => void>();
  const write = (level: string) => (message: string) => {
    const line = `${level}: ${message}`;
    lines.push(line);
    for (const listener of [...waiting]) listener(line);
  };
  return {
    lines,
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    heard: (pattern) =>
      new Promise((resolve) => {
        const look = (line: string) => {
          if (!pattern.test(line)) return;
          waiting.delete(look);
          resolve(line);
        };
        waiting.add(look);
        lines.forEach(look);
      }),
  };
}
