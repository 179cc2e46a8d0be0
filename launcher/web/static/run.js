// One run: how it stands, its output, its files.
import { console_, kill, remove, rerun, stop } from './actions.js';
import { at, bytes, command, empty, get, make, pathOf, reasonOf, runLink, status } from './dom.js';
import { logView } from './log.js';
import { metricsView } from './metrics.js';
import { overview } from './overview.js';
import { canPreview, isCheckpoint, preview } from './preview.js';
import { scalarsView } from './scalars.js';
import { codeView, jobView } from './source.js';
import { update } from './update.js';

const TABS = [['', 'Overview', overview], ['logs', 'Output', logView], ['scalars', 'Scalars', scalarsView], ['metrics', 'Metrics', metricsView], ['files', 'Files', filesView], ['code', 'Code', codeView], ['job', 'Job', jobView]];

function fileOf(href, entry, hosts) {
  const facts = [bytes(entry.size), hosts, isCheckpoint(entry.name) && 'checkpoint'].filter(Boolean).join(', ');
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

// `owners` are the hosts of a file by its path, as far as the receipt has them.
async function folderOf(name, folder, owners) {
  const { entries, more } = await get(at(name) + '/outputs?path=' + encodeURIComponent(folder));
  const list = make('ul', { className: 'files' });
  for (const entry of entries) {
    const whole = folder ? folder + '/' + entry.name : entry.name;
    if (entry.kind === 'folder') {
      const inside = make('details', {}, make('summary', { textContent: entry.name + '/' }));
      inside.addEventListener('toggle', async () => {
        if (inside.open && inside.childElementCount === 1) inside.append(await folderOf(name, whole, owners).catch(error => make('p', { textContent: error.message })));
      });
      list.append(make('li', {}, inside));
    } else if (entry.kind === 'file') list.append(fileOf(at(name) + '/outputs/' + pathOf(whole), entry, owners.get(whole)));
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
    const owners = new Map((run.receipt?.outputs || []).map(one => [one.path, (one.hosts || []).join(' ')]));
    const files = await folderOf(name, '', owners).catch(error => { if (error.status === 404) return none(); if (mine === turn) listed = null; throw error; });
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
