/** Creates the rows of the lists. Server text is never inserted as HTML. */

import {nearest, percent} from './state.js';

/** Returns the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Returns a copy of the element in a template. */
export function clone(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

/** Returns the title of an item, or its id if it has none. */
export const titleOf = (item) => item.title || item.item_id;

/** Returns a count and its noun, as in '1 item'. */
export const counted = (count, noun) =>
  `${count.toLocaleString('en-US')} ${noun}${count === 1 ? '' : 's'}`;

/** Shows a Semantic ID as a chain of codes; the first `count` are filled. */
export function showPath(node, codes, count = 0) {
  node.hidden = !codes.length;
  const shared = count ? `, first ${counted(count, 'code')} shared` : '';
  node.setAttribute('role', 'img');
  node.setAttribute('aria-label', `Semantic ID ${codes.join(', ')}${shared}`);
  node.replaceChildren(...codes.map((code, place) => {
    const chip = document.createElement('span');
    chip.className = place < count ? 'code shared' : 'code';
    chip.textContent = code;
    return chip;
  }));
}

function showItem(row, item, count = 0) {
  row.querySelector('.title').textContent = titleOf(item);
  row.querySelector('.id').textContent = item.title ? item.item_id : '';
  showPath(row.querySelector('.path'), item.semantic_id, count);
}

/** Returns a row with a button that adds the item to the history. */
export function itemRow(item, pick, count = 0) {
  const row = clone('item-row');
  showItem(row, item, count);
  const button = row.querySelector('.pick');
  button.title = 'Add to history';
  button.addEventListener('click', () => pick(item));
  return row;
}

/** Returns rows of the items that share at least the first code. */
export function similarRows(similar, pick) {
  return similar.filter((item) => item.num_shared).map((item) => {
    const row = itemRow(item, pick, item.num_shared);
    if (item.similarity !== null) {
      const note = document.createElement('small');
      note.textContent = `similarity ${item.similarity.toFixed(2)}`;
      row.querySelector('.codes').append(' ', note);
    }
    return row;
  });
}

/**
 * Returns a row of the history.
 * @param {object} item
 * @param {number} place The index of the item.
 * @param {number} length The length of the history.
 */
export function historyRow(item, place, length) {
  const row = clone('history-row');
  showItem(row, item);
  row.querySelector('.unknown').hidden = !(item.missing && item.unknown);
  row.querySelector('.removed').hidden = !(item.missing && item.unknown === false);
  const names = {up: 'Move up', down: 'Move down', remove: 'Remove'};
  for (const button of row.querySelectorAll('button')) {
    const act = button.dataset.act;
    button.dataset.place = place;
    button.title = names[act];
    button.setAttribute('aria-label', `${names[act]}: ${titleOf(item)}`);
    button.disabled = (act === 'up' && place === 0)
      || (act === 'down' && place === length - 1);
  }
  return row;
}

/**
 * Returns the card of a recommended item.
 * @param {object} item
 * @param {{rank: number, history: object[], best: number, popular: boolean,
 *   added: boolean}} about `best` is the highest score of the list.
 * @param {function(object)} pick Adds an item to the history.
 */
export function card(item, {rank, history, best, popular, added}, pick) {
  const row = clone('recommendation-row');
  const near = nearest(item, history);
  showItem(row, item, near.count);
  row.dataset.item = item.item_id;
  row.classList.toggle('new', added);
  row.querySelector('.rank').textContent = rank;
  row.querySelector('.proven').hidden = !item.proven || popular;
  const button = row.querySelector('.pick');
  button.setAttribute('aria-label', `Add to history: ${titleOf(item)}`);
  button.addEventListener('click', () => pick(item));
  row.querySelector('.why').textContent = reason(item, near, history);
  const bar = row.querySelector('.bar');
  bar.hidden = popular;
  if (!popular) {
    row.querySelector('.probability').textContent = percent(item.score);
    const share = 100 * Math.exp(item.score - best);
    bar.firstElementChild.style.width = `${share.toFixed(1)}%`;
  }
  return row;
}

/** Says which codes an item shares with the history. */
function reason(item, near, history) {
  if (!history.length) return '';
  if (history.some((past) => past.item_id === item.item_id)) {
    return 'This item is in the history.';
  }
  if (!near.count) return 'No item of the history has the same first code.';
  const codes = near.count === 1 ? 'code' : `${near.count} codes`;
  return `Same first ${codes} as \u2068${titleOf(near.item)}\u2069 in the history.`;
}
