// The console. What comes from hosts becomes text, never markup.
const ROW = 36, KEPT = 400000, TAIL = 65536;
const main = document.getElementById('main'), where = document.getElementById('where');
const link = document.getElementById('link');
let page = null; // what is shown: { changed(), close() }
let stream = null;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(told.error || answer.statusText), { status: answer.status });
  }
  return answer.json();
}

const at = run => '/api/runs/' + encodeURIComponent(run);
const path = name => name.split('/').map(encodeURIComponent).join('/');

function bytes(count) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit++) count /= 1000;
  return (unit && count < 10 ? count.toFixed(1) : Math.round(count)) + ' ' + units[unit];
}

function when(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
}

function shownStatus(run) {
  if (!run.ended && !run.followed) return 'no launcher attached';
  return run.reason === 'all-ranks-exited-0' ? '' : run.reason;
}

// -- all runs

function runsPage() {
  const search = make('input', { type: 'search', placeholder: 'Filter: name, status, host', ariaLabel: 'Filter runs' });
  const count = make('span', { role: 'status' });
  const space = make('div', { className: 'space' });
  const names = ['run', 'status', 'reason', 'hosts', 'ranks', 'started'];
  const head = make('div', { className: 'row head' }, ...names.map(name => make('span', { textContent: name })));
  const rows = make('div', { className: 'rows', tabIndex: 0, ariaLabel: 'Runs' }, head, space);
  let all = [], shown = [], pending = false;
  where.textContent = '';
  document.title = 'launcher';

  function row(run, index) {
    const cells = [
      make('a', { href: '#/runs/' + encodeURIComponent(run.run), textContent: run.run }),
      make('span', { className: run.status, textContent: run.status }),
      make('span', { className: 'dim', textContent: shownStatus(run) }),
      make('span', { textContent: run.hosts.join(' ') }),
      make('span', { textContent: run.ranks || '' }),
      make('span', { className: 'dim', textContent: when(run.started) }),
    ];
    const element = make('div', { className: 'row' }, ...cells);
    element.style.top = index * ROW + 'px';
    return element;
  }
  function draw() {
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 10);
    const last = Math.min(shown.length, first + Math.ceil(rows.clientHeight / ROW) + 20);
    const focused = document.activeElement?.hash;
    space.style.height = shown.length * ROW + 'px';
    space.replaceChildren(...shown.slice(first, last).map((run, index) => row(run, first + index)));
    if (focused) [...space.querySelectorAll('a')].find(a => a.hash === focused)?.focus({ preventScroll: true });
  }
  function filter() {
    const words = search.value.toLowerCase().split(/\s+/);
    shown = all.filter(run => {
      const text = [run.run, run.status, run.reason, ...run.hosts].join(' ').toLowerCase();
      return words.every(word => text.includes(word));
    });
    count.textContent = shown.length === all.length ? all.length + ' runs' : shown.length + ' of ' + all.length + ' runs';
    draw();
  }
  async function changed() {
    all = (await get('/api/runs')).runs;
    if (all.length) main.replaceChildren(make('div', { className: 'tools' }, search, count), rows);
    else main.replaceChildren(make('p', { className: 'empty' }, 'No runs yet. Start one in a terminal: ', make('code', { textContent: 'launcher run train.py' })));
    filter();
  }
  rows.addEventListener('scroll', () => {
    if (!pending) requestAnimationFrame(() => { pending = false; draw(); });
    pending = true;
  });
  addEventListener('resize', draw);
  search.addEventListener('input', filter);
  return { changed, close() { removeEventListener('resize', draw); }, query: () => '' };
}

// -- one run

function facts(run) {
  const list = [make('p', {}, make('strong', { className: run.status, textContent: run.status }), '  ' + (shownStatus(run) || ''))];
  const { error, hint, failure } = run.receipt || {};
  for (const text of [error, hint]) if (text) list.push(make('p', { textContent: text }));
  if (failure) {
    list.push(make('p', { textContent: `${failure.key} on ${failure.host} failed first: ${failure.meaning || 'exit ' + failure.exit_code}` }));
    for (const text of [failure.cause, failure.hint, failure.error]) if (text) list.push(make('p', { textContent: text }));
    if (failure.last_lines.length) list.push(make('pre', { className: 'last', tabIndex: 0, ariaLabel: 'Its last lines', textContent: failure.last_lines.join('\n') }));
  }
  if (run.damaged) list.push(make('p', { textContent: run.damaged }));
  const words = run.job ? run.job.run.join(' ') : '';
  if (words) list.push(make('p', {}, make('code', { textContent: words })));
  list.push(make('p', { className: 'dim', textContent: 'started ' + when(run.started) }));
  return make('section', { className: 'card ' + run.status, ariaLabel: 'How it stands' }, ...list);
}

function processes(run) {
  const cells = one => [String(one.key), one.host, one.code === null ? 'running' : 'exit ' + one.code];
  const line = (tag, texts) => make('tr', {}, ...texts.map(text => make(tag, { textContent: text })));
  const table = make('table', {}, line('th', ['process', 'host', 'state']), ...run.processes.slice(0, 2000).map(one => line('td', cells(one))));
  return run.processes.length ? [make('h2', { textContent: 'Processes' }), make('div', { className: 'scroll' }, table)] : [];
}

async function outputs(name, folder) {
  const { entries, more } = await get(at(name) + '/outputs?path=' + encodeURIComponent(folder));
  const list = make('ul');
  for (const entry of entries) {
    const whole = folder ? folder + '/' + entry.name : entry.name;
    if (entry.kind === 'folder') {
      const inside = make('details', {}, make('summary', { textContent: entry.name + '/' }));
      inside.addEventListener('toggle', async () => {
        if (inside.open && inside.childElementCount === 1) inside.append(await outputs(name, whole).catch(error => make('p', { textContent: error.message })));
      });
      list.append(make('li', {}, inside));
    } else if (entry.kind === 'file') {
      const file = make('a', { href: at(name) + '/outputs/' + path(whole), download: entry.name, textContent: entry.name });
      list.append(make('li', {}, file, make('span', { className: 'dim', textContent: '  ' + bytes(entry.size) })));
    } else list.append(make('li', { className: 'dim', textContent: entry.name + '  (' + entry.kind + ', not opened)' }));
  }
  if (more) list.append(make('li', { className: 'dim', textContent: 'and more: see the folder of the run' }));
  return entries.length ? list : make('p', { className: 'dim', textContent: 'Nothing yet.' });
}

function runPage(name) {
  const top = make('div'), choice = make('select', { ariaLabel: 'Log' });
  const log = make('pre', { tabIndex: 0, ariaLabel: 'Output of the chosen process' });
  const files = make('div');
  const note = make('span');
  let decoder, shown = '', offset = 0, listed = '';
  where.textContent = name;
  document.title = name + ' · launcher';

  function begin() {
    decoder = new TextDecoder();
    shown = '';
    const known = [...choice.options].find(option => option.value === choice.value);
    offset = Math.max(0, Number(known?.dataset.size || 0) - TAIL);
    note.textContent = offset ? 'the last ' + bytes(TAIL) + '; all of it: launcher logs ' + name : '';
    log.textContent = '';
    listen();
  }
  function add(piece) {
    if (piece.offset !== offset) decoder = new TextDecoder();
    const raw = Uint8Array.from(atob(piece.data), letter => letter.charCodeAt(0));
    offset = piece.offset + raw.length;
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    // Colours and other commands to a terminal are left out.
    shown = (shown + decoder.decode(raw, { stream: true })).slice(-KEPT);
    log.textContent = shown.replace(/\x1b\[[0-9;:?]*[ -\/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]/g, '').replace(/[^\n]*\r(?!\n)/g, '').replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '');
    if (below) log.scrollTop = log.scrollHeight;
  }
  async function changed() {
    const run = await get(at(name));
    top.replaceChildren(facts(run), ...processes(run));
    const names = run.logs.map(one => one.name).join('\n');
    if (!main.contains(top)) {
      main.replaceChildren(top, make('h2', { textContent: 'Output' }), make('div', { className: 'tools' }, choice, note), log, make('h2', { textContent: 'Files' }), files);
    }
    if (names !== listed) {
      const before = choice.value;
      choice.replaceChildren(...run.logs.map(one => {
        const option = make('option', { value: one.name, textContent: one.name });
        option.dataset.size = one.size;
        return option;
      }));
      if (names.split('\n').includes(before)) choice.value = before;
      listed = names;
      if (choice.value !== before) begin();
    }
    if (!files.childElementCount || run.ended) {
      files.replaceChildren(await outputs(name, '').catch(() => make('p', { className: 'dim', textContent: 'Nothing yet.' })));
    }
  }
  choice.addEventListener('change', begin);
  return { changed, add, close() {}, query: () => new URLSearchParams({ run: name, log: choice.value, offset }) };
}

// -- which page, and what is new

async function refresh() {
  const mine = page;
  try {
    await mine.changed();
  } catch (error) {
    if (page !== mine) return;
    const text = error.status === 401 ? 'This page was closed. Run launcher console again and open its address.' : error.message;
    main.replaceChildren(make('p', { className: 'empty', textContent: text }));
  }
}

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden || !page) return;
  const mine = stream = new EventSource('/api/events?' + page.query());
  mine.onopen = () => { link.textContent = ''; };
  mine.onerror = () => { if (stream === mine) link.textContent = 'console not reachable'; };
  mine.addEventListener('runs', refresh);
  mine.addEventListener('log', event => { if (stream === mine) page.add(JSON.parse(event.data)); });
}

async function go() {
  page?.close();
  main.replaceChildren();
  const run = location.hash.match(/^#\/runs\/(.+)$/);
  page = run ? runPage(decodeURIComponent(run[1])) : runsPage();
  listen();
  await refresh();
  main.focus();
}

async function start() {
  const code = location.hash.slice(1);
  if (code && !code.startsWith('/')) {
    history.replaceState(null, '', '/');
    await fetch('/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code }) });
  }
  addEventListener('hashchange', go);
  document.addEventListener('visibilitychange', () => { listen(); if (!document.hidden) refresh(); });
  await go();
}

start();
