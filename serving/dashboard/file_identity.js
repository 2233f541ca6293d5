// Which file an event is about, and where it belongs in a list. Pure.

/** The states of files, in the order of their way; lists have them in this order. */
export const STATES = ['waiting', 'staged', 'held', 'discarded', 'ingested', 'purged'];

/**
 * @typedef {object} FileItem as `/api/files` has it
 * @property {'waiting' | 'staged' | 'held' | 'discarded' | 'ingested' | 'purged'} state
 * @property {string} [client]
 * @property {string} id
 * @property {string} [ingestion]
 * @property {string} name
 * @property {string[]} reasons
 */

/** Identifies a file for as long as it is in one place; a staged file and the held one that it becomes are in the same. */
export function keyOf(file) {
  switch (file.state) {
    case 'waiting': return waitingKey(file);
    case 'staged': case 'held': return stagedKey(file);
    default: return `${file.state === 'discarded' ? 'd' : 'r'}:${file.id}`;
  }
}

const waitingKey = (file) => `w:${file.client ?? ''}/${file.name}`;
const stagedKey = (file) => `s:${file.client ?? ''}/${file.ingestion ?? file.id}`;

/** The keys that a file may have had before it came to where it is. */
export function earlierKeys(file) {
  if (file.state === 'waiting') return [];
  if (file.state === 'purged') return [`d:${file.id}`, `r:${file.id}`, stagedKey(file)];
  const keys = [waitingKey(file)];
  // The same content may be discarded as a duplicate while it is staged.
  if (file.state !== 'discarded' && file.ingestion) keys.push(stagedKey(file));
  return keys;
}

/**
 * @typedef {object} FileFilter
 * @property {Set<string>} states empty: all
 * @property {string} client empty: all
 * @property {string} name a part of the name
 * @property {string} since RFC 3339, or empty
 */

/** Whether the server would list the file. */
export function matches(file, filter) {
  return (filter.states.size === 0 || filter.states.has(file.state))
    && (!filter.client || file.client === filter.client)
    && file.name.includes(filter.name)
    && (!filter.since || (file.received_at ?? '') >= filter.since);
}

/**
 * Returns the list as it is after the event: without the file where it was, and with it at the beginning of its state if it belongs
 * in the list. A file whose place is beyond what has been read is not added: it is found there.
 *
 * @param {FileItem[]} items
 * @param {FileItem} file
 * @param {FileFilter} filter
 * @param {boolean} isComplete whether the list has been read to its end
 */
export function withFile(items, file, filter, isComplete) {
  const gone = new Set([keyOf(file), ...earlierKeys(file)]);
  const at = items.findIndex((item) => keyOf(item) === keyOf(file));
  if (at >= 0 && items[at].state === file.state && matches(file, filter)) {
    return items.with(at, file);
  }
  const others = items.filter((item) => !gone.has(keyOf(item)));
  if (!matches(file, filter)) return others;
  const order = STATES.indexOf(file.state);
  const place = others.findIndex((item) => STATES.indexOf(item.state) >= order);
  if (place < 0) return isComplete ? [...others, file] : others;
  return others.toSpliced(place, 0, file);
}
