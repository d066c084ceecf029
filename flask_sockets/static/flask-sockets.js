/**
 * A WebSocket that comes back, for pages of apps with Flask-Sockets.
 *
 *     import { connect } from "{{ url_for('sockets.client') }}";
 *
 *     const chat = connect("/chat/lobby", { resume: true, queue: 20 });
 *     chat.addEventListener("message", ({ data }) => show(data));
 *     chat.send("hello");
 *
 * What each part promises is said in flask-sockets.d.ts.
 */

// An answer to a plain request by which the server says that coming again is useless.
// 426 is what a route for WebSockets says to it, and the others pass.
const isRefusal = (status) =>
  status >= 300 && status < 500 && ![408, 425, 426, 429].includes(status);

const isFinal = (code) => code === 1000 || code === 1008 || (code >= 4000 && code <= 4999);

const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

export class Connection extends EventTarget {
  #url;
  #options;
  #socket = null;
  #timer;
  #failures = 0;
  #queue = [];
  #listening = new AbortController();

  state = "connecting";
  retryAt = null;
  positions = new Map();

  constructor(url, options) {
    super();
    this.#url = url;
    this.#options = { minDelay: 250, maxDelay: 30000, queue: 0, resume: false, ...options };
    const { signal } = this.#options;
    if (signal?.aborted) {
      this.#end({ code: 1000 });
      return;
    }
    const listen = { signal: this.#listening.signal };
    signal?.addEventListener("abort", () => this.close(), listen);
    // The network is back, or the person is: no reason to wait any longer.
    addEventListener("online", () => this.#hurry(), listen);
    document.addEventListener("visibilitychange", () => this.#hurry(), listen);
    this.#open();
  }

  get protocol() {
    return this.#socket?.protocol ?? "";
  }

  send(data) {
    if (this.state === "open") {
      this.#socket.send(data);
      return true;
    }
    if (this.state === "closed" || this.#queue.length >= this.#options.queue) return false;
    this.#queue.push(data);
    return true;
  }

  close(code = 1000, reason = "") {
    if (this.state === "closed") return;
    const socket = this.#socket;
    // Refuses what may not be said before anything has changed.
    socket?.close?.(code, reason);
    this.#end({ code, reason, wasClean: true });
  }

  reconnect() {
    if (this.state === "closed") return;
    this.#socket?.close?.(1000);
    this.#failures = 0;
    this.#open();
  }

  async #open() {
    clearTimeout(this.#timer);
    this.#show("connecting");
    // Whatever comes from an attempt that another one has replaced is ignored.
    const attempt = (this.#socket = {});
    let source = this.#url;
    try {
      source = await (source.call ? source(this) : source);
    } catch (error) {  // It may have asked the server for something.
      console.warn(error);
      if (this.#socket === attempt) this.#wait();
    }
    if (this.#socket !== attempt) return;
    let url, socket;
    try {
      url = new URL(source, document.baseURI);
      url.protocol = url.protocol.replace("http", "ws");
      const positions = [...this.positions.values()];
      if (this.#options.resume && positions.length === 1) {
        url.searchParams.set("since", positions[0]);
      }
      socket = new WebSocket(url, this.#options.protocols ?? []);
    } catch (error) {
      this.#end({ code: 1006, error });
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    let opened = 0;
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      opened = Date.now();
      this.#show("open");
      for (const data of this.#queue.splice(0)) socket.send(data);
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(data);
    };
    socket.onclose = async ({ code, reason, wasClean }) => {
      if (this.#socket !== socket) return;
      // A server that ends each connection at once is in trouble, too.
      if (code === 1012 || (opened && Date.now() - opened > 5000)) this.#failures = 0;
      const end = { code, reason, wasClean, status: opened ? null : await this.#ask(url) };
      if (this.#socket !== socket) return;
      if (isFinal(code) || isRefusal(end.status)) this.#end(end);
      else this.#wait();
    };
  }

  // A browser doesn't tell a page why a handshake has failed. A plain request may.
  async #ask(url) {
    const plain = new URL(url);
    plain.protocol = url.protocol.replace("ws", "http");
    const options = { credentials: "include", cache: "no-store", redirect: "manual" };
    return fetch(plain, options).then(
      ({ status, type }) => (type === "opaqueredirect" ? 302 : status),
      () => null,
    );
  }

  #receive(data) {
    const detail = { data };
    if (this.#options.resume && typeof data === "string") {
      let envelope;
      try {
        envelope = JSON.parse(data);
      } catch {}  // What the handler sends itself may be anything.
      if (envelope?.topic !== undefined && envelope.position !== undefined) {
        Object.assign(detail, envelope);
        if (envelope.encoding === "base64") detail.data = decode(envelope.data).buffer;
        if (envelope.position !== null) this.positions.set(envelope.topic, envelope.position);
      }
    }
    this.dispatchEvent(Object.assign(new Event("message"), detail));
  }

  // By chance, so that a server in trouble is not met by everybody at once.
  #wait() {
    this.#socket = null;
    const { minDelay, maxDelay } = this.#options;
    const delay = Math.random() * Math.min(maxDelay, minDelay * 2 ** this.#failures++);
    this.#timer = setTimeout(() => this.#open(), delay);
    this.retryAt = Date.now() + delay;
    this.#show("waiting");
  }

  #hurry() {
    if (this.state !== "waiting" || document.visibilityState === "hidden") return;
    this.#failures = 0;
    this.#open();
  }

  #show(state) {
    if (state !== "waiting") this.retryAt = null;
    if (this.state === state && state !== "waiting") return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #end(how) {
    clearTimeout(this.#timer);
    this.#listening.abort();
    this.#socket = null;
    this.#queue = [];
    this.#show("closed");
    const end = { reason: "", wasClean: false, status: null, error: null, ...how };
    this.dispatchEvent(Object.assign(new Event("close"), end));
  }
}

export const connect = (url, options = {}) => new Connection(url, options);
