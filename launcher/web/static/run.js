// One run: how it stands, its output, its files.
import { console_, kill, remove, rerun, stop } from './actions.js';
import { at, bytes, command, empty, get, lasted, make, pathOf, reasonOf, runLink, status, table, when } from './dom.js';
import { logView } from './log.js';
import { metricsView } from './metrics.js';
import { canPreview, isCheckpoint, preview } from './preview.js';
import { scalarsView } from './scalars.js';
import { codeView, jobView } from './source.js';
import { update } from './update.js';

const PROCESSES = 2000;
const TABS = [['', 'Overview', overview], ['logs', 'Output', logView], ['scalars', 'Scalars', scalarsView], ['metrics', 'Metrics', metricsView], ['files', 'Files', filesView], ['code', 'Code', codeView], ['job', 'Job', jobView]];

function facts(run) {
  const job = run.job || { run: [], nodes: [], framework: '' };
  const known = [
    ['started', when(run.started)],
    ['took', run.ended ? lasted(run.seconds) : lasted(Date.now() / 1000 - run.started) + ' so far'],
    ['hosts', run.hosts.join(' ')],
    ['ranks', run.ranks && run.ranks + (run.gpus ? ', ' + run.gpus + ' GPUs' : '')],
    ['framework', job.framework],
    ['commit', run.commit],
    ['tags', run.tags.join(' ')],
    ['note', run.note],
  ].filter(([, value]) => value);
  return make('dl', {}, ...known.map(([name, value]) => make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value }))));
}

function postmortem(run) {
  const { error, hint, failure } = run.receipt || {};
  const told = [];
  for (const text of [error, hint, run.damaged]) if (text) told.push(make('p', { textContent: text }));
  if (failure) {
    told.push(make('h2', { textContent: `${failure.key} on ${failure.host} failed first: ${failure.meaning || 'exit ' + failure.exit_code}` }));
    for (const text of [failure.cause && 'Likely: ' + failure.cause, failure.hint && 'Hint: ' + failure.hint, failure.error]) if (text) told.push(make('p', { textContent: text }));
    if (failure.last_lines.length) told.push(make('pre', { className: 'last', tabIndex: 0, ariaLabel: 'Its last lines', textContent: failure.last_lines.join('\n') }));
  }
  return told.length ? make('section', { className: 'card ' + run.status, ariaLabel: 'What went wrong' }, ...told) : null;
}

function stages(run) {
  const spent = Object.entries(run.receipt?.stages || {});
  if (!spent.length) return null;
  return make('p', { className: 'dim', textContent: spent.map(([name, seconds]) => name + ' ' + lasted(seconds)).join('  →  ') });
}

function overview(name) {
  const place = make('div', { className: 'stack' });
  function changed(run) {
    const more = run.processes.length - PROCESSES;
    const lines = run.processes.slice(0, PROCESSES).map(one => [String(one.key), one.host, one.code === null ? 'running' : one.code < 0 ? 'signal ' + -one.code : 'exit ' + one.code]);
    const processes = lines.length ? [make('h2', { textContent: 'Processes' }), table('Processes', ['process', 'host', 'state'], lines)] : [];
    update(place, postmortem(run), facts(run), stages(run), ...processes, more > 0 ? make('p', { className: 'dim', textContent: `and ${more} more: launcher show ${name}` }) : null);
  }
  return { element: place, changed };
}

function fileOf(href, entry) {
  const facts = bytes(entry.size) + (isCheckpoint(entry.name) ? ', checkpoint' : '');
  const file = (textContent, ariaLabel) => make('a', { href, download: entry.name, textContent, ariaLabel });
  const dim = make('span', { className: 'dim', textContent: facts });
  if (!canPreview(entry)) return make('li', {}, file(entry.name, entry.name), dim);
  const inside = make('details', {}, make('summary', {}, entry.name, dim));
  inside.addEventListener('toggle', async () => {
    if (inside.open && inside.childElementCount === 1) inside.append(await preview(href, entry).catch(error => make('p', { textContent: error.message })));
  });
  return make('li', { className: 'file' }, inside, file('Save', 'Save ' + entry.name));
}

const none = () => empty('No files came back yet. What the script writes to $LAUNCHER_OUTPUT_DIR appears here.');

async function folderOf(name, folder) {
  const { entries, more } = await get(at(name) + '/outputs?path=' + encodeURIComponent(folder));
  const list = make('ul', { className: 'files' });
  for (const entry of entries) {
    const whole = folder ? folder + '/' + entry.name : entry.name;
    if (entry.kind === 'folder') {
      const inside = make('details', {}, make('summary', { textContent: entry.name + '/' }));
      inside.addEventListener('toggle', async () => {
        if (inside.open && inside.childElementCount === 1) inside.append(await folderOf(name, whole).catch(error => make('p', { textContent: error.message })));
      });
      list.append(make('li', {}, inside));
    } else if (entry.kind === 'file') list.append(fileOf(at(name) + '/outputs/' + pathOf(whole), entry));
    else list.append(make('li', { className: 'dim', textContent: entry.name + ' (' + entry.kind + ', not opened)' }));
  }
  if (more) list.append(make('li', { className: 'dim', textContent: 'and more: see the folder of the run' }));
  return entries.length ? list : none();
}

function filesView(name) {
  const place = make('div', { className: 'stack' });
  let listed = null, turn = 0; // whether the run had ended when its files were listed: folders stay open afterwards
  async function changed(run) {
    if (listed === run.ended) return;
    const mine = ++turn;
    listed = run.ended;
    const files = await folderOf(name, '').catch(error => { if (error.status === 404) return none(); if (mine === turn) listed = null; throw error; });
    if (mine !== turn) return;
    if (files.className !== 'files') listed = null;
    const all = make('a', { className: 'button', href: at(name) + '/outputs.tar', textContent: 'Save all (.tar)' });
    place.replaceChildren(make('div', { className: 'actions' }, all), files);
  }
  return { element: place, changed };
}

export function runPage(main, name, tab, listen) {
  const [, , view] = TABS.find(([word]) => word === tab) || TABS[0];
  const shown = view(name, listen);
  const title = make('h1', {}, name), stands = make('p', { className: 'stands', role: 'status' });
  const actions = make('div', { className: 'actions' });
  const left = make('p', { className: 'unfollowed', role: 'status', hidden: true }, 'Updates to this run appear here once a launcher follows it again: ', command('launcher attach ' + name));
  let stopped = false, acted = '', turn = 0, seen = 0; // an older answer may come after a newer one
  const tabs = make('nav', { className: 'tabs', ariaLabel: 'Of this run' }, ...TABS.map(([word, label]) => {
    const link = make('a', { href: runLink(name, word), textContent: label });
    if (word === tab) link.ariaCurrent = 'page';
    return link;
  }));
  document.title = name + ' · launcher';

  function act(run) {
    const kind = [run.ended, stopped, Boolean(run.job)].join();
    if (console_.read_only || kind === acted) return;
    const button = (textContent, work) => { const one = make('button', { textContent }); one.addEventListener('click', work); return one; };
    const all = run.ended ? [] : [stopped ? button('Kill', () => kill(name)) : button('Stop', async () => { if (await stop([name])) { stopped = true; act(run); } })];
    if (run.job) all.push(button('Run again', () => rerun(run)));
    if (run.ended) all.push(button('Delete', () => remove([name])));
    actions.replaceChildren(...all);
    acted = kind;
  }
  async function load() {
    const mine = ++turn;
    const run = await get(at(name)), why = reasonOf(run);
    if (mine < seen) return;
    seen = mine;
    act(run);
    left.hidden = run.ended || run.followed;
    update(stands, status(run.status), why && make('span', { className: 'dim', textContent: why }), run.command && make('code', { textContent: run.command }));
    if (!main.contains(title)) main.replaceChildren(make('div', { className: 'top' }, make('div', {}, title, stands), actions), left, tabs, shown.element);
    await shown.changed(run);
  }
  async function changed({ runs, gone }) {
    if (gone.includes(name)) main.replaceChildren(empty(name + ' was deleted. ', make('a', { href: '#/', textContent: 'All runs' })));
    else if (runs.some(run => run.run === name)) await load();
  }
  return { load, changed, add: piece => shown.add?.(piece), close() { shown.close?.(); }, query: () => [['run', name], ...shown.query?.() || []] };
}
