// What the reports of instances say about a stream. Pure.

/** The share of time in which the running instances were storing, on average; null if their reports do not tell. */
export function loadOf(stream) {
  const known = stream.instances.filter((instance) => instance.state === 'running' && instance.utilization != null);
  return known.length ? sum(known, (instance) => instance.utilization) / known.length : null;
}

/** Messages per second of all instances. */
export function throughputOf(stream) {
  return sum(stream.instances, (instance) => instance.messages_per_second);
}

/** Messages received and not acknowledged. */
export function backlogOf(stream) {
  return sum(stream.instances, (instance) => instance.backlog);
}

function sum(items, number) {
  return items.reduce((total, item) => total + number(item), 0);
}
