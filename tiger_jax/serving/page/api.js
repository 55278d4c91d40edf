/** Sends requests to the server, and reports their errors. */

// Longer than the longest deadline of the server.
const TIMEOUT_MS = 65000;
// Limits of the wait before a request is sent again, in seconds.
const MIN_WAIT = 1;
const MAX_WAIT = 30;

/** A failed request. `wait` is set if the request should be sent again. */
export class RequestError extends Error {
  /**
   * @param {string} message One line for the user.
   * @param {?number} wait Seconds until the next try; null if a retry does not
   *   help.
   * @param {string} code The error code of the server, if it sent one.
   */
  constructor(message, wait = null, code = '') {
    super(message);
    this.wait = wait;
    this.code = code;
  }
}

/**
 * Sends a request and returns the decoded answer.
 * @param {string} path The path, relative to the page.
 * @param {{body?: object, signal?: AbortSignal}} options With a body, the method is POST.
 * @throws {RequestError} The server refuses, is busy, or does not answer.
 * @throws {DOMException} The signal aborted the request (AbortError).
 */
export async function request(path, {body, signal} = {}) {
  const init = {headers: {Accept: 'application/json'}, cache: 'no-store'};
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  init.signal = signal ? AbortSignal.any([signal, timeout]) : timeout;
  if (body) {
    init.method = 'POST';
    init.headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  let response, answer;
  try {
    response = await fetch(new URL(path, document.baseURI), init);
    answer = await decoded(response);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RequestError('The server does not answer.', 2);
  }
  if (response.ok && answer) return answer;
  throw refusal(response, answer);
}

/** Returns the JSON of a response; null if it is not JSON. */
async function decoded(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function refusal(response, answer) {
  const code = answer?.code ?? '';
  const message = answer?.message
    || `The server answered with status ${response.status}.`;
  const seconds = Number(response.headers.get('Retry-After')) || MIN_WAIT;
  const wait = Math.min(Math.max(seconds, MIN_WAIT), MAX_WAIT);
  if (response.status === 429) {
    return new RequestError('The server is busy.', wait, code);
  }
  if (response.status === 503) return new RequestError(message, wait, code);
  return new RequestError(message, null, code);
}

/**
 * Returns a function that starts `run` after some milliseconds. A new call
 * cancels the earlier call, whether that call is waiting or running, so that only
 * the latest answer is used.
 * @param {function(AbortSignal): Promise<void>} run
 * @returns {function(number)}
 */
export function latest(run) {
  let timer = 0;
  let running = null;
  return (delay) => {
    clearTimeout(timer);
    running?.abort();
    const current = new AbortController();
    running = current;
    timer = setTimeout(async () => {
      try {
        await run(current.signal);
      } catch (error) {
        if (!current.signal.aborted) throw error;
      }
    }, delay);
  };
}
