// Addresses of views: `#/files?state=held`. All that a person has chosen is in them, so that links can be shared.

/**
 * @typedef {object} Route
 * @property {string[]} path the parts of the path
 * @property {Record<string, string>} query
 */

/** @returns {Route} */
export function parseRoute(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const parts = path.split('/').filter(Boolean).map(decoded);
  return { path: parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view; parameters without a value are left out. */
export function formatRoute(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') parameters.set(name, value);
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** Shows the view of the present address, and of each one that follows. */
export class Router extends EventTarget {
  /** @type {Route} */
  route = parseRoute(location.hash);

  start() {
    window.addEventListener('hashchange', () => {
      this.route = parseRoute(location.hash);
      this.dispatchEvent(new Event('change'));
    });
  }

  get client() {
    return this.route.query.client ?? '';
  }

  /** The address of a view, for the client that is shown. */
  href(path, query = {}) {
    return formatRoute(path, { client: this.client, ...query });
  }

  /** Goes to a view. */
  go(path, query) {
    location.hash = this.href(path, query);
  }

  /** Changes parameters of the present view; `replace` makes no new step to go back over. */
  change(query, { replace = true } = {}) {
    // Not that of `route`: it is known a moment later.
    const now = parseRoute(location.hash);
    const hash = formatRoute(now.path, { ...now.query, ...query });
    if (hash === location.hash) return;
    if (!replace) {
      location.hash = hash;
      return;
    }
    history.replaceState(null, '', hash);
    this.route = parseRoute(hash);
    this.dispatchEvent(new Event('change'));
  }
}
