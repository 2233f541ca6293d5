// Small parts that several views use.

import { h, replace, setAttribute, setText } from './dom.js';
import { icon } from './icons.js';
import { announce } from './shell.js';
import { setOutside } from './visible.js';

/** The state of a file: a shape, a word and a colour. */
export function stateBadge(state) {
  const badge = h('span', { class: 'badge' });
  setState(badge, state);
  return badge;
}

/** Changes the state that a badge shows. */
export function setState(badge, state) {
  if (badge.dataset.state === state) return;
  badge.dataset.state = state;
  replace(badge, icon(state), h('span', {}, state.replaceAll('_', ' ')));
}

/** A bar that is filled from the left; `setProgress` fills it. */
export function progressBar(label) {
  return h('div', { class: 'bar', role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100 }, h('div', { class: 'bar-fill' }));
}

/** @param {number} share from 0 to 1 */
export function setProgress(bar, share) {
  const percent = Math.round(Math.min(1, Math.max(0, share)) * 100);
  bar.firstChild.style.width = `${percent}%`;
  setAttribute(bar, 'aria-valuenow', percent);
}

/** A panel with a heading. */
export function panel(title, { actions, id, className = '' } = {}, ...children) {
  const heading = h('h2', { id: id && `${id}-title` }, title);
  return h('section', { class: `panel ${className}`, id, 'aria-labelledby': id && `${id}-title` },
    h('div', { class: 'panel-head' }, heading, actions && h('div', { class: 'row' }, actions)), children);
}

/** A control with its label above it. */
export function field(label, control, hint) {
  return h('label', { class: 'field' }, h('span', { class: 'field-label' }, label), control, hint && h('span', { class: 'faint tiny' }, hint));
}

/** What is shown instead of an empty list: what would be here, and how it gets here. */
export function empty(title, ...children) {
  return h('div', { class: 'empty' }, h('p', { class: 'empty-title' }, title), children);
}

/** An error of a request; nothing if there is none. */
export function failure(element, error) {
  element.hidden = !error;
  if (error) setOutside(element, error.message);
}

/** A button that runs an action once, and shows that it does, and why it failed. */
export function actionButton(label, action, { className = '', iconName } = {}) {
  const button = h('button', { type: 'button', class: className }, iconName && icon(iconName), h('span', {}, label));
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      notify(error.message, 'failure');
    }
    button.disabled = false;
  });
  return button;
}

/** Copies text, and says so. */
export function copyButton(text, label) {
  const button = h('button', { type: 'button', class: 'quiet icon-only', 'aria-label': label, title: label }, icon('copy'));
  button.addEventListener('click', async () => {
    await navigator.clipboard?.writeText(typeof text === 'function' ? text() : text);
    replace(button, icon('ingested'));
    announce('Copied');
    setTimeout(() => replace(button, icon('copy')), 1200);
  });
  return button;
}

/** Tells shortly what was done, or why it was not. */
export function notify(text, kind = 'done') {
  const toast = h('div', { class: `toast toast-${kind}`, role: kind === 'failure' ? 'alert' : 'status' });
  const message = h('bdi');
  setOutside(message, text);
  replace(toast, icon(kind === 'failure' ? 'alert' : 'ingested'), message);
  const toasts = document.querySelector('.toasts') ?? document.body.appendChild(h('div', { class: 'toasts' }));
  // Above a modal dialog, if there is one.
  (document.querySelector('dialog[open]') ?? document.body).append(toasts);
  toasts.append(toast);
  setTimeout(() => toast.remove(), kind === 'failure' ? 9000 : 4000);
}

/**
 * Asks whether something shall be done.
 *
 * @returns {Promise<boolean>}
 */
export function confirmed(title, text, action) {
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'confirm-title' },
    h('form', { method: 'dialog', class: 'stack' },
      h('h2', { id: 'confirm-title' }, title),
      h('p', { class: 'soft' }, text),
      h('div', { class: 'row end' }, h('button', { value: 'no' }, 'Cancel'), h('button', { value: 'yes', class: 'primary' }, action))));
  showDialog(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'));
  });
}

/** Shows a dialog about the present view. It is removed once it is closed, and closed when another view is shown. */
export function showDialog(dialog) {
  const close = () => dialog.close();
  window.addEventListener('hashchange', close);
  dialog.addEventListener('close', () => {
    window.removeEventListener('hashchange', close);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** The text of a payload, or a mask while payloads are hidden. */
export function setPayload(element, text, settings) {
  element.classList.toggle('masked', settings.hidesPayloads);
  if (settings.hidesPayloads) setText(element, '••••••');
  else setOutside(element, text);
}

/** Buttons of which one is pressed. */
export function choice(label, options, chosen, onChoose) {
  const group = h('div', { class: 'segments', role: 'group', 'aria-label': label });
  const buttons = options.map(([value, text]) => h('button', { type: 'button', 'data-value': value, on: { click: () => onChoose(value) } }, text));
  group.append(...buttons);
  group.show = (value) => buttons.forEach((button) => setAttribute(button, 'aria-pressed', String(button.dataset.value === value)));
  group.show(chosen);
  return group;
}
