// The format of server-sent events, read from any pieces of its text.

/**
 * @typedef {object} ServerEvent
 * @property {string} id of this event, or of the last one that had any
 * @property {string} event its name
 * @property {string} data
 */

/** Puts pieces of text together to events. `EventSource` does the same, but cannot send a token. */
export class EventParser {
  #rest = '';
  #id = '';
  #event = '';
  #data = [];

  /**
   * @param {string} text the next piece, which may begin and end anywhere
   * @returns {ServerEvent[]} the events that are complete now
   */
  push(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#event = value;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    return null;
  }

  #dispatch() {
    const [event, data] = [this.#event || 'message', this.#data];
    this.#event = '';
    this.#data = [];
    return data.length ? { id: this.#id, event, data: data.join('\n') } : null;
  }
}
