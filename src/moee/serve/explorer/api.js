// Talks to the server: keys, busy answers, errors, and answers that arrive out of order.

const KEY = "moee-api-key";
const MOST_TRIES = 6;
const LONGEST_WAIT = 30; // seconds

/** The server answered with an error. `kind` is its `error_type`. */
export class ApiError extends Error {
  constructor(status, kind, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.kind = kind;
  }
}

/** Nothing answered at the server's address. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer.");
    this.name = "Unreachable";
  }
}

const hooks = {
  /** Asks the person for a key. @type {(refused: boolean) => Promise<string>} */
  askForKey: async () => "",
  /** Told how many seconds until the next try while the server is busy, and 0 when it no longer is. */
  onBusy: (_seconds) => {},
};

/** Set what the page does when a key is wanted or the server is busy. */
export function configure(functions) {
  Object.assign(hooks, functions);
}

let asking = null;

/** Ask once however many requests were refused, and remember the key for this tab. */
function renewKey() {
  const refused = sessionStorage.getItem(KEY) !== null;
  asking ??= hooks.askForKey(refused).then((key) => {
    sessionStorage.setItem(KEY, key);
    asking = null;
  });
  return asking;
}

/** Wait, or stop waiting when the request is no longer wanted. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("superseded", "AbortError"));
    });
  });
}

/** @returns {Promise<[Response, string | null]>} The answer, and the key that was sent. */
async function send(path, body, signal) {
  /** @type {Record<string, string>} */
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
    return [response, key];
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
}

async function failure(response) {
  let message = `The server answered ${response.status} ${response.statusText}.`;
  let kind = "";
  try {
    const answer = await response.json();
    const error = answer.error ?? answer.detail;
    message = typeof error === "string" ? error : (error?.message ?? message);
    kind = answer.error_type ?? error?.type ?? "";
  } catch {
    // a proxy's page, not an answer of ours: the status says what there is to say
  }
  return new ApiError(response.status, kind, message);
}

/**
 * Ask the server, with `body` as JSON by POST, or by GET without one.
 *
 * A wrong key is asked for again, a busy server is asked again when it said it would be ready.
 * @returns {Promise<any>} The answer.
 * @throws {ApiError} For an error that asking again does not mend.
 * @throws {Unreachable} If there is no server.
 * @throws {DOMException} `AbortError` once `signal` is aborted.
 */
export async function request(path, body = undefined, signal = undefined) {
  for (let tries = 1; ; tries += 1) {
    const [response, key] = await send(path, body, signal);
    if (response.status === 401) {
      // another request may have brought a new key while this one was on its way
      if (key === sessionStorage.getItem(KEY)) await renewKey();
      signal?.throwIfAborted();
      continue;
    }
    // 503 comes from a server that is stopping; another may stand in its place by then
    if ((response.status === 429 || response.status === 503) && tries < MOST_TRIES) {
      const wanted = Number(response.headers.get("Retry-After"));
      const seconds = Math.min(LONGEST_WAIT, wanted > 0 ? wanted : 2 ** tries);
      hooks.onBusy(seconds);
      await pause(seconds, signal).finally(() => hooks.onBusy(0));
      continue;
    }
    if (!response.ok) throw await failure(response);
    try {
      return await response.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Unreachable(); // the connection broke in the middle of the answer
    }
  }
}

/** Whether there is a server that takes requests. */
export async function isThere() {
  try {
    return (await fetch("health", { cache: "no-store" })).status < 500;
  } catch {
    return false;
  }
}

/** Runs tasks of which only the newest counts: a newer one aborts the older, whose answer is dropped. */
export class Latest {
  #controller = null;

  /** Give up what is running. */
  cancel() {
    this.#controller?.abort();
    this.#controller = null;
  }

  /**
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} task
   * @returns {Promise<T>} Never settles if a newer task took over, so that code after it does not run.
   */
  async run(task) {
    this.cancel();
    const controller = new AbortController();
    this.#controller = controller;
    try {
      const result = await task(controller.signal);
      if (this.#controller === controller) return result;
    } catch (error) {
      if (this.#controller === controller) throw error;
    }
    return new Promise(() => {});
  }
}
