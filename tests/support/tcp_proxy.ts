import { createServer, type Server, Socket } from "node:net";

/** Which way bytes go. */
export type Direction = "to server" | "to client";

/** A TCP proxy that does to connections what networks do. */
export interface TcpProxy extends AsyncDisposable {
  /** `nats://127.0.0.1:<port>` */
  readonly url: string;
  /** How many connections go through it. */
  readonly connections: number;
  /** Ends all connections at once, with a reset. Data that was held back is lost. New connections are accepted. */
  cut(): void;
  /**
   * Lets nothing through any more, on these and on new connections: a black hole. Data that arrives is kept, because
   * the network sends it again, until {@link TcpProxy.open} lets it through or {@link TcpProxy.cut} drops it.
   */
  hold(...directions: readonly Direction[]): void;
  /** Lets everything through again, starting with what was held back. */
  open(): void;
  /** Ends the next connection on which the server says `word`, right after it. */
  endBehind(word: string): void;
  /** Lets everything through this much later than it arrived. */
  delay(direction: Direction, ms: number): void;
}

/** One direction of one connection. */
interface Pipe {
  readonly direction: Direction;
  /** The data that has arrived and not gone on, in order, and when it may. Empty data is the end. */
  readonly waiting: { readonly data: Uint8Array; readonly from: number }[];
  readonly sink: Socket;
}

/** Starts a proxy in front of a server on 127.0.0.1. */
export async function startProxy(port: number): Promise<TcpProxy> {
  const pipes = new Set<Pipe>();
  const sockets = new Set<Socket>();
  const held = new Set<Direction>();
  const delays: Record<Direction, number> = { "to server": 0, "to client": 0 };
  let lastWord: string | undefined;

  function pump(pipe: Pipe): void {
    if (held.has(pipe.direction)) return;
    for (let next = pipe.waiting[0]; next !== undefined; next = pipe.waiting[0]) {
      const left = next.from - performance.now();
      if (left > 0) {
        setTimeout(() => pump(pipe), Math.ceil(left));
        return;
      }
      pipe.waiting.shift();
      if (next.data.length === 0) pipe.sink.end();
      else pipe.sink.write(next.data);
    }
  }

  function carry(direction: Direction, source: Socket, sink: Socket): void {
    const pipe: Pipe = { direction, waiting: [], sink };
    pipes.add(pipe);
    const add = (data: Uint8Array) => {
      pipe.waiting.push({ data, from: performance.now() + delays[direction] });
      if (lastWord !== undefined && direction === "to client" && new TextDecoder().decode(data).includes(lastWord)) {
        lastWord = undefined;
        pipe.waiting.push({ data: new Uint8Array(0), from: 0 });
      }
      pump(pipe);
    };
    source.on("data", (data: Uint8Array) => add(data));
    source.on("end", () => add(new Uint8Array(0)));
    source.on("close", () => pipes.delete(pipe));
  }

  function accept(client: Socket): void {
    const server = new Socket();
    for (const [socket, other] of [[client, server], [server, client]] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => {}); // it is closed then, which the other side hears
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    carry("to server", client, server);
    carry("to client", server, client);
    server.connect(port, "127.0.0.1");
  }

  const listener: Server = createServer({ allowHalfOpen: true }, accept);
  await new Promise<void>((resolve, reject) => {
    listener.on("error", reject);
    listener.listen(0, "127.0.0.1", resolve);
  });
  const address = listener.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const cut = () => {
    for (const socket of [...sockets]) socket.destroy();
  };
  return {
    url: `nats://127.0.0.1:${address.port}`,
    get connections() {
      return sockets.size / 2;
    },
    cut,
    hold(...directions) {
      for (const direction of directions) held.add(direction);
    },
    open() {
      held.clear();
      for (const pipe of pipes) pump(pipe);
    },
    endBehind(word) {
      lastWord = word;
    },
    delay(direction, ms) {
      delays[direction] = ms;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => listener.close(resolve));
      cut();
      await closed;
    },
  };
}
