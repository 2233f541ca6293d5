// Who uses the page, what they may do, and the dialog that asks for a token.

import { h, replace } from './dom.js';
import { icon } from './icons.js';
import { outside, visible } from './visible.js';
import { plural } from './format.js';

const RIGHTS = [['read', 'see everything'], ['drop', 'drop files'], ['operate', 'retry files, scale streams']];

/** What the caller may do. A server that cannot tell is taken to allow everything, and refuses what it does not allow. */
export class Access {
  /** @type {string[]} */
  rights = RIGHTS.map(([right]) => right);
  /** @type {string[] | null} null: all clients */
  clients = null;
  name = '';

  static async read(api) {
    const access = new Access();
    const response = await api.request('/api/access', { accepts: [404] });
    if (response.ok) Object.assign(access, await response.json());
    return access;
  }

  /** @param {'read' | 'drop' | 'operate'} right */
  may(right, client) {
    return this.rights.includes(right) && (!client || this.clients === null || this.clients.includes(client));
  }

  /** Whether nothing can be changed. */
  get isReadOnly() {
    return !this.may('drop') && !this.may('operate');
  }
}

/**
 * Asks for a token until there is one.
 *
 * @param {string | null} refused the token that was not accepted, if there was one
 * @returns {Promise<string>}
 */
export function askForToken(refused) {
  const input = h('input', { id: 'token', type: 'password', autocomplete: 'off', required: true, spellcheck: false, 'aria-describedby': 'token-note' });
  const note = refused
    ? 'The server does not accept this token: it may have been withdrawn, or mistyped.'
    : 'This server answers only with a token. It is kept in this tab until it is closed.';
  const form = h('form', { class: 'stack', method: 'dialog' },
    h('h2', { id: 'token-title' }, 'Token needed'),
    h('p', { id: 'token-note', class: refused ? 'failure' : 'soft' }, note),
    h('label', { for: 'token' }, 'Token'),
    input,
    h('div', { class: 'row end' }, h('button', { type: 'submit', class: 'primary' }, 'Continue')));
  const dialog = h('dialog', { id: 'token-dialog', class: 'dialog', 'aria-labelledby': 'token-title' }, form);
  document.body.append(dialog);
  dialog.showModal();
  // Without a token there is nothing to go back to, and a browser does not let every Escape be prevented.
  const stay = () => dialog.showModal();
  dialog.addEventListener('close', stay);
  return new Promise((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      dialog.removeEventListener('close', stay);
      dialog.close();
      dialog.remove();
      resolve(input.value.trim());
    });
  });
}

/** The button in the header that says who uses the page, with what they may do behind it. */
export function accessButton(app) {
  const { access, api } = app;
  const label = access.name || (api.token ? 'token' : 'no token');
  const panel = h('div', { id: 'access', class: 'popover', popover: 'auto' });
  replace(panel,
    h('h2', {}, 'Access'),
    h('p', {}, api.token ? ['With the token ', access.name ? outside(access.name) : 'of this tab'] : 'This server requires no token.'),
    h('ul', { class: 'rights' }, RIGHTS.map(([right, text]) => {
      const allowed = access.may(right);
      return h('li', { class: allowed ? '' : 'faint' }, icon(allowed ? 'ingested' : 'close'), `${right}: ${text}`, allowed ? '' : h('strong', {}, ' not allowed'));
    })),
    h('p', { class: 'soft' }, access.clients === null ? 'All clients' : ['Only ', plural(access.clients.length, 'client'), ': ', outside(access.clients.join(', '))]),
    api.token && h('button', {
      type: 'button',
      on: {
        click: () => {
          api.token = null;
          location.reload();
        },
      },
    }, 'Use another token'));
  const button = h('button', { id: 'access-button', type: 'button', class: 'quiet', 'aria-label': `Access: ${visible(label)}${access.isReadOnly ? ', read only' : ''}` },
    icon(access.isReadOnly ? 'lock' : 'person'), access.isReadOnly && h('span', {}, 'read only'));
  button.popoverTargetElement = panel;
  return [button, panel];
}
