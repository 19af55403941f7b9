import {
  checkOptions,
  type ConnectionOptions,
  DataBuffer,
  errors,
  extractProtocolMessage,
  INFO,
  type NatsConnection,
  NatsConnectionImpl,
  protoLen,
  type Server,
  setTransportFactory,
  type Transport,
} from "@nats-io/nats-core/internal";

/** The most that is read at once. Room for it is shared by several reads. */
const READ_BYTES = 65_536;
/** Less room than this is not worth a read. */
const LEAST_READ_BYTES = 4_096;

/**
 * Connects over TCP in Deno, with the hook by which nats.js accepts custom transports.
 *
 * It replaces `@nats-io/transport-deno` (3.4.0), which leaves Nagle's algorithm on and allocates 256 KiB for every
 * read: with that, four processes that want one key have less than half of the throughput, and wait for 45 ms.
 */
export function connect(options: ConnectionOptions): Promise<NatsConnection> {
  // Names are left to Deno, which tries all of their addresses, and may be allowed to connect only to those names.
  setTransportFactory({ factory: createDenoTransport });
  return NatsConnectionImpl.connect(options);
}

function createDenoTransport(): Transport {
  const lost = Promise.withResolvers<void>();
  const closing = new AbortController();
  let connection: Deno.TcpConn | Deno.TlsConn | undefined;
  let isEncrypted = false;
  /** What the server said before anything else. */
  let greeting: Uint8Array = new Uint8Array();
  let room = new Uint8Array();
  let unsent: Uint8Array[] = [];
  let isWriting = false;

  /**
   * Returns what has come, or nothing once the server has closed the connection. The bytes are not overwritten later.
   */
  async function read(from: Deno.Conn): Promise<Uint8Array | undefined> {
    if (room.length < LEAST_READ_BYTES) room = new Uint8Array(READ_BYTES);
    const length = await from.read(room);
    if (length === null) return undefined;
    const bytes = room.subarray(0, length);
    room = room.subarray(length);
    return bytes;
  }

  /** What the server says about itself in the first line. */
  async function readInfo(from: Deno.Conn): Promise<Parameters<typeof checkOptions>[0]> {
    let line = "";
    while (line === "") {
      const bytes = await read(from);
      if (!bytes) throw new Error("the server closed the connection before it said anything");
      greeting = DataBuffer.concat(greeting, bytes);
      line = extractProtocolMessage(greeting);
    }
    const [, json] = INFO.exec(line) ?? [];
    if (json === undefined) throw new Error("unexpected response from server");
    return JSON.parse(json);
  }

  async function writeAll(to: Deno.Conn): Promise<void> {
    isWriting = true;
    try {
      while (unsent.length > 0) {
        // Whatever came during a write is sent together.
        let bytes = unsent.length === 1 ? unsent[0]! : DataBuffer.concat(...unsent);
        unsent = [];
        while (bytes.length > 0) bytes = bytes.subarray(await to.write(bytes));
      }
    } catch {
      // The reader sees that the connection is gone.
    }
    isWriting = false;
  }

  function shut(error?: Error): void {
    closing.abort();
    if (error) transport.closeError ??= error;
    try {
      connection?.close();
    } catch {
      // It is already closed.
    }
  }

  /** The connection is gone without having been closed here. */
  function lose(error?: Error): void {
    if (transport.isClosed) return;
    shut(error);
    // In the turn in which a dial has succeeded, nats.js does not dial again: it takes that one for the new one.
    setTimeout(() => lost.resolve(), 0);
  }

  /** The caller may have given up meanwhile. Then this throws, and whatever catches that closes the connection. */
  function hold<T extends Deno.TcpConn | Deno.TlsConn>(opened: T): T {
    connection = opened;
    closing.signal.throwIfAborted();
    return opened;
  }

  async function open({ hostname, port, tlsName }: Server, options: ConnectionOptions): Promise<void> {
    const socket = hold(await Deno.connect({ hostname, port, signal: closing.signal }));
    socket.setNoDelay(true);
    const info = await readInfo(socket);
    checkOptions(info, options);
    if (!info.tls_required && !(info.tls_available && options.tls !== null)) return;
    // Anybody may have sent what came before TLS, so only its first line counts.
    greeting = greeting.subarray(0, protoLen(greeting));
    const { ca, caFile } = options.tls ?? {};
    const caCerts = [ca, caFile && await Deno.readTextFile(caFile)].filter((text) => text !== undefined);
    await hold(await Deno.startTls(socket, { hostname: tlsName || hostname, caCerts })).handshake();
    isEncrypted = true;
  }

  const transport: Omit<Transport, "closeError"> & { closeError?: Error } = {
    lang: "nats.deno",
    version: "ratesync",
    get isClosed() {
      return closing.signal.aborted;
    },
    async connect(server, options) {
      try {
        await open(server, options);
      } catch (error) {
        shut();
        const { message } = error as Error; // Deno and nats.js throw nothing else
        throw new errors.ConnectionError(message.toLowerCase(), { cause: error });
      }
    },
    async *[Symbol.asyncIterator]() {
      yield greeting;
      try {
        while (connection && !transport.isClosed) {
          const bytes = await read(connection);
          // What arrives for an abandoned connection is not meant for the next one.
          if (!bytes || transport.isClosed) break;
          yield bytes;
        }
      } catch (error) {
        return lose(error as Error); // Deno throws nothing else
      }
      lose();
    },
    isEncrypted: () => isEncrypted,
    send(bytes) {
      if (transport.isClosed || !connection) return;
      unsent.push(bytes);
      if (!isWriting) void writeAll(connection);
    },
    close(error) {
      shut(error);
      return Promise.resolve();
    },
    disconnect: () => lose(),
    closed: () => lost.promise,
    discard: () => shut(),
  };
  return transport;
}
