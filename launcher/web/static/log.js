// The output of processes: of all ranks together or of one, live, searched, from any moment on.
import { coloured, plain } from './ansi.js';
import { tell } from './actions.js';
import { at, ask, bytes, get, make, pathOf } from './dom.js';

const KEPT = 4000, LOOKBACK = 40, RANGE = 262144, TAIL = 65536;
// Logs that are shown together at most, and bytes that may have come while a page was hidden, or the console gone,
// and are still caught up with: of more, the end is shown.
const MERGED = 64, BEHIND = 4e6;
const ALL = '';

const decoded = data => Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
const LOG = /^attempt-(\d+)\/([\w-]+)-(\d+)\.(out|err)$/;
const rankOf = log => log.replace(/^attempt-\d+\//, '').replace(/\.(out|err)$/, '');

// The logs that are shown together, those of the latest attempt: of ranks where there are any, with what nodes
// write to stderr; else of nodes and roles. Those of setup only where nothing else is. As logs_of in scalars.py.
export function together(names) {
  const all = names.map(name => name.match(LOG)).filter(Boolean).map(([name, attempt, group, index, stream]) => ({ name, attempt: Number(attempt), group, index: Number(index), stream }));
  const later = all.filter(one => one.group !== 'setup'), found = later.length ? later : all;
  const attempt = Math.max(...found.map(one => one.attempt)), latest = found.filter(one => one.attempt === attempt);
  const ranked = latest.some(one => one.group === 'rank');
  const fits = latest.filter(one => !ranked || one.group === 'rank' || (one.group === 'node' && one.stream === 'err'));
  const order = (one, other) => (other.group === 'rank') - (one.group === 'rank') || one.index - other.index || (one.group < other.group ? -1 : one.group > other.group ? 1 : 0);
  return fits.sort(order).map(one => one.name);
}

// Those that are meant by ranks, ranges of them and parts of names: 0-7, 64 node; all where nothing is.
export function meant(names, text) {
  const words = text.toLowerCase().split(/[\s,]+/).filter(Boolean).map(word => word.match(/^(\d+)(?:-(\d+))?$/) || word);
  const fits = (name, index) => words.some(word => typeof word === 'string' ? name.includes(word) : index >= word[1] && index <= (word[2] ?? word[1]));
  return words.length ? names.filter(name => fits(name.toLowerCase(), Number(name.match(LOG)[3]))) : names;
}

// rank-0 rank-1 rank-3 -> 0-1,3; of others with their name: node 0-1
function marked(processes) {
  const groups = new Map();
  for (const one of processes) {
    const [, group, index] = one.match(/^(.+)-(\d+)$/) || [null, one, ''];
    groups.set(group, [...groups.get(group) || [], index]);
  }
  return [...groups].map(([group, indices]) => (group === 'rank' ? '' : group + ' ') + folded(indices)).join(', ').trim();
}

// 0,1,2,5 -> 0-2,5
export function folded(ranks) {
  const numbers = [...ranks].map(Number).sort((one, other) => one - other);
  if (numbers.some(Number.isNaN)) return [...ranks].join(',');
  const spans = [];
  for (const rank of numbers) {
    const last = spans[spans.length - 1];
    if (last && rank <= last[1] + 1) last[1] = rank;
    else spans.push([rank, rank]);
  }
  return spans.map(([from, to]) => from === to ? from : from + '-' + to).join(',');
}

// The lines on the screen. The last one of each log may still grow.
function pane(element, options) {
  let logs = new Map(), recent = [];

  function clear() {
    logs = new Map();
    recent = [];
    element.replaceChildren();
  }
  function line(log) {
    const mark = make('span', { className: 'rank' }), text = make('span', {}), count = make('span', { className: 'times' });
    const place = make('div', {}, ...(options.merged() ? [mark] : []), text, count);
    element.append(place);
    return { place, mark, text, count, ranks: new Set([rankOf(log)]), many: 1, said: '' };
  }
  function label(one) {
    one.mark.textContent = '[' + marked(one.ranks) + ']';
    one.count.textContent = one.many > 1 ? '×' + one.many : '';
  }
  function finish(log, one) {
    if (options.fold()) {
      const rank = rankOf(log);
      const same = recent.find(other => other.said === one.said && one.said && (other.ranks.has(rank) ? other === recent[recent.length - 1] : true));
      if (same) {
        if (same.ranks.has(rank)) same.many++;
        same.ranks.add(rank);
        label(same);
        one.place.remove();
        return;
      }
    }
    recent.push(one);
    if (recent.length > LOOKBACK) recent.shift();
  }
  function write(log, raw) {
    let state = logs.get(log);
    if (!state) logs.set(log, state = { decoder: new TextDecoder(), rest: '', how: {}, open: null });
    const whole = (state.rest + state.decoder.decode(raw, { stream: true })).split('\n');
    state.rest = whole.pop().slice(-RANGE);
    for (const each of whole.length > KEPT ? whole.slice(-KEPT) : whole) {
      const one = state.open || line(log);
      state.how = put(one, each, state.how);
      state.open = null;
      label(one);
      finish(log, one);
    }
    if (state.rest) {
      state.open ||= line(log);
      put(state.open, state.rest, state.how);
      label(state.open);
    }
    while (element.childElementCount > KEPT) element.firstChild.remove();
  }
  function put(one, text, how) {
    const shown = text.replace(/\r+$/, '').replace(/^.*\r/s, '');
    const { parts, how: after } = coloured(shown, how);
    one.text.replaceChildren(...parts);
    one.said = plain(shown);
    return after;
  }
  return { clear, write };
}

export function logView(name, listen) {
  const choice = make('select', { ariaLabel: 'Output of' });
  const log = make('div', { className: 'log', tabIndex: 0, role: 'log', ariaLabel: 'Output', ariaLive: 'off' });
  const text = make('input', { type: 'search', placeholder: 'Find in the whole output', ariaLabel: 'Find' });
  const found = make('ol', { className: 'found', ariaLabel: 'Found lines', hidden: true });
  const which = make('input', { type: 'search', className: 'which', placeholder: 'Ranks: 0-7, 64', ariaLabel: 'Ranks', hidden: true });
  const moment = make('input', { type: 'datetime-local', step: 1, ariaLabel: 'Jump to time' });
  const fold = make('input', { type: 'checkbox', checked: true }), note = make('span', { className: 'dim', role: 'status' });
  const button = (label, work) => { const one = make('button', { textContent: label }); one.addEventListener('click', () => work().catch(error => tell(error.message))); return one; };
  const earlier = button('Earlier', () => range((window_ ? window_.start : (offsets[0] || 0) - TAIL) - RANGE)), later = button('Later', () => range(window_.end)), live = button('Live', async () => begin());
  const shown = pane(log, { merged: () => choice.value === ALL, fold: () => fold.checked });
  let known = [], more = false, names = [], offsets = [], aim = null, skipped = 0, listed = '', picked = false, window_ = null, pending = [], drawing = false, started = 0, turn = 0;

  const merged = () => choice.value === ALL;
  const save = make('a', { textContent: 'Save', hidden: true });
  const all = () => together(known.map(one => one.name));
  const fitting = () => merged() ? meant(all(), which.value) : [choice.value];
  const chosen = () => fitting().slice(0, MERGED);
  // `late` bytes came while nobody looked.
  async function begin(late = 0) {
    const mine = ++turn, wanted = chosen();
    skipped = late;
    window_ = null;
    pending = [];
    names = [];
    aim = wanted.join();
    listen();
    const asked = wanted.length ? get(at(name) + '/logs?' + new URLSearchParams(wanted.map(one => ['log', one]))) : { pieces: [], next: [] };
    const { pieces, next } = await Promise.resolve(asked).finally(() => { if (mine === turn) aim = null; });
    if (mine !== turn) return;
    shown.clear();
    // The first line of each log may be cut: it is left out.
    const cut = new Set(pieces.filter(piece => piece.offset > 0 && !pieces.some(other => other.log === piece.log && other.offset < piece.offset)));
    for (const piece of pieces) shown.write(piece.log, from(decoded(piece.data), cut.has(piece)));
    names = wanted;
    offsets = next;
    bottom();
    tools();
    listen();
  }
  const from = (raw, cut) => cut ? raw.slice(raw.indexOf(10) + 1) : raw;
  const bottom = () => { log.scrollTop = log.scrollHeight; };
  // A part of one log that does not move.
  async function range(offset) {
    const mine = ++turn, start = Math.max(0, offset);
    aim = chosen().join(); // what the run does meanwhile does not lead back to the end
    let size = 0, raw = null;
    try {
      const answer = await ask(at(name) + '/logs/' + pathOf(choice.value) + '?offset=' + start);
      size = Number(answer.headers.get('launcher-size'));
      raw = new Uint8Array(await answer.arrayBuffer()).slice(0, RANGE);
    } finally {
      if (mine === turn) aim = null;
    }
    if (mine !== turn) return;
    names = [];
    listen();
    window_ = { start, end: start + raw.length, size };
    shown.clear();
    shown.write(choice.value, from(raw, start > 0));
    log.scrollTop = 0;
    tools();
  }
  function tools() {
    earlier.hidden = merged() || !(window_ ? window_.start > 0 : true);
    later.hidden = !window_ || window_.end >= window_.size;
    live.hidden = !window_;
    moment.hidden = merged();
    save.hidden = merged();
    if (!merged()) { save.href = at(name) + '/logs/' + pathOf(choice.value); }
    const fit = fitting().length, count = all().length, narrowed = merged() && (count > MERGED || which.value);
    which.hidden = !narrowed;
    note.textContent = [
      window_ && `${bytes(window_.start)} to ${bytes(window_.end)} of ${bytes(window_.size)}`,
      !window_ && narrowed && `${Math.min(fit, MERGED)} of ${count} logs shown` + (fit > MERGED ? ': choose others by their ranks' : ''),
      !window_ && skipped && bytes(skipped) + ' came meanwhile: the end is shown',
      more && 'there are more logs in the folder of the run',
    ].filter(Boolean).join('; ');
    if (!window_ && !merged()) window_at_end();
  }
  function window_at_end() {
    const size = known.find(one => one.name === choice.value)?.size || 0;
    earlier.hidden = size <= TAIL;
  }
  async function search() {
    found.replaceChildren();
    found.hidden = !text.value;
    if (!text.value) return;
    const mine = text.value;
    for (const one of fitting()) {
      let next = 0;
      while (next !== null && found.childElementCount < 500 && text.value === mine) {
        const told = await get(at(name) + '/search?' + new URLSearchParams({ log: one, text: mine, offset: next }));
        for (const hit of told.found) {
          const go = make('button', { className: 'hit', textContent: plain(hit.line) || '(empty)' });
          go.addEventListener('click', async () => { choice.value = one; picked = true; await range(hit.offset ? hit.offset - 1 : 0).catch(error => tell(error.message)); });
          found.append(make('li', {}, make('span', { className: 'rank', textContent: '[' + marked([rankOf(one)]) + ']' }), go));
        }
        next = told.next;
      }
    }
    if (!found.childElementCount) found.append(make('li', { className: 'dim', textContent: 'nothing found' }));
  }
  function add(piece) {
    const index = names.indexOf(piece.log);
    if (index < 0) return;
    const raw = decoded(piece.data);
    offsets[index] = piece.offset + raw.length;
    pending.push([piece.log, raw]);
    if (!drawing) { drawing = true; setTimeout(draw, 100); }
  }
  function draw() {
    drawing = false;
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    for (const [one, raw] of pending) shown.write(one, raw);
    pending = [];
    if (below) bottom();
  }
  // How much of these logs has come that is not here.
  const missing = wanted => wanted.reduce((sum, one) => sum + Math.max(0, (known.find(each => each.name === one)?.size || 0) - (offsets[names.indexOf(one)] || 0)), 0);
  async function changed(run) {
    known = run.logs;
    more = run.more_logs;
    started = run.started;
    if (!moment.value) moment.value = new Date((started - new Date().getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 19);
    const told = known.map(one => one.name).join('\n');
    if (told !== listed) {
      listed = told;
      const before = choice.value;
      choice.replaceChildren(make('option', { value: ALL, textContent: known.some(one => /\/rank-\d+\./.test(one.name)) ? 'all ranks' : 'all processes' }), ...known.map(one => make('option', { value: one.name, textContent: one.name })));
      if (picked && known.some(one => one.name === before)) choice.value = before;
      else if (known.length === 1) choice.value = known[0].name;
    }
    if (!known.length) note.textContent = 'nothing was printed yet';
    if (window_ || !known.length) return;
    const wanted = chosen(), late = names.length ? missing(wanted) : 0;
    if (aim === wanted.join()) return;
    if (late > BEHIND) return begin(late);
    if (names.length ? names.some(one => !wanted.includes(one)) : wanted.length) return begin();
    const added = wanted.filter(one => !names.includes(one));
    names.push(...added);
    offsets.push(...added.map(() => 0));
    tools();
    if (added.length) listen();
  }
  which.addEventListener('change', () => begin().catch(error => tell(error.message)));
  choice.addEventListener('change', () => { picked = true; begin().catch(error => tell(error.message)); });
  fold.addEventListener('change', () => begin().catch(error => tell(error.message)));
  text.addEventListener('change', () => search().catch(error => tell(error.message)));
  moment.addEventListener('change', async () => {
    const seconds = Math.floor(new Date(moment.value).getTime() / 1000);
    if (!seconds || merged()) return;
    const { offset } = await get(at(name) + '/moment?' + new URLSearchParams({ log: choice.value, time: seconds }));
    await range(offset).catch(error => tell(error.message));
  });
  const element = make('div', { className: 'fill' },
    make('div', { className: 'tools' }, choice, which, text, moment, make('label', {}, fold, ' fold equal lines'), earlier, later, live, save, note), found, log);
  tools();
  return {
    element, changed, add, close() { turn++; },
    query: () => names.flatMap((one, index) => [['log', one], ['offset', offsets[index]]]),
  };
}
