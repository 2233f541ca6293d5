// The same query as what is shown, as a file, and as a command for a terminal.

import { address } from './api.js';
import { h } from './dom.js';
import { downloadButton } from './download.js';
import { copyButton } from './parts.js';

const FORMS = [['CSV', 'text/csv', 'csv'], ['NDJSON', 'application/x-ndjson', 'ndjson']];

/**
 * @param {(form: 'csv' | 'ndjson') => {path: string, query: object}} queryOf the query as it is shown
 * @param {string} name of the file, without its ending
 */
export function exportLinks(app, queryOf, name) {
  return h('div', { class: 'row wrap', role: 'group', 'aria-label': 'Export what is shown' }, FORMS.map(([label, accept, form]) => {
    const path = () => {
      const { path: resource, query } = queryOf(form);
      return address(resource, query);
    };
    return h('span', { class: 'export' },
      downloadButton(app, { label, path, accept, fileName: `${name}.${form}`, className: 'export-button' }),
      copyButton(() => curl(path(), accept, Boolean(app.api.token)), `Copy the command for ${label}`));
  }));
}

/** The command that gets the same. The token is not in it. */
export function curl(path, accept, needsToken) {
  const quoted = `${location.origin}${path}`.replaceAll("'", "'\\''");
  return `curl -s --compressed -H 'Accept: ${accept}'${needsToken ? ' -H "Authorization: Bearer $MYSIMBDP_TOKEN"' : ''} '${quoted}'`;
}
