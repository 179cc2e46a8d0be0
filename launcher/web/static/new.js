// A form for a new run, made from the schema of job files, with the plan beside it as one types.
import { post, tell, tried } from './actions.js';
import { bytes, empty, get, make, repeated, runLink, table } from './dom.js';
import { jobForm } from './form.js';

const KEPT = 'launcher-draft', EVERY = 5000;

export function newPage(main) {
  const told = make('p', { className: 'told', role: 'alert' });
  const plan = make('div', { className: 'stack', ariaLive: 'polite' }), file = make('pre', { tabIndex: 0, role: 'region', ariaLabel: 'Job file' });
  const begin = make('button', { className: 'primary', textContent: 'Start' }), save = make('a', { className: 'button', textContent: 'Save job file', download: 'job.yaml' });
  const scripts = make('datalist', { id: 'scripts' }), free = make('p', { className: 'dim', role: 'status' });
  let timer = null, turn = 0, closed = false, address = null, form = null;
  document.title = 'new run · launcher';

  function wrong(error) {
    const text = error.message + (error.told?.hint ? ' — ' + error.told.hint : '');
    if (!form.wrong(error.told?.field, text)) told.textContent = text;
  }
  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, 250);
  }
  async function look() {
    const mine = ++turn, given = form.typed();
    sessionStorage.setItem(KEPT, JSON.stringify(form.kept()));
    form.right();
    told.textContent = '';
    begin.disabled = true;
    if (!given.values.run) { plan.replaceChildren(empty('What shall run? Choose a script, and the plan appears here.')); return; }
    try {
      const found = await post('/api/plan', given);
      if (mine !== turn || closed) return;
      begin.disabled = false;
      file.textContent = found.file;
      if (address) URL.revokeObjectURL(address);
      save.href = address = URL.createObjectURL(new Blob([found.file], { type: 'application/yaml' }));
      const rows = found.nodes.map(node => [node.host, node.ranks.length ? node.ranks[0] + (node.ranks.length > 1 ? '-' + node.ranks[node.ranks.length - 1] : '') : '', node.gpus.join(' ')]);
      plan.replaceChildren(make('h2', { textContent: 'Plan' }), table('Plan', ['host', 'ranks', 'GPUs'], rows),
        make('p', { className: 'dim', textContent: 'framework ' + found.framework + (found.spares.length ? '; spares: ' + found.spares.join(' ') : '') + '. Hosts are asked at the start.' }),
        make('h2', { textContent: 'Job file' }), file, make('div', { className: 'actions' }, save));
    } catch (error) {
      if (mine === turn && !closed) { wrong(error); if (error.status) plan.replaceChildren(empty('No plan yet: see what is marked.')); }
    }
  }
  async function start() {
    begin.disabled = true;
    try {
      const { run } = await post('/api/jobs', form.typed());
      sessionStorage.removeItem(KEPT);
      location.hash = runLink(run);
    } catch (error) {
      wrong(error);
      tell(error.message, error.told?.hint);
      begin.disabled = false;
    }
  }
  async function propose() {
    const folder = form.input('workdir').value;
    const found = await tried(() => get('/api/scripts?' + new URLSearchParams({ workdir: folder })));
    if (found) scripts.replaceChildren(...found.scripts.map(value => make('option', { value })));
  }
  const inUse = host => host.problem ? (host.off ? 'off' : 'no answer') : host.gpus.length ? host.gpus.filter(gpu => gpu.state === 'free').length + ' of ' + host.gpus.length + ' GPUs free' : 'no GPUs';
  // Hosts are asked while this page is open.
  async function count() {
    const now = await get('/api/cluster').catch(error => { if (error.status === 400 || error.gone) return null; throw error; });
    if (counting.closed) return 0;
    const gpus = now?.hosts.flatMap(host => host.gpus) || [];
    if (gpus.length) free.textContent = gpus.filter(gpu => gpu.state === 'free').length + ' of ' + gpus.length + ' GPUs are free now';
    if (now) form.offer('hosts', now.hosts.map(host => [host.host, inUse(host)]));
    return now ? EVERY : 0;
  }
  const counting = repeated(count);
  async function load() {
    if (main.contains(plan)) { // the console was gone meanwhile, or the page hidden
      counting.now().catch(() => {});
      return look();
    }
    const facts = await get('/api/fields');
    form = jobForm(facts, later);
    form.input('workdir').placeholder = facts.workdir;
    form.input('workdir').addEventListener('change', propose);
    form.keep(JSON.parse(sessionStorage.getItem(KEPT) || '[]'));
    begin.addEventListener('click', start);
    main.replaceChildren(make('div', { className: 'top' }, make('h1', { textContent: 'New run' }), make('div', { className: 'actions' }, begin)), told,
      make('div', { className: 'halves' }, form.element, make('div', { className: 'stack beside' }, free, plan)), scripts);
    await propose();
    form.offer('data', facts.data.map(one => [one.name, bytes(one.bytes)]));
    counting.now().catch(() => {});
    await look();
  }
  return { load, changed() {}, close() { closed = true; counting.close(); clearTimeout(timer); if (address) URL.revokeObjectURL(address); }, query: () => ({}) };
}
