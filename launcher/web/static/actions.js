// What pages can have done to runs, with the questions and errors that belong to it.
import { ask, at, bytes, diffOf, make } from './dom.js';

const told = document.getElementById('told');
export const console_ = { read_only: true, version: '' };

export function tell(...lines) {
  const close = make('button', { textContent: 'Close' });
  const note = make('div', { className: 'note' }, make('div', {}, ...lines.filter(Boolean).map(text => make('p', { textContent: text }))), close);
  close.addEventListener('click', () => note.remove());
  told.replaceChildren(note);
}

export async function post(path, body) {
  const answer = await ask(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

export async function tried(work) {
  try {
    return await work();
  } catch (error) {
    tell(error.message, error.told?.hint, ...(error.told?.hosts || []));
    return undefined;
  }
}

// A question; true once it is agreed to. The content may have fields.
export function agreed(title, content, label, className = '') {
  return new Promise(done => {
    const yes = make('button', { className, textContent: label }), no = make('button', { textContent: 'Cancel' });
    const dialog = make('dialog', { ariaLabel: title }, make('h2', { textContent: title }), ...content, make('div', { className: 'actions' }, no, yes));
    const end = answer => { dialog.close(); dialog.remove(); done(answer); };
    yes.addEventListener('click', () => end(true));
    no.addEventListener('click', () => end(false));
    dialog.addEventListener('cancel', event => { event.preventDefault(); end(false); });
    dialog.addEventListener('keydown', event => { if (event.key === 'Enter' && event.target.tagName === 'INPUT' && event.target.type !== 'checkbox') end(true); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

const listed = names => make('p', { className: 'dim', textContent: names.slice(0, 8).join(', ') + (names.length > 8 ? ' and ' + (names.length - 8) + ' more' : '') });
const counted = names => names.length === 1 ? names[0] : names.length + ' runs';

export async function stop(names) {
  const text = 'Processes get SIGTERM, and SIGKILL after their grace. Outputs come back.';
  if (!await agreed('Stop ' + counted(names) + '?', [...(names.length > 1 ? [listed(names)] : []), make('p', { textContent: text })], 'Stop', 'bad')) return false;
  let all = true;
  for (const name of names) all = await tried(async () => { await post(at(name) + '/stop', {}); return true; }) && all;
  return all;
}

export const kill = name => tried(() => post(at(name) + '/stop', {}));

export async function remove(names) {
  const text = 'Logs, outputs and code go, here and on every host.';
  if (!await agreed('Delete ' + counted(names) + '?', [...(names.length > 1 ? [listed(names)] : []), make('p', { textContent: text })], 'Delete', 'bad')) return;
  for (const name of names) await tried(() => removeOne(name, {}));
}

async function removeOne(name, how) {
  try {
    const { deleted, not_brought: left } = await post(at(name) + '/delete', how);
    if (deleted) return;
    const lines = left.slice(0, 8).map(one => make('li', { textContent: `${one.path || 'more'} on ${one.host}: ${one.files} files, ${bytes(one.bytes)}` }));
    if (await agreed(name + ' has files that never came back', [make('ul', {}, ...lines), make('p', { textContent: 'launcher pull ' + name + ' brings them.' })], 'Delete them', 'bad')) await removeOne(name, { ...how, lose: true });
  } catch (error) {
    if (!error.told?.hosts) throw error;
    const lines = error.told.hosts.map(text => make('li', { textContent: text }));
    if (await agreed(error.message, [make('ul', {}, ...lines), make('p', { textContent: 'Delete it here, and leave its files on those hosts?' })], 'Delete it here', 'bad')) await removeOne(name, { ...how, force: true });
  }
}

// `busy(whether)` is told while the console is asked.
export async function reserve(busy) {
  const field = (name, label, placeholder) => [name, label, make('input', { type: 'text', ariaLabel: label, placeholder, spellcheck: false, autocomplete: 'off' })];
  const fields = [field('gpus', 'GPUs', '4, or A100:4'), field('for', 'For', '4h'), field('hosts', 'Hosts', 'any'), field('at', 'At', 'now, or 14:00'), field('note', 'Note', '')];
  const wrong = make('p', { className: 'warn', role: 'alert' });
  const content = [make('p', { textContent: 'A reservation waits its turn like any run, and everyone sees until when it holds the GPUs. Stop it to end it early.' }), ...fields.map(([, label, input]) => make('label', { className: 'field' }, label, input)), wrong];
  while (await agreed('Reserve GPUs', content, 'Reserve')) {
    busy(true);
    try {
      const { run } = await post('/api/reservations', Object.fromEntries(fields.map(([name, , input]) => [name, input.value.trim()])));
      location.hash = '#/runs/' + encodeURIComponent(run);
      return;
    } catch (error) {
      wrong.textContent = [error.message, error.told?.hint].filter(Boolean).join(': ');
    } finally {
      busy(false);
    }
  }
}

// Another quota of a project: true once it is in the inventory. `busy(whether)` is told while the console is asked.
export async function share(project, busy) {
  const number = (label, value) => make('input', { type: 'number', min: 0, value: value ?? '', ariaLabel: label, placeholder: label === 'Limit' ? 'none' : '' });
  const quota = number('Quota', project.quota), limit = number('Limit', project.limit);
  const wrong = make('p', { className: 'warn', role: 'alert' });
  const content = [make('p', { textContent: 'GPUs that are its own, and the most that it may have with borrowed ones. Runs that were started before keep their quota.' }),
    make('label', { className: 'field' }, 'Quota', quota), make('label', { className: 'field' }, 'Limit', limit), wrong];
  while (await agreed('Quota of ' + project.name, content, 'Show change')) {
    if (quota.validity.badInput || limit.validity.badInput) {
      wrong.textContent = 'Whole numbers of GPUs; no limit for all that are free';
      continue;
    }
    const given = { quota: quota.valueAsNumber, limit: limit.value === '' ? null : limit.valueAsNumber };
    busy(true);
    try {
      const { diff, seen } = await post('/api/projects/' + encodeURIComponent(project.name), given);
      if (!diff) {
        wrong.textContent = 'It has this quota already';
        continue;
      }
      const shown = [diffOf('What changes', diff), make('p', { textContent: 'All who share these hosts need the same file.' })];
      if (!await agreed('Change the inventory?', shown, 'Write')) return false;
      await post('/api/projects/' + encodeURIComponent(project.name), { ...given, seen });
      return true;
    } catch (error) {
      wrong.textContent = [error.message, error.told?.hint].filter(Boolean).join(': ');
    } finally {
      busy(false);
    }
  }
  return false;
}

// Words as a shell reads them.
export function split(text) {
  const words = [];
  for (const match of text.matchAll(/(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|((?:[^\s"'\\]|\\.)+))+/g)) {
    words.push(match[0].replace(/"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)/g, (whole, double, single, one) => double?.replace(/\\(.)/g, '$1') ?? single ?? one));
  }
  return words;
}
export const joined = words => words.map(word => /^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\"'\"'") + "'").join(' ');

export async function rerun(run) {
  const own = run.job && !run.job.shell && run.job.run.length ? run.job.run.slice(1) : null;
  const words = make('input', { type: 'text', value: joined(own || []), ariaLabel: 'Arguments', spellcheck: false });
  const more = make('input', { type: 'checkbox' });
  const fields = [make('p', { textContent: 'The same code, job and hosts; secrets come from the environment of the console.' })];
  if (own) fields.push(make('label', { className: 'field' }, 'Arguments of ' + run.job.run[0], words));
  if (run.ended) fields.push(make('label', {}, more, ' from its checkpoints: it gets the outputs first'));
  if (!await agreed('Run ' + run.run + ' again', fields, 'Run')) return;
  const body = { from_checkpoint: more.checked };
  if (own && words.value !== joined(own)) body.arguments = split(words.value);
  const started = await tried(() => post(at(run.run) + '/rerun', body));
  if (started) location.hash = '#/runs/' + encodeURIComponent(started.run);
}
