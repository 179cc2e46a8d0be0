// Elements, requests and words that all pages share. What comes from hosts becomes text, never markup.
import { keyed } from './update.js';

export function make(tag, properties = {}, ...children) {
  const { role, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (role) element.setAttribute('role', role);
  element.append(...children.filter(child => child !== null && child !== undefined && child !== ''));
  return element;
}

// `gone`: the console could not be reached; the error is neither an answer of the console nor a mistake of a page.
const gone = error => { throw Object.assign(error, { gone: true }); };

export async function ask(path, options) {
  const answer = await fetch(path, options).catch(gone);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error || answer.statusText), { status: answer.status, told });
  }
  return answer;
}

const PATIENCE = 30_000, TRIES = 3;

// What gets no answer, as from a connection that broke, is asked for again; an answer that refuses counts.
export async function get(path) {
  for (let tries = 1; ; tries++) {
    try {
      return await (await ask(path, { signal: AbortSignal.timeout(PATIENCE) })).json().catch(gone);
    } catch (error) {
      if (error.status || tries === TRIES) throw error;
      await new Promise(resolve => setTimeout(resolve, 300 * tries));
    }
  }
}

const LATER = 5000;

// Looks now, and again after as many milliseconds as a look returns; 0 is the end. A look without an answer
// is not the last one. Hidden pages wait until they are shown, and loaded, again.
export function repeated(look) {
  const polled = { closed: false, now, close() { polled.closed = true; clearTimeout(timer); } };
  let timer = null;
  async function now() {
    clearTimeout(timer);
    if (polled.closed) return;
    let pause = LATER;
    try {
      pause = await look();
    } finally {
      clearTimeout(timer);
      if (pause && !polled.closed) timer = setTimeout(() => (document.hidden ? null : now().catch(() => {})), pause);
    }
  }
  return polled;
}

export const at = run => '/api/runs/' + encodeURIComponent(run);
export const pathOf = name => name.split('/').map(encodeURIComponent).join('/');
export const runLink = (name, tab = '') => '#/runs/' + encodeURIComponent(name) + (tab && '/' + tab);

export function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit++) count /= 1000;
  return (unit && count < 10 ? count.toFixed(1) : Math.round(count)) + ' ' + units[unit];
}

export function when(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
}

export function lasted(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + ' s';
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (!hours) return minutes + ' min ' + Math.floor(seconds % 60) + ' s';
  return days ? days + ' d ' + hours % 24 + ' h' : hours + ' h ' + minutes % 60 + ' min';
}

const QUIET = ['all-ranks-exited-0', ''];
export function reasonOf(run) {
  if (!run.ended && !run.followed) return 'no launcher attached';
  return QUIET.includes(run.reason) ? '' : run.reason;
}

export const status = word => make('span', { className: 'status ' + word, textContent: word });

// A command for a terminal.
export function command(text) {
  const copy = make('button', { textContent: 'Copy' });
  copy.addEventListener('click', () => navigator.clipboard?.writeText(text));
  return make('span', { className: 'again' }, make('code', { textContent: text }), copy);
}

export const empty = (...children) => make('p', { className: 'empty' }, ...children);

// With keys of its rows, a row stays the same where `update` puts others before it.
export function table(label, names, rows, keys = []) {
  const line = (tag, cells) => make('tr', {}, ...cells.map(cell => make(tag, {}, cell)));
  const body = rows.map((cells, index) => keys[index] ? keyed(keys[index], line('td', cells)) : line('td', cells));
  const whole = make('table', { ariaLabel: label }, make('thead', {}, line('th', names)), make('tbody', {}, ...body));
  return make('div', { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: label }, whole);
}

export function diffOf(ariaLabel, text) {
  const lines = text.trimEnd().split('\n').map(line => {
    const kind = line.startsWith('+++') || line.startsWith('---') || line.startsWith('diff ') ? 'file' : line.startsWith('@@') ? 'hunk' : line[0] === '+' ? 'added' : line[0] === '-' ? 'removed' : '';
    return make('div', { className: kind, textContent: line || ' ' });
  });
  return make('div', { className: 'diff', tabIndex: 0, role: 'region', ariaLabel }, ...lines);
}
