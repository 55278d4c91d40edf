/** The form that adds an item to the catalog. */

import {request, RequestError} from './api.js';
import {byId, showPath, similarRows} from './render.js';
import {percent} from './state.js';

// The columns of the item text that the form has fields for. The title is sent
// separately.
const COLUMNS = ['brand', 'categories', 'description'];

/**
 * Starts the form.
 * @param {{pick: function(object), history: function(): string[],
 *   done: function(object)}} app `pick` adds an item to the history, `history`
 *   returns its ids, and `done` is called with the item that was added.
 */
export function startAdding(app) {
  const form = byId('add-form');
  const status = byId('added-status');
  let isSending = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    byId('added').replaceChildren();
    status.textContent =
      'Computing the Semantic ID\u2026 The first item can take a minute.';
    try {
      const fields = values(form);
      await request('v1/items', {body: fields});
      form.reset();
      status.textContent = `Added \u2068${fields.title}\u2069.`;
      await showAdded(fields.id, app);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      status.textContent = error.message;
    } finally {
      isSending = false;
    }
  });
}

/** Returns the body of the request. Empty columns are left out. */
function values(form) {
  const data = Object.fromEntries(new FormData(form));
  const filled = COLUMNS.filter((name) => data[name].trim());
  const text = Object.fromEntries(filled.map((name) => [name, data[name].trim()]));
  return {
    id: data.id.trim(),
    title: data.title.trim(),
    text: filled.length ? text : null,
  };
}

/** Shows the Semantic ID, the probability and the neighbors of a new item. */
async function showAdded(id, app) {
  const item = await request(`v1/items/${encodeURIComponent(id)}`);
  const node = byId('added-item').content.cloneNode(true);
  showPath(node.querySelector('.path'), item.semantic_id);
  node.querySelector('button').addEventListener('click', () => app.pick(item));
  const rows = similarRows(item.similar, app.pick);
  node.querySelector('ul').append(...rows);
  node.querySelector('.near').hidden = !rows.length;
  node.querySelector('.chance').textContent = await chance(id, app.history());
  byId('added').replaceChildren(node);
  app.done(item);
}

/** Returns a sentence with the probability of an item after the history. */
async function chance(id, history) {
  if (!history.length) return 'Choose a history to see the probability of this item.';
  const options = {allow: [id]};
  const body = {history, k: 1, strict: false, options};
  const {items, fallback} = await request('v1/recommend', {body});
  if (fallback || !items.length) return '';
  return `After this history, its probability is ${percent(items[0].score)}.`;
}
