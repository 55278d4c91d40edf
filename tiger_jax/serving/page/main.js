/** Connects the lists and forms of the page with the server. */

import {startAdding} from './add.js';
import {latest, request, RequestError} from './api.js';
import * as render from './render.js';
import {startSearch} from './search.js';
import * as state from './state.js';
import {drawTree, markPath} from './tree.js';

const {byId} = render;
const PAUSE_MS = 120;
// The time after which the page says that it is still computing.
const SLOW_MS = 3000;

const options = byId('options');
const cards = byId('recommendations');
const tree = byId('tree');
// An entry of the history is an item; `loaded` says whether its title and
// Semantic ID are known.
const app = {history: [], seed: 0, info: null, added: null, leaves: new Map()};

/** Returns the values that the URL keeps and the request needs. */
function current() {
  const drawn = options.draw.checked;
  return {
    ids: app.history.map((item) => item.item_id),
    k: options.k.value,
    exclude_seen: options.exclude_seen.checked,
    exact: options.exact.checked,
    temperature: drawn ? options.temperature.value : null,
    seed: app.seed,
  };
}

/** Requests recommendations after a pause, and marks the list as busy. */
function refresh(delay = PAUSE_MS) {
  cards.setAttribute('aria-busy', 'true');
  update(delay);
}

const update = latest(async (signal) => {
  const slow = setTimeout(() => {
    byId('status').textContent = 'Still computing. The first request with new '
      + 'options can take a minute.';
  }, SLOW_MS);
  try {
    if (!app.info) await loadModel(signal);
    await loadHistory(signal);
    const answer = await request('v1/recommend', {
      body: state.body(current()), signal,
    });
    const isNew = answer.model !== app.info.model
      || answer.catalog !== app.info.catalog;
    if (isNew) {
      await loadModel(signal);
      app.history.forEach((item) => { item.loaded = false; });
      await loadHistory(signal);
      findAgain(0);
    }
    byId('problem').hidden = true;
    showAnswer(answer);
    cards.removeAttribute('aria-busy');
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof RequestError)) throw error;
    showProblem(error);
    cards.removeAttribute('aria-busy');
    if (error.wait) update(1000 * error.wait);
  } finally {
    clearTimeout(slow);
  }
});

/** Loads the description of the model, and shows it in the page header. */
async function loadModel(signal) {
  const info = await request('v1/model', {signal});
  app.info = info;
  const sizes = info.level_sizes.join(' \u00d7 ');
  byId('model').textContent = `${info.name}: `
    + `${render.counted(info.num_items, 'item')}, codes ${sizes}, `
    + `model ${info.model}, catalog ${info.catalog}`;
  byId('add').hidden = !info.demo;
  for (const option of options.k.options) {
    option.disabled = Number(option.value) > info.max_k;
  }
}

/** Loads the missing titles and Semantic IDs of the history. */
async function loadHistory(signal) {
  const missing = app.history.filter((item) => !item.loaded);
  if (!missing.length) return;
  await Promise.all(missing.map(async (item) => {
    const path = `v1/items/${encodeURIComponent(item.item_id)}`;
    try {
      const {title, semantic_id} = await request(path, {signal});
      Object.assign(item, {title, semantic_id, missing: false, unknown: false});
    } catch (error) {
      if (signal.aborted || error.wait) throw error;
      // The item was removed, or never existed. The next answer says which.
      Object.assign(item, {semantic_id: [], missing: true});
    }
    item.loaded = true;
  }));
  showHistory();
}

/** Marks the missing items that the model has ignored. */
function markUnknown(ids) {
  const unknown = new Set(ids);
  const rest = app.history.filter(
    (item) => item.missing && item.unknown !== unknown.has(item.item_id),
  );
  for (const item of rest) item.unknown = unknown.has(item.item_id);
  if (rest.length) showHistory();
}

function showProblem(error) {
  const text = error.wait
    ? `${error.message} Trying again every ${render.counted(error.wait, 'second')}.`
    : error.message;
  const place = byId('problem-text');
  // Setting the same text again would make screen readers repeat it.
  if (place.textContent !== text) place.textContent = text;
  byId('problem').hidden = false;
  byId('status').textContent = cards.children.length
    ? 'This list does not include your last change.' : '';
}

function showAnswer(answer) {
  markUnknown(answer.unknown);
  const history = app.history.filter((item) => !item.unknown);
  const popular = answer.fallback === 'popular';
  const best = Math.max(...answer.items.map((item) => item.score));
  const open = new Set([...cards.querySelectorAll('details[open]')].map(
    (node) => node.closest('.card').dataset.item,
  ));
  const hadFocus = cards.contains(document.activeElement);
  cards.replaceChildren(...answer.items.map((item, place) => {
    const added = item.item_id === app.added?.item_id;
    const about = {rank: place + 1, history, best, popular, added};
    const card = render.card(item, about, pick);
    const details = card.querySelector('details');
    details.addEventListener('toggle', () => showSimilar(details, item));
    details.open = open.has(item.item_id);
    return card;
  }));
  // The element with the focus was replaced.
  if (hadFocus) byId('recommendations-title').focus();
  byId('status').textContent = summary(answer, popular);
  showTree(answer.items, history);
}

/** Returns one or more sentences that describe the list. */
function summary({items, unknown}, popular) {
  const {temperature, exact} = current();
  const count = items.length;
  const parts = [];
  if (!count) parts.push('No item is left to recommend.');
  else if (popular) {
    parts.push('The history is empty: these are the most popular items.');
  } else if (temperature) {
    parts.push(`${render.counted(count, 'item')} drawn at random, in the order of the draw.`);
  } else {
    parts.push(`The ${render.counted(count, 'item')} most likely to be next.`);
  }
  if (exact && !popular && count) {
    const proven = items.filter((item) => item.proven).length;
    parts.push(proven === count ? 'All are proven.'
      : `${proven} of ${count} are proven.`);
  }
  if (unknown?.length) {
    parts.push(`${render.counted(unknown.length, 'unknown id')} ignored.`);
  }
  return parts.join(' ');
}

function showTree(items, history) {
  const entries = new Map();
  const past = new Set(history.map((item) => item.item_id));
  items.forEach((item, place) => entries.set(item.item_id, {item, rank: place + 1}));
  const others = [...history, ...(app.added ? [app.added] : [])];
  for (const item of others.filter(({semantic_id}) => semantic_id.length)) {
    if (!entries.has(item.item_id)) entries.set(item.item_id, {item, rank: null});
  }
  for (const [id, entry] of entries) {
    entry.past = past.has(id);
    entry.added = id === app.added?.item_id;
  }
  app.leaves = drawTree(tree, [...entries.values()]);
}

/** Fills the list of items with the same prefix when it is opened. */
async function showSimilar(details, item) {
  if (!details.open) return;
  const note = details.querySelector('.note');
  note.textContent = 'Loading\u2026';
  try {
    const path = `v1/items/${encodeURIComponent(item.item_id)}`;
    const {similar} = await request(path);
    const rows = render.similarRows(similar, pick);
    details.querySelector('ul').replaceChildren(...rows);
    note.textContent = rows.length ? '' : 'No other item has the same first code.';
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    note.textContent = error.message;
  }
}

function showHistory() {
  const {length} = app.history;
  byId('history').replaceChildren(...app.history.map(
    (item, place) => render.historyRow(item, place, length),
  ));
  byId('clear').hidden = !length;
  const most = app.info?.max_history ?? Infinity;
  byId('history-note').textContent = !length ? 'No items yet: add some from the catalog or from the recommendations.'
    : length > most ? `Oldest first. The model reads the latest ${most} items.`
    : 'Oldest first.';
}

/** Shows the history, stores it in the URL, and requests recommendations. */
function changed() {
  history.replaceState(null, '', `#${state.format(current())}`);
  showHistory();
  refresh();
}

function pick({item_id, title, semantic_id}) {
  app.history.push({item_id, title, semantic_id, loaded: true});
  changed();
}

/** Handles a click on a button in a row of the history. */
function act(event) {
  const button = event.target.closest('button');
  if (!button) return;
  const place = Number(button.dataset.place);
  const step = {up: -1, down: 1, remove: 0}[button.dataset.act];
  if (step) app.history = state.moved(app.history, place, step);
  else app.history.splice(place, 1);
  changed();
  const row = byId('history').children[
    Math.min(place + step, app.history.length - 1)];
  const same = row?.querySelector(`[data-act=${button.dataset.act}]`);
  const next = same?.disabled ? row.querySelector('button:enabled') : same;
  (next ?? byId('history-title')).focus();
}

function showOptions() {
  byId('draw-options').hidden = !options.draw.checked;
  options.shown.value = Number(options.temperature.value).toFixed(1);
}

/** Reads the history and the options from the URL. */
function readUrl() {
  const values = state.parse(location.hash);
  app.history = values.ids.map(
    (id) => ({item_id: id, title: '', semantic_id: [], loaded: false}),
  );
  app.seed = values.seed;
  options.k.value = values.k;
  if (options.k.selectedIndex < 0) options.k.value = '10';
  options.exclude_seen.checked = values.exclude_seen;
  options.exact.checked = values.exact;
  options.draw.checked = values.temperature !== null;
  options.temperature.value = values.temperature ?? '1';
  showOptions();
  showHistory();
  refresh(0);
}

function markCard(event) {
  const card = event.target.closest('.card');
  markPath(tree, app.leaves.get(card?.dataset.item) ?? null);
}

const findAgain = startSearch(pick);
startAdding({
  pick,
  history: () => current().ids,
  done: (item) => {
    app.added = item;
    refresh(0);
  },
});
byId('history').addEventListener('click', act);
byId('clear').addEventListener('click', () => {
  app.history = [];
  changed();
  byId('history-title').focus();
});
byId('retry').addEventListener('click', () => refresh(0));
options.addEventListener('submit', (event) => event.preventDefault());
options.addEventListener('input', () => {
  showOptions();
  changed();
});
options.again.addEventListener('click', () => {
  app.seed += 1;
  changed();
});
cards.addEventListener('pointerover', markCard);
cards.addEventListener('pointerleave', () => markPath(tree, null));
cards.addEventListener('focusin', markCard);
window.addEventListener('hashchange', readUrl);
readUrl();
