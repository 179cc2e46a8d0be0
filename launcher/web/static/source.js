// What a run was started with: its code, its job, and the command that starts it again.
import { at, command, diffOf, empty, get, make } from './dom.js';

const field = (name, value) => make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value }));

// A value a line, lists and all.
function laidOut(values) {
  const lines = Object.entries(values).map(([key, value]) => '  ' + JSON.stringify(key) + ': ' + JSON.stringify(value).replaceAll('","', '", "').replaceAll('":', '": '));
  return '{\n' + lines.join(',\n') + '\n}';
}

export function codeView(name) {
  const place = make('div', { className: 'stack' });
  async function changed() {
    if (place.childElementCount) return;
    const told = await get(at(name) + '/source');
    const known = [['commit', told.commit], ['branch', told.branch], ['folder', told.folder], ['not in git', told.untracked.join(' ')]].filter(([, value]) => value);
    place.replaceChildren(make('dl', {}, ...known.map(([one, value]) => field(one, value))));
    if (told.diff) place.append(make('h2', { textContent: 'Uncommitted changes' }), diffOf('Uncommitted changes', told.diff));
    else place.append(empty(told.commit ? 'Everything was committed.' : 'The code was in no git repository: its snapshot is in the folder of the run on each host.'));
    if (!told.diff_is_whole) place.append(make('p', { className: 'dim', textContent: 'The diff is longer: see code.diff in the folder of the run.' }));
  }
  return { element: place, changed };
}

export function jobView(name) {
  const place = make('div', { className: 'stack' });
  async function changed(run) {
    if (place.childElementCount) return;
    const told = await get(at(name) + '/source');
    if (!told.job) { place.replaceChildren(empty('It ended before anything was decided.')); return; }
    const job = Object.fromEntries(Object.entries(told.job).filter(([, value]) => value !== null && value !== '' && value !== false && !(typeof value === 'object' && !Object.keys(value).length)));
    const nodes = (run.job?.nodes || []).map(node => field(node.host, 'ranks ' + node.ranks.join(' ') + (node.gpus.length ? ', GPUs ' + node.gpus.join(' ') : '')));
    place.replaceChildren(
      make('h2', { textContent: 'Run it again' }), command(told.again),
      make('h2', { textContent: 'Job' }), make('pre', { tabIndex: 0, role: 'region', ariaLabel: 'Job', textContent: laidOut({ ...job, ...told.options }) }),
      make('p', { className: 'dim', textContent: 'Values of secrets and of the environment are not shown.' }),
      ...(nodes.length ? [make('h2', { textContent: 'Plan' }), make('dl', {}, ...nodes)] : []));
  }
  return { element: place, changed };
}
