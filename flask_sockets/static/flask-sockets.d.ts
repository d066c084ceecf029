/** What there is to say about how a {@link Connection} is made. */
export interface Options {
  /** Subprotocols that the page speaks, the best first. */
  protocols?: string | string[];
  /**
   * Whether to read topics with `envelope=True`, and to come back by the position of
   * the last message: as `?since=...` where messages of one topic came, else by the
   * page's own URL, which may be a function. The page sees the messages as if they had
   * come without envelope.
   */
  resume?: boolean;
  /** How many messages wait to be sent while there is no connection. By default none. */
  queue?: number;
  /**
   * Milliseconds. A pause takes any time up to this one, which doubles each time, up to
   * `maxDelay`. By default 250.
   */
  minDelay?: number;
  /** Milliseconds. By default 30,000. */
  maxDelay?: number;
  /** Closes the connection when it is aborted. */
  signal?: AbortSignal;
}

/**
 * - `connecting`: on its way.
 * - `open`: messages come and go.
 * - `waiting`: until `retryAt`, to try again.
 * - `closed`: for good.
 */
export type State = "connecting" | "open" | "waiting" | "closed";

/** A message. It has a topic and a position if the server sent it in an envelope. */
export interface SocketMessageEvent extends Event {
  /** What was sent; of an envelope what was published: a string, a value, or bytes. */
  readonly data: any;
  readonly topic?: string;
  readonly position?: string | null;
}

/** The end for good. */
export interface SocketCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
  /**
   * What the server answers to a plain request for the URL, where a handshake failed:
   * 302 for any redirect.
   */
  readonly status: number | null;
  /** Why the browser refuses to connect: a URL that is none, for example. */
  readonly error: unknown;
}

export interface ConnectionEventMap {
  message: SocketMessageEvent;
  /** `state` has changed, or `retryAt` has. */
  state: Event;
  close: SocketCloseEvent;
}

/**
 * A URL, or a function that makes one for each attempt, for example with a new token.
 * Where it fails, the next attempt comes later, as where the server is away.
 */
export type Source =
  | string
  | URL
  | ((connection: Connection) => string | URL | Promise<string | URL>);

/**
 * A WebSocket that comes back when it was lost: at once when the network is back or the
 * page is looked at again, else after a while. It does not come back after the close
 * codes 1000, 1008 and 4000 to 4999, nor where the server answers a plain request for
 * the URL with a redirect or 4xx: 401, 403 or 404, for example. Why a handshake failed itself, no
 * browser tells a page: to say it, accept the connection and close it with a code of
 * your own.
 */
export declare class Connection extends EventTarget {
  constructor(url: Source, options?: Options);

  readonly state: State;
  /** When the next attempt is due, as of `Date.now()`. `null` in all states but `waiting`. */
  readonly retryAt: number | null;
  /** The position of the last message of each topic, with `resume`. */
  readonly positions: Map<string, string>;
  /** The subprotocol agreed on, or "". */
  readonly protocol: string;

  /**
   * Send a message, or let it wait for the connection.
   *
   * @returns whether the message was taken. Taken ones get lost with a connection that
   * breaks as they are under way: what must not get lost, the server has to confirm.
   */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): boolean;
  /** Close for good. */
  close(code?: number, reason?: string): void;
  /** Connect anew, at once, unless it was closed for good. */
  reconnect(): void;

  addEventListener<K extends keyof ConnectionEventMap>(
    type: K,
    listener: (this: Connection, event: ConnectionEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof ConnectionEventMap>(
    type: K,
    listener: (this: Connection, event: ConnectionEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * Open a {@link Connection}.
 *
 * @param url relative to the page, or absolute; `http` stands for `ws`.
 */
export declare function connect(url: Source, options?: Options): Connection;
