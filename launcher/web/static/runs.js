// The list of all runs. Only rows in sight are elements, so that thousands of runs stay fluid.
import { console_, remove, stop } from './actions.js';
import { empty, get, lasted, make, reasonOf, runLink, status, when } from './dom.js';
import { number } from './plot.js';
import { keyed, update } from './update.js';

const ROW = 52;
const took = run => run.ended ? run.seconds || 0 : Date.now() / 1000 - run.started;
// What each column is sorted by.
const COLUMNS = { run: run => run.run, status: run => run.status, hosts: run => run.hosts.length, ranks: run => run.ranks, GPUs: run => run.gpus, took, started: run => run.started };
// The columns in their order; what a run printed is known once its row was in sight, so nothing sorts by it.
const HEAD = ['run', 'status', 'loss', 'last line', 'hosts', 'ranks', 'GPUs', 'took', 'started'];
// Milliseconds after which what a run that goes on printed is asked for again, and runs asked for at once.
const OLD = 5000, AT_ONCE = 60, SVG = 'http://www.w3.org/2000/svg';

function spark({ tag, values }) {
  const text = tag + ' ' + number(values.at(-1));
  const least = Math.min(...values), range = Math.max(...values) - least || 1;
  const points = values.map((value, index) => (100 * index / Math.max(1, values.length - 1)).toFixed(1) + ',' + (22 - 20 * (value - least) / range).toFixed(1));
  const curve = document.createElementNS(SVG, 'svg'), line = document.createElementNS(SVG, 'polyline');
  for (const [name, value] of [['viewBox', '0 0 100 24'], ['preserveAspectRatio', 'none'], ['role', 'img'], ['aria-label', text], ['class', 'spark']]) curve.setAttribute(name, value);
  line.setAttribute('points', points.join(' '));
  curve.append(line);
  return make('span', { title: text }, curve, make('small', { className: 'dim', textContent: number(values.at(-1)) }));
}

function done(share) {
  const inner = make('i'), percent = Math.floor(100 * share);
  inner.style.width = percent + '%';
  return make('span', { className: 'done' }, make('span', { className: 'bar', role: 'img', ariaLabel: percent + ' % done' }, inner), make('small', { className: 'dim', textContent: percent + ' %' }));
}

export function runsPage(main) {
  const search = make('input', { type: 'search', placeholder: 'Name, command, status, project, user, host, tag', ariaLabel: 'Filter runs' });
  const standing = make('select', { ariaLabel: 'Status' }), project = make('select', { ariaLabel: 'Project' }), user = make('select', { ariaLabel: 'User' });
  const count = make('span', { role: 'status', className: 'dim' });
  const space = make('div', { className: 'space', role: 'rowgroup' });
  const head = make('div', { className: 'row head', role: 'row' }, ...HEAD.map(name => { if (!COLUMNS[name]) return make('span', { role: 'columnheader', textContent: name }); const button = make('button', { textContent: name, title: 'Sort by ' + name }); button.addEventListener('click', () => sortBy(name)); return make('span', { role: 'columnheader' }, button); }));
  const rows = make('div', { className: 'rows', role: 'table', tabIndex: 0, ariaLabel: 'Runs' }, head, space);
  const known = new Map(), chosen = new Set(), sparks = new Map();
  let asking = null, listing = null, stale = false;
  const compare = make('a', { className: 'button', textContent: 'Compare', hidden: true });
  const stopping = make('button', { textContent: 'Stop', hidden: true }), removing = make('button', { textContent: 'Delete', hidden: true });
  const actions = make('span', { className: 'actions' }, compare, stopping, removing);
  const choose = ended => [...chosen].filter(name => Boolean(known.get(name)?.ended) === ended);
  stopping.addEventListener('click', () => stop(choose(false)));
  removing.addEventListener('click', () => remove(choose(true)));
  let shown = [], pending = false, by = 'started', down = true;
  document.title = 'launcher';

  const cell = (className, ...children) => make('span', { role: 'cell', className }, ...children);
  function choice(name) {
    const box = make('input', { type: 'checkbox', checked: chosen.has(name), ariaLabel: 'Choose ' + name });
    box.addEventListener('change', () => { if (box.checked) chosen.add(name); else chosen.delete(name); act(); });
    return box;
  }
  function act() {
    compare.hidden = chosen.size < 2;
    stopping.hidden = console_.read_only || !choose(false).length;
    removing.hidden = console_.read_only || !choose(true).length;
    compare.href = '#/compare/' + [...chosen].map(encodeURIComponent).join(',');
  }
  function row(run, index) {
    const why = reasonOf(run), printed = sparks.get(run.run);
    const far = !run.ended && !why && typeof printed?.progress === 'number' ? printed.progress : null;
    const element = make('div', { className: 'row', role: 'row', ariaRowIndex: index + 2 },
      cell('', choice(run.run), make('a', { href: runLink(run.run), textContent: run.run }), make('span', { className: 'dim', textContent: run.note || run.command, title: run.command })),
      cell('', status(run.status), far === null ? make('span', { className: 'dim', textContent: why, title: why }) : done(far)),
      cell('', printed?.values.length ? spark(printed) : ''),
      cell('last', printed?.line ? make('code', { textContent: printed.line, title: printed.line }) : ''),
      make('span', { role: 'cell', title: run.hosts.join(' '), textContent: run.wanted ? run.wanted + (run.most ? ' to ' + run.most : '') + ' of ' + run.hosts.length : run.hosts.length > 2 ? run.hosts[0] + ' +' + (run.hosts.length - 1) : run.hosts.join(' ') }),
      cell('', String(run.ranks || '')),
      cell('', String(run.gpus || '')),
      cell('dim', lasted(took(run))),
      cell('dim', when(run.started)),
    );
    element.style.top = index * ROW + 'px';
    return keyed(run.run, element);
  }
  function inOrder(one, other) {
    const [a, b] = [COLUMNS[by](one), COLUMNS[by](other)];
    return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1) || other.started - one.started || (one.run < other.run ? -1 : 1);
  }
  function sortBy(name) {
    down = by === name ? !down : !['run', 'status'].includes(name);
    by = name;
    mark();
    filter();
  }
  function mark() {
    [...head.children].forEach((cell, index) => { cell.ariaSort = HEAD[index] === by ? (down ? 'descending' : 'ascending') : 'none'; });
  }
  // The losses of the rows in sight, as far as they are not known or may have moved on.
  async function look() {
    const missing = inSight().filter(run => { const had = sparks.get(run.run); return !had || (!(had.whole && had.ended) && Date.now() - had.at > (had.whole ? OLD : 0)); });
    const found = missing.length ? (await get('/api/sparks?' + missing.slice(0, AT_ONCE).map(run => 'run=' + encodeURIComponent(run.run)).join('&'))).sparks : {};
    for (const run of missing) if (found[run.run]) sparks.set(run.run, { ...found[run.run], ended: run.ended, at: Date.now() });
    if (Object.values(found).some(one => one.values.length || one.line)) draw(); else if (Object.keys(found).length < missing.length) later();
  }
  function later() {
    if (asking === null && !document.hidden) asking = setTimeout(() => look().catch(() => {}).finally(() => { asking = null; }), 150);
  }
  const begin = () => Math.max(0, Math.floor(rows.scrollTop / ROW) - 10);
  const inSight = () => shown.slice(begin(), begin() + Math.ceil(rows.clientHeight / ROW) + 20);
  function draw() {
    const first = begin();
    space.style.height = shown.length * ROW + 'px';
    rows.ariaRowCount = shown.length + 1;
    update(space, ...inSight().map((run, index) => row(run, first + index)));
    later();
  }
  // What a filter offers: the values that runs have, and the one that is chosen.
  function offer(filter, any, values, least = 1) {
    const before = filter.value, all = [...new Set([...known.values()].flatMap(values).filter(Boolean))].sort();
    if (before && !all.includes(before)) all.push(before);
    update(filter, make('option', { value: '', textContent: any }), ...all.map(one => keyed(one, make('option', { value: one, textContent: one }))));
    filter.value = before;
    filter.hidden = all.length < least && !before;
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/);
    shown = [...known.values()].filter(run => {
      const text = [run.run, run.command, run.status, run.reason, run.note, run.project, ...run.users, ...run.hosts, ...run.tags].join(' ').toLowerCase();
      return (!standing.value || run.status === standing.value) && (!project.value || run.project === project.value) && (!user.value || run.users.includes(user.value)) && words.every(word => text.includes(word));
    }).sort(inOrder);
    const all = known.size === 1 ? '1 run' : known.size + ' runs';
    count.textContent = shown.length === known.size ? all : shown.length + ' of ' + all;
    draw();
  }
  function show() {
    if (known.size && !main.contains(rows)) main.replaceChildren(make('div', { className: 'tools' }, search, standing, project, user, count, actions), rows);
    if (!known.size) main.replaceChildren(empty('No runs yet. Start one in a terminal, by ', make('code', { textContent: 'launcher run train.py' }), ...console_.read_only ? ['.'] : [', or here: ', make('a', { href: '#/new', textContent: 'New run' })]));
    offer(standing, 'any status', run => run.status);
    offer(project, 'any project', run => run.project);
    offer(user, 'any user', run => run.users, 2); // where all runs are one user's there is nothing to choose
    filter();
  }
  // One list at a time: of thousands of runs it takes long, and what is asked for meanwhile comes with the next.
  function load() {
    stale = Boolean(listing);
    return listing ||= (async () => { do { stale = false; await list(); } while (stale); })().finally(() => { listing = null; });
  }
  async function list() {
    const { runs } = await get('/api/runs');
    known.clear();
    for (const run of runs) known.set(run.run, run);
    for (const name of chosen) if (!known.has(name)) chosen.delete(name);
    act();
    show();
  }
  async function changed({ runs, gone, all }) {
    for (const run of runs) known.set(run.run, run);
    for (const name of gone) { known.delete(name); chosen.delete(name); }
    if (listing || known.size !== all) return load(); // one was deleted before the stream looked for the first time
    act();
    show();
  }
  mark();
  rows.addEventListener('scroll', () => {
    if (!pending) requestAnimationFrame(() => { pending = false; draw(); });
    pending = true;
  });
  addEventListener('resize', draw);
  search.addEventListener('input', filter);
  for (const select of [standing, project, user]) select.addEventListener('change', filter);
  const ticking = setInterval(() => { if (!document.hidden && main.contains(rows)) draw(); }, 5000);
  return { load, changed, close() { removeEventListener('resize', draw); clearInterval(ticking); clearTimeout(asking); asking = 0; }, query: () => ({}) };
}
