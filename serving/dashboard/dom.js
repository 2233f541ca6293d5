// Builds and updates elements. Text is always text: nothing here parses HTML.

/**
 * Creates an element.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] `class`, `on: {click: …}`, attributes with a dash (`aria-label`, `data-id`) and `role`;
 *   everything else is a property of the element. Null, undefined and false attributes are left out.
 * @param {...(Node | string | number | null | undefined | false | Array)} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  assign(element, properties);
  append(element, children);
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** Creates an element of an SVG image; all properties are attributes. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  append(element, children);
  return element;
}

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === 'class') {
      element.className = value ?? '';
    } else if (name.includes('-') || name === 'role' || name === 'for') {
      setAttribute(element, name, value);
    } else if (value !== undefined && value !== null) {
      element[name] = value;
    }
  }
}

/** Sets an attribute; removes it if the value is null, undefined or false. Does nothing if it is already so. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replaces all children. */
export function replace(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
}

/** Sets the text if it is another one, so that nothing is laid out again without need. */
export function setText(element, text) {
  const next = String(text ?? '');
  if (element.textContent !== next) element.textContent = next;
}

/**
 * Makes the children of `parent` those of `items`, in order. An element is created once for each key and then updated.
 *
 * @template T
 * @param {HTMLElement} parent
 * @param {T[]} items
 * @param {{key: (item: T) => string, create: (item: T) => HTMLElement, update?: (element: HTMLElement, item: T) => void}} how
 */
export function keyed(parent, items, { key, create, update }) {
  const existing = new Map();
  for (const child of [...parent.children]) existing.set(child.dataset.key, child);
  let before = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let element = existing.get(name);
    if (element) {
      existing.delete(name);
    } else {
      element = create(item);
      element.dataset.key = name;
    }
    update?.(element, item);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const element of existing.values()) element.remove();
}

/**
 * Returns a function that calls `render` in a frame that follows, once, however often it is called; and not again for `pause`
 * milliseconds.
 */
export function inNextFrame(render, signal, pause = 0) {
  let requested = false;
  let renderedAt = -Infinity;
  const inFrame = () => requestAnimationFrame(() => {
    requested = false;
    renderedAt = performance.now();
    if (!signal?.aborted) render();
  });
  return () => {
    if (requested) return;
    requested = true;
    const wait = renderedAt + pause - performance.now();
    if (wait > 0) setTimeout(inFrame, wait);
    else inFrame();
  };
}

let nextId = 0;

/** An id for `aria-labelledby` and the like. */
export function uniqueId(prefix) {
  nextId += 1;
  return `${prefix}-${nextId}`;
}
