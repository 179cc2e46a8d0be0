// The fields of a job, made from its schema, and what was typed into them as values of a job file.
import { make } from './dom.js';
import { keyed, update } from './update.js';

const FIRST = ['run', 'workdir', 'framework', 'num_nodes', 'resources.gpus', 'hosts', 'name', 'envs', 'secrets', 'data', 'outputs', 'max_restarts', 'time', 'tags'];
const LINES = ['setup', 'prepare', 'notify'];
const LABELS = { run: 'Script and arguments', workdir: 'Folder', num_nodes: 'Hosts (how many)', 'resources.gpus': 'GPUs (total)', hosts: 'Hosts (which)', envs: 'Environment variables', nproc_per_node: 'Processes on each host', gpu_ids: 'GPU ids', time: 'Time limit' };
// Values of secrets come from the environment of the console: no page asks for them.
const NAMES = ['secrets'];
// Fields with names to choose from beside them: a click adds one to what was typed, or takes it out.
const PICKED = { hosts: 'Hosts to choose', data: 'Sets that were added' };
const HELP = { yaml: 'Several: a, b; or YAML, a NAME: VALUE a line.', pairs: 'A NAME=VALUE a line.' };

const isGroup = schema => schema.type === 'object' && schema.properties;
const isList = schema => (schema.oneOf || []).some(one => one.type === 'array');
const last = path => path.split('.').at(-1);
const label = path => LABELS[path] || LABELS[last(path)] || last(path).replaceAll('_', ' ').replace(/^./, letter => letter.toUpperCase());

// How a value is typed: 'choice', 'pairs', 'yaml', 'list', 'lines' or 'text'.
export function kindOf(path, schema) {
  if (schema.enum || schema.type === 'boolean') return 'choice';
  if (schema.type === 'object') return 'pairs';
  if (!NAMES.includes(path) && (schema.oneOf || []).some(one => one.type === 'object')) return 'yaml';
  if (LINES.includes(path)) return 'lines';
  return isList(schema) && path !== 'run' ? 'list' : 'text';
}

const isYaml = typed => /^[[{"'#]|^- |:(\s|$)/m.test(typed);

// What was typed as the value that a job file has; undefined where nothing was.
export function valueOf(path, schema, text) {
  const typed = text.trim(), kind = kindOf(path, schema);
  if (!typed) return undefined;
  if (kind === 'pairs') return Object.fromEntries(typed.split('\n').map(line => line.trim()).filter(Boolean).map(line => { const at = line.indexOf('='); return at < 0 ? [line, ''] : [line.slice(0, at).trim(), line.slice(at + 1)]; }));
  if (schema.type === 'boolean') return typed === 'yes';
  if (path === 'notify') return typed.split('\n').map(one => one.trim()).filter(Boolean);
  if (kind === 'lines' || path === 'run') return typed;
  if (kind === 'list' || kind === 'yaml') return typed.split(/[,\n]/).map(one => one.trim()).filter(Boolean);
  return /^\d{1,9}$/.test(typed) ? Number(typed) : typed;
}

// `element` is the form; values(), texts() what was typed; kept() and keep(…) all of it as it stands.
export function jobForm({ properties, frameworks }, changed) {
  const fields = new Map();

  function field(path, schema) {
    const kind = kindOf(path, schema), options = path === 'framework' ? frameworks : schema.enum || ['yes', 'no'];
    let input;
    if (kind === 'choice' || path === 'framework') input = make('select', {}, make('option', { value: '', textContent: 'default' }), ...options.map(one => make('option', { value: one, textContent: one })));
    else if (['pairs', 'yaml', 'lines'].includes(kind)) input = make('textarea', { rows: 2, spellcheck: false });
    else input = make('input', { type: 'text', spellcheck: false, autocomplete: 'off' });
    if (path === 'run') input.setAttribute('list', 'scripts');
    const wrong = make('span', { className: 'wrong', role: 'alert' });
    const help = make('span', { className: 'help', textContent: [schema.description, HELP[kind]].filter(Boolean).join('. ') });
    for (const [word, one] of Object.entries({ field: input, wrong, help })) one.id = word + '-' + path.replaceAll('.', '-');
    input.setAttribute('aria-describedby', wrong.id + ' ' + help.id);
    input.addEventListener('input', () => { if (PICKED[path]) drawPicks(fields.get(path)); changed(); });
    const picks = PICKED[path] ? make('div', { className: 'picks', role: 'group', ariaLabel: PICKED[path], hidden: true }) : null;
    picks?.addEventListener('click', event => { const name = event.target.closest('button')?.value; if (name) pick(path, name); });
    fields.set(path, { schema, kind, input, wrong, picks, known: [] });
    return make('div', { className: 'field' }, make('label', { htmlFor: input.id, textContent: label(path) }), input, picks, wrong, help);
  }
  const named = one => one.input.value.split(/[,\n]/).map(name => name.trim()).filter(Boolean);
  function pick(path, name) {
    const one = fields.get(path), before = named(one);
    one.input.value = (before.includes(name) ? before.filter(other => other !== name) : [...before, name]).join(one.kind === 'text' || path === 'hosts' ? ',' : ', ');
    drawPicks(one);
    changed();
  }
  // What was typed as YAML is no list of names that a click could change.
  function drawPicks(one) {
    const chosen = named(one), yaml = isText(one);
    one.picks.hidden = !one.known.length;
    update(one.picks, ...one.known.map(([name, words]) => {
      const button = make('button', { type: 'button', value: name, disabled: yaml }, name, ...words ? [' ', make('span', { className: 'dim', textContent: words })] : []);
      button.ariaPressed = String(!yaml && chosen.includes(name));
      return keyed(name, button);
    }));
  }
  function group(path, schema) {
    const wrong = make('span', { className: 'wrong', role: 'alert' });
    const inside = Object.entries(schema.properties).map(([name, one]) => [path + '.' + name, one]).filter(([name]) => !FIRST.includes(name));
    const element = make('details', { className: 'group' }, make('summary', { textContent: label(path) }), make('span', { className: 'help', textContent: schema.description || '' }), wrong, ...inside.map(one => field(...one)));
    fields.set(path, { wrong, element });
    return element;
  }
  const schemaOf = path => path.split('.').reduce((one, name) => one?.properties?.[name], { properties });
  const rest = Object.entries(properties).filter(([name]) => !FIRST.includes(name));
  const element = make('div', { className: 'form' }, ...FIRST.filter(schemaOf).map(path => field(path, schemaOf(path))),
    ...rest.filter(([, schema]) => isGroup(schema)).map(one => group(...one)),
    make('details', {}, make('summary', { textContent: 'More' }), ...rest.filter(([, schema]) => !isGroup(schema)).map(one => field(...one))));
  const inputs = () => [...fields].filter(([, one]) => one.input);
  const isText = one => one.kind === 'yaml' && isYaml(one.input.value.trim());

  function values() {
    const found = {};
    for (const [path, one] of inputs()) {
      const value = isText(one) ? undefined : valueOf(path, one.schema, one.input.value), [top, name] = path.split('.');
      if (value !== undefined && name) (found[top] ||= {})[name] = value;
      else if (value !== undefined) found[top] = value;
    }
    return found;
  }
  // Says at a field what is wrong with it; false where no field is so called.
  function wrong(path, text) {
    const words = (path || '').split('.');
    const place = words.map((_, index) => fields.get(words.slice(0, words.length - index).join('.'))).find(Boolean);
    if (!place) return false;
    place.wrong.textContent = text;
    if (place.input) place.input.ariaInvalid = 'true';
    place.wrong.closest('details')?.setAttribute('open', '');
    return true;
  }
  function right() {
    for (const { wrong: place, input } of fields.values()) { place.textContent = ''; input?.removeAttribute('aria-invalid'); }
  }
  return {
    element, wrong, right,
    // Offers names with words about them at a field that has any.
    offer(path, known) { const one = fields.get(path); if (one?.picks) { one.known = known; drawPicks(one); } },
    input: path => fields.get(path).input,
    typed: () => ({ values: values(), texts: Object.fromEntries(inputs().filter(([, one]) => isText(one)).map(([path, { input }]) => [path, input.value])) }),
    kept: () => inputs().map(([path, { input }]) => [path, input.value]),
    keep(all) { for (const [path, value] of all) if (fields.get(path)?.input) fields.get(path).input.value = value; },
  };
}
