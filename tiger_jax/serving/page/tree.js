/** Draws Semantic IDs as paths in the tree of codes. */

import {clone, titleOf} from './render.js';

/**
 * Draws the code tree of some items as nested lists.
 * @param {HTMLElement} list
 * @param {{item: object, rank: ?number, past: boolean, added: boolean}[]} entries
 *   Items with different Semantic IDs.
 * @returns {Map<string, HTMLElement>} The leaf of each item id.
 */
export function drawTree(list, entries) {
  const leaves = new Map();
  list.replaceChildren(...branches(entries, 0, leaves));
  return leaves;
}

/** Returns one branch for each code that the entries have at this depth. */
function branches(entries, depth, leaves) {
  const groups = new Map();
  for (const entry of entries) {
    const code = entry.item.semantic_id[depth];
    groups.set(code, [...(groups.get(code) ?? []), entry]);
  }
  const codes = [...groups.keys()].sort((a, b) => a - b);
  return codes.map((code) => branch(code, groups.get(code), depth, leaves));
}

function branch(code, entries, depth, leaves) {
  const node = clone('tree-row');
  const chip = node.querySelector('.code');
  chip.textContent = code;
  chip.classList.toggle('shared', entries.some((entry) => entry.past));
  const [first] = entries;
  if (depth === first.item.semantic_id.length - 1) {
    node.append(label(first));
    leaves.set(first.item.item_id, node);
  } else {
    const children = document.createElement('ul');
    children.setAttribute('role', 'list');
    children.append(...branches(entries, depth + 1, leaves));
    node.append(children);
  }
  return node;
}

function label({item, rank, past, added}) {
  const node = document.createElement('span');
  node.className = 'leaf';
  const notes = [];
  if (rank) notes.push(`#${rank}`);
  if (past) notes.push('history');
  if (added) notes.push('new');
  for (const text of notes) {
    const note = document.createElement('small');
    note.className = 'badge';
    note.textContent = text;
    node.append(note, ' ');
  }
  const title = document.createElement('bdi');
  title.textContent = titleOf(item);
  node.append(title);
  return node;
}

/** Marks only the path to a leaf; null removes all marks. */
export function markPath(list, leaf) {
  for (const node of list.querySelectorAll('.on')) node.classList.remove('on');
  for (let node = leaf; node && node !== list; node = node.parentElement) {
    if (node.tagName === 'LI') node.classList.add('on');
  }
}
