// A form for a new run, made from the schema of job files, with the plan beside it as one types.
import { post, tell, tried } from './actions.js';
import { empty, get, make, runLink, table } from './dom.js';

const FIRST = ['run', 'workdir', 'framework', 'num_nodes', 'gpus', 'hosts', 'name', 'envs', 'secrets', 'outputs', 'max_restarts', 'time', 'tags'];
const LINES = ['envs', 'setup', 'prepare', 'notify'];
const LABELS = { run: 'Script and arguments', workdir: 'Folder', num_nodes: 'Hosts (how many)', gpus: 'GPUs (total)', hosts: 'Hosts (which)', envs: 'Environment, a NAME=VALUE a line', nproc_per_node: 'Processes on each host', gpu_ids: 'GPU ids', time: 'Time limit' };
const RESOURCES = ['gpus', 'nproc_per_node', 'gpu_ids'];
const KEPT = 'launcher-draft';

const isList = schema => (schema.oneOf || []).some(one => one.type === 'array');
const label = name => LABELS[name] || name.replaceAll('_', ' ').replace(/^./, letter => letter.toUpperCase());

// What was typed as the value that a job file has; undefined where nothing was.
export function valueOf(name, schema, text) {
  const typed = text.trim();
  if (!typed) return undefined;
  if (name === 'envs') return Object.fromEntries(typed.split('\n').map(line => line.trim()).filter(Boolean).map(line => { const at = line.indexOf('='); return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1)]; }));
  if (schema.type === 'boolean') return typed === 'yes';
  if (name === 'run' || name === 'setup' || name === 'prepare') return typed;
  if (isList(schema)) return typed.split(name === 'notify' ? '\n' : ',').map(one => one.trim()).filter(Boolean);
  return /^\d{1,9}$/.test(typed) ? Number(typed) : typed;
}

export function newPage(main) {
  const fields = new Map(), told = make('p', { className: 'told', role: 'alert' });
  const plan = make('div', { className: 'stack', ariaLive: 'polite' }), file = make('pre', { tabIndex: 0, role: 'region', ariaLabel: 'Job file' });
  const begin = make('button', { className: 'primary', textContent: 'Start' }), save = make('a', { className: 'button', textContent: 'Save job file', download: 'job.yaml' });
  const scripts = make('datalist', { id: 'scripts' }), free = make('p', { className: 'dim', role: 'status' });
  let timer = null, turn = 0, closed = false, address = null;
  document.title = 'new run · launcher';

  function field(name, schema, frameworks) {
    let input;
    if (schema.enum || schema.type === 'boolean' || name === 'framework') {
      const options = name === 'framework' ? frameworks : schema.enum || ['yes', 'no'];
      input = make('select', {}, make('option', { value: '', textContent: 'default' }), ...options.map(one => make('option', { value: one, textContent: one })));
    } else if (LINES.includes(name)) input = make('textarea', { rows: 2, spellcheck: false });
    else input = make('input', { type: 'text', spellcheck: false, autocomplete: 'off' });
    if (name === 'run') input.setAttribute('list', 'scripts');
    const wrong = make('span', { className: 'wrong', role: 'alert' }), help = make('span', { className: 'help', textContent: schema.description || '' });
    input.id = 'field-' + name;
    wrong.id = 'wrong-' + name;
    help.id = 'help-' + name;
    input.setAttribute('aria-describedby', wrong.id + ' ' + help.id);
    input.addEventListener('input', later);
    fields.set(name, { schema, input, wrong });
    return make('div', { className: 'field' }, make('label', { htmlFor: input.id, textContent: label(name) }), input, wrong, help);
  }
  function values() {
    const found = {};
    for (const [name, { schema, input }] of fields) {
      const value = valueOf(name, schema, input.value);
      if (value === undefined) continue;
      if (RESOURCES.includes(name)) (found.resources ||= {})[name] = value;
      else found[name] = value;
    }
    return found;
  }
  function wrong(error) {
    const name = error.told?.field === 'resources' ? RESOURCES.find(one => fields.get(one)?.input.value) : error.told?.field;
    const place = fields.get(name);
    const text = error.message + (error.told?.hint ? ' — ' + error.told.hint : '');
    if (place) { place.wrong.textContent = text; place.input.ariaInvalid = 'true'; }
    else told.textContent = text;
    place?.input.closest('details')?.setAttribute('open', '');
  }
  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, 250);
  }
  async function look() {
    const mine = ++turn, given = values();
    sessionStorage.setItem(KEPT, JSON.stringify([...fields].map(([name, { input }]) => [name, input.value])));
    for (const one of fields.values()) { one.wrong.textContent = ''; one.input.removeAttribute('aria-invalid'); }
    told.textContent = '';
    begin.disabled = true;
    if (!given.run) { plan.replaceChildren(empty('What shall run? Choose a script, and the plan appears here.')); return; }
    try {
      const found = await post('/api/plan', { values: given });
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
      if (mine === turn && !closed) { wrong(error); plan.replaceChildren(empty('No plan yet: see what is marked.')); }
    }
  }
  async function start() {
    begin.disabled = true;
    try {
      const { run } = await post('/api/jobs', { values: values() });
      sessionStorage.removeItem(KEPT);
      location.hash = runLink(run);
    } catch (error) {
      wrong(error);
      tell(error.message, error.told?.hint);
      begin.disabled = false;
    }
  }
  async function propose() {
    const folder = fields.get('workdir').input.value;
    const found = await tried(() => get('/api/scripts?' + new URLSearchParams({ workdir: folder })));
    if (found) scripts.replaceChildren(...found.scripts.map(value => make('option', { value })));
  }
  async function count() {
    const now = await get('/api/cluster').catch(() => null);
    const gpus = now?.hosts.flatMap(host => host.gpus) || [];
    if (gpus.length) free.textContent = gpus.filter(gpu => gpu.state === 'free').length + ' of ' + gpus.length + ' GPUs are free now';
  }
  async function load() {
    if (main.contains(plan)) return;
    const { properties, frameworks, workdir } = await get('/api/fields');
    const { resources, ...rest } = properties, all = { ...rest, ...resources.properties };
    const first = FIRST.filter(name => all[name]), more = Object.keys(all).filter(name => !first.includes(name));
    const form = make('div', { className: 'form' }, ...first.map(name => field(name, all[name], frameworks)),
      make('details', {}, make('summary', { textContent: 'More' }), ...more.map(name => field(name, all[name], frameworks))));
    fields.get('workdir').input.placeholder = workdir;
    fields.get('workdir').input.addEventListener('change', propose);
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || '[]');
    for (const [name, value] of kept) if (fields.has(name)) fields.get(name).input.value = value;
    begin.addEventListener('click', start);
    main.replaceChildren(make('div', { className: 'top' }, make('h1', { textContent: 'New run' }), make('div', { className: 'actions' }, begin)), told,
      make('div', { className: 'halves' }, form, make('div', { className: 'stack beside' }, free, plan)), scripts);
    await propose();
    count();
    await look();
  }
  return { load, changed() {}, close() { closed = true; clearTimeout(timer); if (address) URL.revokeObjectURL(address); }, query: () => ({}) };
}
