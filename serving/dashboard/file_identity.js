// Which file an event is about, and where it belongs in a list. Pure.

import { groupBy } from './groups.js';

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
 * Returns the list as it is after these events: without the files where they were, and with them at the beginning of their state if
 * they belong in the list. A file whose place is beyond what has been read is not added: it is found there.
 *
 * @param {FileItem[]} items
 * @param {FileItem[]} events in the order in which they happened
 * @param {FileFilter} filter
 * @param {boolean} isComplete whether the list has been read to its end
 */
export function withFiles(items, events, filter, isComplete) {
  const gone = new Set();
  const present = new Map();
  for (const file of events) {
    for (const key of [keyOf(file), ...earlierKeys(file)]) {
      gone.add(key);
      present.delete(key);
    }
    if (matches(file, filter)) present.set(keyOf(file), file);
  }
  const rest = [];
  for (const item of items) {
    const key = keyOf(item);
    const now = present.get(key);
    if (now?.state === item.state) {
      rest.push(now);
      present.delete(key);
    } else if (!gone.has(key)) {
      rest.push(item);
    }
  }
  return [...groupBy(present.values(), ({ state }) => state)].reduce((list, [state, files]) => {
    const order = STATES.indexOf(state);
    const place = list.findIndex((item) => STATES.indexOf(item.state) >= order);
    if (place < 0) return isComplete ? [...list, ...files.reverse()] : list;
    return list.toSpliced(place, 0, ...files.reverse());
  }, rest);
}
