// Requests to the server, with the token if there is one.

/** A problem document of the server (RFC 9457), or that it did not answer. */
export class Problem extends Error {
  /**
   * @param {number} status 0 if there was no answer
   * @param {string} code for programs
   * @param {string} detail for people
   */
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status === 503 || this.status === 502 || this.status === 504;
  }
}

const TOKEN = 'mysimbdp.token';

/**
 * Sends requests. If the server wants a token, `askForToken` is called once for all requests that wait for it, and they are sent
 * again with what it returns.
 */
export class Api {
  #askForToken;
  #asking = null;

  /** @param {(given: string | null) => Promise<string>} askForToken `given` is the one that was refused */
  constructor(askForToken) {
    this.#askForToken = askForToken;
  }

  get token() {
    return sessionStorage.getItem(TOKEN);
  }

  set token(token) {
    if (token) sessionStorage.setItem(TOKEN, token);
    else sessionStorage.removeItem(TOKEN);
  }

  /** The headers that say who asks. */
  headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /**
   * Returns a successful answer.
   *
   * @param {string} path
   * @param {{method?: string, query?: Record<string, unknown>, accept?: string, json?: unknown, headers?: Record<string, string>,
   *   signal?: AbortSignal, accepts?: number[]}} [request] `query`: parameters that are empty are left out; `accepts`: statuses
   *   that are no failure here
   * @returns {Promise<Response>}
   * @throws {Problem}
   */
  async request(path, { method = 'GET', query, accept = 'application/json', json, headers, signal, accepts = [] } = {}) {
    for (;;) {
      const token = this.token;
      const response = await this.#send(address(path, query), {
        method,
        signal,
        cache: 'no-store',
        headers: { Accept: accept, ...this.headers(), ...headers, ...(json === undefined ? {} : { 'Content-Type': 'application/json' }) },
        body: json === undefined ? undefined : JSON.stringify(json),
      });
      if (response.ok || accepts.includes(response.status)) return response;
      if (response.status !== 401) throw await problem(response);
      await this.renewToken(token);
    }
  }

  /** Returns the JSON of a successful answer. */
  async get(path, query, options = {}) {
    return (await this.request(path, { query, ...options })).json();
  }

  async post(path, json, options = {}) {
    return (await this.request(path, { method: 'POST', json, ...options })).json();
  }

  /**
   * Reads a list page by page.
   *
   * @returns {AsyncGenerator<{items: object[], next?: string}>}
   */
  async *pages(path, query, options) {
    let cursor;
    do {
      const page = await this.get(path, { ...query, cursor }, options);
      yield page;
      cursor = page.next;
    } while (cursor);
  }

  /** Waits for another token than the one that was refused. */
  async renewToken(refused) {
    if (this.token !== refused) return;
    this.#asking ??= this.#askForToken(refused).finally(() => (this.#asking = null));
    this.token = await this.#asking;
  }

  async #send(url, options) {
    try {
      return await fetch(url, options);
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0, 'no_answer', 'the server does not answer');
    }
  }
}

/** The address of a resource with its parameters; those without a value are left out. */
export function address(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') parameters.set(name, value);
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/** A component of a path. */
export const encoded = encodeURIComponent;

/** What a refused request says. */
export async function problem(response) {
  const document = await response.json().catch(() => ({}));
  return new Problem(response.status, document.code ?? 'unknown', document.detail ?? `${response.status} ${response.statusText}`);
}

/** Whether this is only the end of what is no longer wanted. */
export function isAbort(error) {
  return error?.name === 'AbortError';
}
