// How a run stands: what went wrong, how long each stage took, and every host with its ranks and their use.
import { plain } from './ansi.js';
import { at, get, lasted, make, repeated, when } from './dom.js';
import { folded } from './log.js';
import { keyed, update } from './update.js';

const PROCESSES = 2000, EVERY = 5000;

function facts(run) {
  const job = run.job || { run: [], nodes: [], framework: '' };
  const known = [
    ['started', when(run.started)],
    ['attempt', run.attempt && run.attempt + 1],
    ['took', run.ended ? lasted(run.seconds) : lasted(Date.now() / 1000 - run.started) + ' so far'],
    ['hosts', (run.wanted ? run.wanted + (run.most ? ' to ' + run.most : '') + ' of ' : '') + run.hosts.join(' ')],
    ['as user', run.users.join(' ')],
    ['ranks', run.ranks && run.ranks + (run.gpus ? ', ' + run.gpus + ' GPUs' : '')],
    ['framework', job.framework],
    ['commit', run.commit],
    ['tags', run.tags.join(' ')],
    ['note', run.note],
  ].filter(([, value]) => value);
  return make('dl', {}, ...known.map(([name, value]) => make('div', {}, make('dt', { textContent: name }), make('dd', { textContent: value }))));
}

function postmortem(run) {
  const { error, hint, failure, others_said: others } = run.receipt || {};
  const told = [];
  for (const text of [error, hint, run.damaged]) if (text) told.push(make('p', { textContent: text }));
  if (failure) {
    told.push(make('h2', { textContent: `${failure.key} on ${failure.host} failed first: ${failure.meaning || 'exit ' + failure.exit_code}` }));
    for (const text of [failure.cause && 'Likely: ' + failure.cause, failure.hint && 'Hint: ' + failure.hint, failure.error]) if (text) told.push(make('p', { textContent: text }));
    if (failure.last_lines.length) told.push(make('pre', { className: 'last', tabIndex: 0, ariaLabel: 'Its last lines', textContent: failure.last_lines.join('\n') }));
  }
  if (others?.length) told.push(make('p', { textContent: 'The others said last:' }), make('pre', { className: 'last', tabIndex: 0, ariaLabel: 'What the others said last', textContent: others.map(one => '[' + [folded(one.ranks), ...one.places].filter(Boolean).join(', ') + '] ' + plain(one.line)).join('\n') }));
  return told.length ? make('section', { className: 'card ' + run.status, ariaLabel: 'What went wrong' }, ...told) : null;
}

// The stages in time; the last one goes on while the run does.
function stages(run) {
  const live = !run.ended && run.followed;
  const found = run.stages.map(([name, begin, end], index) => [name, begin, live && index === run.stages.length - 1 ? Math.max(end, Date.now() / 1000) : end]);
  if (!found.length) return null;
  const whole = found.at(-1)[2] - found[0][1] || 1;
  const told = found.map(([name, begin, end]) => name + ' ' + lasted(end - begin));
  const bar = make('div', { className: 'timeline', role: 'img', ariaLabel: 'Stages: ' + told.join(', ') }, ...found.map(([name, begin, end], index) => {
    const part = make('span', { className: 'stage-' + name, title: told[index] });
    part.style.flexGrow = String((end - begin) / whole);
    return part;
  }));
  return make('div', {}, bar, make('p', { className: 'stages' }, ...found.map(([name], index) => make('span', {}, make('i', { className: 'stage-' + name }), told[index]))));
}

const mean = values => values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
const percent = value => Math.round(value) + ' %';

// By host: what its processors, memory and GPUs do now, and of a run that has ended did on average.
function usesOf(run, series) {
  const found = new Map();
  const of = host => found.get(host) || found.set(host, { cpu: null, memory: null, gpus: new Map() }).get(host);
  for (const [host, use] of Object.entries(run.receipt?.use || {})) {
    Object.assign(of(host), { cpu: use.cpu, memory: use.memory && use.memory / 1e9 });
    for (const [gpu, one] of Object.entries(use.gpus)) if (one.percent !== null) of(host).gpus.set(Number(gpu), one.percent);
  }
  if (found.size || run.ended) return found;
  for (const { tag, source, last } of series) {
    const [, host, gpu] = source.match(/^(.*) GPU (\d+)$/) || [null, source, ''];
    if (!last) continue;
    if (tag === 'GPU use, %') of(host).gpus.set(Number(gpu), last[2]);
    else if (tag === 'Processors, %') of(host).cpu = last[2];
    else if (tag === 'Memory, GB') of(host).memory = last[2];
  }
  return found;
}

// How a process stands: [class, words].
function standing(one, run, silent) {
  if (one.code === null) return run.ended || silent ? ['unknown', run.ended ? 'not known' : 'silent'] : ['running', 'running'];
  if (one.code === 0) return ['succeeded', 'exit 0'];
  return one.code < 0 ? ['stopped', 'signal ' + -one.code] : ['failed', 'exit ' + one.code];
}

function rank(one, run, silent, gpu, used) {
  const [kind, words] = standing(one, run, silent), key = String(one.key);
  const busy = used === undefined ? '' : 'GPU ' + gpu + ' ' + percent(used);
  const tile = make('li', { className: 'rank ' + kind, title: [key, words, busy, one.pid && 'pid ' + one.pid].filter(Boolean).join(', ') },
    make('b', { textContent: key.replace(/^rank-/, '') }), make('span', { textContent: words }));
  if (used !== undefined) {
    const inner = make('i');
    inner.style.width = Math.min(100, Math.max(0, used)) + '%';
    tile.append(make('div', { className: 'bar', role: 'img', ariaLabel: busy }, inner));
  }
  return tile;
}

// What a host is at, and what the receipt says is left there.
function hostState(name, run, mine) {
  if (run.lost.includes(name)) return 'lost';
  if (run.silent.includes(name)) return 'does not answer';
  const receipt = run.receipt?.hosts?.find(one => one.host === name);
  if (receipt) return receipt.left === null ? 'not known whether anything is left' : receipt.left ? receipt.left + (receipt.left > 1 ? ' processes left' : ' process left') : 'nothing left';
  const going = mine.filter(one => one.code === null).length;
  return mine.length ? going + ' of ' + mine.length + ' running' : '';
}

function hostOf(name, run, mine, node, use) {
  const silent = run.silent.includes(name) || run.lost.includes(name), gpus = node?.gpus || [];
  const busy = use && [
    use.gpus.size && 'GPUs ' + percent(mean([...use.gpus.values()])),
    use.cpu !== null && 'processors ' + percent(use.cpu),
    use.memory && 'memory ' + use.memory.toFixed(1) + ' GB',
  ].filter(Boolean).join(' · ');
  // A rank has a GPU of its own where there are as many of both.
  const own = one => node && gpus.length === node.ranks.length ? gpus[node.ranks.indexOf(one.rank)] : undefined;
  const state = hostState(name, run, mine);
  const bad = silent || /left$/.test(state) && !/^nothing/.test(state);
  return keyed(name, make('section', { className: 'host', ariaLabel: name },
    make('h2', {}, name, make('span', { className: bad ? 'warn' : 'dim', textContent: state }), busy && make('span', { className: 'dim', textContent: busy })),
    make('ul', { className: 'ranks', ariaLabel: 'Processes on ' + name }, ...mine.map(one => rank(one, run, silent, own(one), use?.gpus.get(own(one)))))));
}

function grid(name, run, series) {
  const uses = usesOf(run, series), nodes = new Map((run.job?.nodes || []).map(node => [node.host, node]));
  const by = new Map([...nodes.keys()].map(host => [host, []]));
  for (const one of run.processes.slice(0, PROCESSES)) by.set(one.host, [...by.get(one.host) || [], one]);
  const hosts = [...by].filter(([host, mine]) => mine.length || uses.has(host) || run.lost.includes(host));
  const more = run.processes.length - PROCESSES;
  return [
    ...hosts.length ? [make('h2', { textContent: 'Hosts and processes' + (run.ended && uses.size ? ', with their average use' : '') })] : [],
    ...hosts.map(([host, mine]) => hostOf(host, run, mine, nodes.get(host), uses.get(host))),
    ...more > 0 ? [make('p', { className: 'dim', textContent: `and ${more} more: launcher show ${name}` })] : [],
  ];
}

export function overview(name) {
  const place = make('div', { className: 'stack' });
  let shown = null, series = [], due = 0; // when it looks again, unless the page is hidden then
  const polled = repeated(look);
  const draw = () => { if (shown) update(place, postmortem(shown), facts(shown), stages(shown), ...grid(name, shown, series)); };

  async function look() {
    if (!shown || shown.ended) return 0;
    due = performance.now() + EVERY;
    const found = await get(at(name) + '/metrics?points=0');
    if (polled.closed) return 0;
    series = found.scalars;
    draw();
    const pause = found.whole ? EVERY : 100;
    due = performance.now() + pause;
    return pause;
  }
  async function changed(run) {
    shown = run;
    draw();
    if (!run.ended && performance.now() >= due) await polled.now().catch(error => { if (error.gone) throw error; });
  }
  return { element: place, changed, close() { polled.close(); } };
}
