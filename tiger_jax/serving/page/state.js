/** Stores the history and the options in the fragment of the URL. */

const MAX_URL_ITEMS = 100;
// A long deadline, because the first request with new options compiles a program.
const DEADLINE_MS = 60000;

/** Returns the values that the fragment of a URL holds. */
export function parse(fragment) {
  const values = new URLSearchParams(fragment.replace(/^#/, ''));
  return {
    ids: values.getAll('item').slice(-MAX_URL_ITEMS),
    k: values.get('k') ?? '10',
    exclude_seen: values.has('exclude_seen'),
    exact: values.has('exact'),
    temperature: values.get('temperature'),
    seed: Number.parseInt(values.get('seed') ?? '0', 10) >>> 0,
  };
}

/** Returns the fragment that `parse` reads. Defaults are left out. */
export function format({ids, k, exclude_seen, exact, temperature, seed}) {
  const values = new URLSearchParams();
  for (const id of ids.slice(-MAX_URL_ITEMS)) values.append('item', id);
  if (k !== '10') values.set('k', k);
  if (exclude_seen) values.set('exclude_seen', '1');
  if (exact) values.set('exact', '1');
  if (temperature) values.set('temperature', temperature);
  if (temperature && seed) values.set('seed', seed);
  return values.toString();
}

/** Returns the body of POST /v1/recommend. */
export function body({ids, k, exclude_seen, exact, temperature, seed}) {
  const options = {};
  if (exclude_seen) options.exclude_seen = true;
  if (exact) options.exact = true;
  if (temperature) Object.assign(options, {temperature: Number(temperature), seed});
  return {
    history: ids, k: Number(k), strict: false, options, timeout_ms: DEADLINE_MS,
  };
}

/** Returns a copy of a list with the element at `place` moved by `step`. */
export function moved(list, place, step) {
  const copy = [...list];
  const [element] = copy.splice(place, 1);
  copy.splice(place + step, 0, element);
  return copy;
}

/** Returns the number of first codes that two Semantic IDs share. */
export function numShared(a, b) {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

/**
 * Returns the history item that shares the longest prefix of the Semantic ID
 * with an item. If several do, it is the latest one.
 * @returns {{count: number, item: ?object}}
 */
export function nearest(item, history) {
  let best = {count: 0, item: null};
  for (const past of history) {
    const count = numShared(item.semantic_id, past.semantic_id);
    if (count && count >= best.count) best = {count, item: past};
  }
  return best;
}

/** Returns a probability, given its logarithm, as a percentage. */
export function percent(score) {
  const value = 100 * Math.exp(score);
  if (value >= 9.95) return `${value.toFixed(0)}%`;
  if (value >= 0.995) return `${value.toFixed(1)}%`;
  return value >= 0.01 ? `${value.toFixed(2)}%` : 'below 0.01%';
}
