/** The search of the catalog. */

import {latest, request} from './api.js';
import {byId, counted, itemRow} from './render.js';

const PAUSE_MS = 150;
const LIMIT = 20;
const HINT = 'Choose items to build a history.';

/**
 * Starts the search box.
 * @param {function(object)} pick Adds an item to the history.
 * @returns {function(number)} Repeats the search after some milliseconds.
 */
export function startSearch(pick) {
  const box = byId('search');
  const list = byId('matches');
  const status = byId('search-status');
  const find = latest(async (signal) => {
    const text = box.value.trim();
    if (!text) {
      list.replaceChildren();
      status.textContent = HINT;
      return;
    }
    const query = new URLSearchParams({q: text, k: LIMIT});
    try {
      const {items} = await request(`v1/items?${query}`, {signal});
      list.replaceChildren(...items.map((item) => itemRow(item, pick)));
      status.textContent = summary(items.length);
    } catch (error) {
      if (signal.aborted) return;
      status.textContent = error.message;
      if (error.wait) find(1000 * error.wait);
    }
  });
  box.addEventListener('input', () => find(PAUSE_MS));
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown') return;
    list.querySelector('.pick')?.focus();
    event.preventDefault();
  });
  list.addEventListener('keydown', (event) => moveFocus(event, box));
  status.textContent = HINT;
  return find;
}

function summary(count) {
  if (!count) return 'No item matches.';
  if (count === LIMIT) return `The first ${LIMIT} items that match.`;
  return `${counted(count, 'item')} found.`;
}

/** Arrow keys move between the results; Escape returns to the search box. */
function moveFocus(event, box) {
  const row = event.target.closest('li');
  const targets = {
    ArrowDown: row?.nextElementSibling?.querySelector('.pick'),
    ArrowUp: row?.previousElementSibling?.querySelector('.pick') ?? box,
    Escape: box,
  };
  if (!(event.key in targets)) return;
  targets[event.key]?.focus();
  event.preventDefault();
}
