// All hosts and their GPUs as they are now, and who waits for them.
import { console_, reserve, share } from './actions.js';
import { empty, get, lasted, make, repeated, runLink, table, when } from './dom.js';
import { keyed, update } from './update.js';

const EVERY = 2000, PROJECTS = 30_000, CHECKS = 30_000;

const named = (user, run) => user && run ? user + ' (' + run + ')' : run || (user || 'somebody') + ' outside launcher';

export function reason(one) {
  if (one.why === 'no-room') return 'no space left on ' + one.full.join(' ') + ' to write down that it begins';
  if (one.why === 'no-leader') return 'too few of its hosts are in touch with each other to begin it';
  if (one.why === 'may-have-begun') return 'may have begun on hosts that are out of reach';
  if (one.place === 0) return 'prepares its start';
  if (one.why === 'quota' || one.why === 'limit') return 'beyond the ' + one.why + ' of project ' + one.project;
  if (one.why === 'no-majority') return 'too few hosts answer to decide about project ' + one.project;
  if (one.place === null || !one.why) return 'too few of its hosts can be reached from where it was started';
  if (one.why === 'hosts-missing') return one.hosts.join(' ') + ' cannot be reached';
  if (one.why === 'too-large') return 'more than its hosts have now';
  const first = one.runs.slice(0, 3).map(run => named(one.users[run], run)).join(', ') + (one.runs.length > 3 ? ' and ' + (one.runs.length - 3) + ' more' : '');
  return (one.why === 'behind' ? 'behind ' : 'in use by ') + first + (one.latest ? '; by ' + when(one.latest) : '');
}

function bar(share, label) {
  const inner = make('i');
  inner.style.width = Math.min(100, Math.max(0, share)) + '%';
  return make('div', { className: 'bar', role: 'img', ariaLabel: label }, inner);
}

function gpuTile(gpu, mine) {
  const memory = Math.round(gpu.used / 1024) + '/' + Math.round(gpu.memory / 1024) + ' GB';
  const told = [gpu.percent === null ? '' : gpu.percent + ' %', memory, gpu.celsius === null ? '' : gpu.celsius + ' °C'].filter(Boolean).join(' · ');
  const who = gpu.state === 'free' ? 'free' : gpu.state === 'left' ? 'in use' : gpu.user || '?';
  const what = gpu.state === 'foreign' ? gpu.command || 'not launcher' : gpu.state === 'left' ? 'memory held by no process' : gpu.run;
  return make('li', { className: 'gpu ' + gpu.state, title: gpu.name },
    make('div', {}, make('b', { textContent: gpu.index }), make('span', { textContent: who + (gpu.state === 'foreign' ? ', not launcher' : '') })),
    make('div', { className: 'what', title: what || '' }, gpu.state === 'held' && mine.has(gpu.run) ? make('a', { href: runLink(gpu.run), textContent: gpu.run }) : what || '\u00a0'),
    bar(gpu.percent ?? (gpu.memory ? 100 * gpu.used / gpu.memory : 0), 'GPU ' + gpu.index + ': ' + told),
    make('div', { className: 'dim', textContent: told }));
}

// A run that holds no GPU.
function without(one, mine) {
  const name = mine.has(one.run) ? make('a', { href: runLink(one.run), textContent: one.run }) : make('span', { textContent: one.run });
  return make('li', {}, name, make('span', { className: 'dim', textContent: [one.user, one.since && lasted(Math.max(0, Date.now() / 1000 - one.since)), 'no GPU'].filter(Boolean).join(' · ') }));
}

function hostRow(host, mine) {
  const names = [...new Set(host.gpus.map(gpu => gpu.name))].join(', ');
  const problem = host.problem ? (host.off ? 'off: ' : '') + host.problem : host.gpus.length ? '' : 'no GPUs';
  return keyed(host.host, make('section', { className: 'host', ariaLabel: host.host }, make('h2', {}, host.host, make('span', { className: host.problem && !host.off ? 'warn' : 'dim', textContent: problem || names })),
    ...(host.gpus.length ? [make('ul', { className: 'gpus' }, ...host.gpus.map(gpu => gpuTile(gpu, mine)))] : []),
    ...(host.runs.length ? [make('ul', { className: 'others', ariaLabel: 'Runs without GPUs on ' + host.host }, ...host.runs.map(one => without(one, mine)))] : [])));
}

function finding(one) {
  const head = make('div', {}, make('b', { className: one.level, textContent: one.level + ' ' + one.code }), ' ', one.hosts + (one.there && ' → ' + one.there));
  return keyed(one.code + ' ' + one.hosts, make('li', {}, head, make('div', { textContent: one.evidence }), one.fix && make('div', { className: 'dim', textContent: 'Fix: ' + one.fix })));
}

const shares = sizes => [...new Set(sizes)].sort((one, other) => other - one).map(size => { const count = sizes.filter(one => one === size).length; return count > 1 ? count + 'x' + size : size; }).join('+');

export function clusterPage(main) {
  const summary = make('p', { className: 'dim', role: 'status' }), hosts = make('div', { className: 'stack' }), waiting = make('div', { className: 'stack' });
  const held = make('div', { className: 'stack' }), projects = make('div', { className: 'stack' }), checks = make('div', { className: 'stack' });
  const polled = repeated(look), dividing = repeated(divided), checking = repeated(checked);
  let mine = new Set();
  const reserving = make('button', { textContent: 'Reserve GPUs' });
  reserving.addEventListener('click', () => reserve(busy => { reserving.disabled = busy; }));
  let known = [], changing = false, turn = 0; // the projects, and whether one is changed
  projects.addEventListener('click', async event => { // rows come and go
    const one = !changing && known.find(each => each.name === event.target.closest('button')?.value);
    if (one && await share(one, busy => { changing = busy; })) dividing.now().catch(() => {});
  });
  document.title = 'cluster · launcher';

  async function look() {
    const now = await get('/api/cluster');
    if (polled.closed) return 0;
    reserving.hidden = console_.read_only;
    const gpus = now.hosts.flatMap(host => host.gpus), count = state => gpus.filter(gpu => gpu.state === state).length;
    const silent = now.hosts.filter(host => host.problem && !host.off).length;
    summary.textContent = [now.hosts.length + ' hosts, ' + gpus.length + ' GPUs', count('held') + ' held', count('free') + ' free', count('foreign') && count('foreign') + ' used outside launcher', count('left') && count('left') + ' with memory of no process', silent && silent + (silent > 1 ? ' hosts do' : ' host does') + ' not answer'].filter(Boolean).join(' · ');
    update(hosts, ...now.hosts.map(host => hostRow(host, mine)));
    const rows = now.queue.waiting.map(one => [one.place === null ? '-' : one.place || 'now', one.run, one.user, shares(one.shares), one.hosts.join(' '), lasted(now.time - one.since), reason(one)].map(String));
    update(waiting, ...(rows.length ? [make('h2', { textContent: 'Waiting' }), table('Waiting', ['', 'run', 'user', 'GPUs', 'hosts', 'for', 'why'], rows, now.queue.waiting.map(one => one.run))] : []));
    const known = now.queue.holding.filter(one => one.run && one.until).sort((one, other) => one.until - other.until);
    update(held, ...(known.length ? [make('h2', { textContent: 'Held until' }), table('Held until', ['until', 'run', 'user', 'GPUs', 'project'], known.map(one => [when(one.until), one.run, one.user, Object.entries(one.gpus).map(([host, gpus]) => host + ': ' + gpus.join(' ')).join(', '), one.project]), known.map(one => one.run))] : []));
    if (!main.contains(hosts)) main.replaceChildren(make('div', { className: 'tools' }, make('h1', { textContent: 'Cluster' }), make('span', { className: 'actions' }, reserving)), summary, waiting, hosts, held, projects, checks);
    return EVERY;
  }
  async function divided() {
    const asked = ++turn;
    const told = await get('/api/projects').catch(error => {
      if (!error.status || error.status === 401) throw error; // a page keeps what it shows while the console is gone
      return { projects: [], silent: [], wrong: error.message };
    });
    const rows = told.projects.map(one => [one.name, one.used, one.quota, one.limit ?? '-', one.borrowed, one.waiting, one.users.join(' ')].map(String));
    if (!console_.read_only) for (const row of rows) row.push(make('button', { textContent: 'Change', value: row[0], ariaLabel: 'Change the quota of ' + row[0] }));
    const note = told.wrong || (told.silent.length ? 'not asked: ' + told.silent.join(' ') : '');
    if (dividing.closed) return 0;
    if (asked !== turn) return PROJECTS;
    known = told.projects;
    update(projects, ...(rows.length || note ? [make('h2', { textContent: 'Projects' })] : []), ...(rows.length ? [table('Projects', ['project', 'GPUs in use', 'quota', 'limit', 'borrowed', 'waiting', 'users', ...(console_.read_only ? [] : [''])], rows, rows.map(([name]) => name))] : []), note && make('p', { className: 'dim', textContent: note }));
    return rows.length || note ? PROJECTS : 0;
  }
  async function checked() {
    const { check } = await get('/api/check');
    if (checking.closed) return 0;
    const found = check?.findings || [], told = check ? check.hosts + ', checked ' + when(check.time) + (found.length ? '' : ': no problems found') : 'No check of these hosts is kept on this machine. In a terminal, run ';
    update(checks, make('h2', { textContent: 'Last check' }), make('p', { className: 'dim' }, told, ...(check ? [] : [make('code', { textContent: 'launcher check' })])),
      ...(found.length ? [make('ul', { className: 'findings', ariaLabel: 'Last check' }, ...found.map(finding))] : []));
    return CHECKS;
  }
  async function load() {
    if (!main.contains(hosts)) main.replaceChildren(empty('Asking the hosts …'));
    mine = new Set((await get('/api/runs')).runs.map(run => run.run));
    await polled.now();
    for (const one of [dividing, checking]) one.now().catch(() => {}); // they look again by themselves
  }
  function changed({ runs, gone }) {
    for (const run of runs) mine.add(run.run);
    for (const name of gone) mine.delete(name);
  }
  return { load, changed, close() { for (const one of [polled, dividing, checking]) one.close(); }, query: () => ({}) };
}
