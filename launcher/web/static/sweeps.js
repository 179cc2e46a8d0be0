// Sweeps: how far each is, and of one its trials, the best first, with the parameters as coordinates.
import { agreed, console_, post, tried } from './actions.js';
import { empty, get, lasted, make, repeated, runLink, status, table, when } from './dom.js';
import { number } from './plot.js';
import { keyed, update } from './update.js';

const EVERY = 3000, DRAWN = 400, SHOWN = 1000;
const link = name => '#/sweeps/' + encodeURIComponent(name);
const counts = one => ([one.succeeded && one.succeeded + ' done', one.running && one.running + ' running', one.failed && one.failed + ' failed', one.stopped && one.stopped + ' stopped', one.pruned && one.pruned + ' pruned'].filter(Boolean).join(', ') || 'none') + ' of ' + one.trials;

export function sweepsPage(main) {
  document.title = 'sweeps · launcher';
  const polled = repeated(look);
  async function look() {
    const { sweeps } = await get('/api/sweeps');
    if (polled.closed) return 0;
    const rows = sweeps.map(one => one.problem ? [one.sweep, one.problem, '', ''] : [make('a', { href: link(one.sweep), textContent: one.sweep }), counts(one), number(one.best), when(one.created)]);
    update(main, make('h1', { textContent: 'Sweeps' }), rows.length ? table('Sweeps', ['sweep', 'trials', 'best', 'started'], rows, sweeps.map(one => one.sweep))
      : empty('No sweeps yet. Start one in a terminal: ', make('code', { textContent: "launcher sweep train.py --lr '[0.1, 0.01]'" })));
    return sweeps.some(one => one.is_running) ? EVERY : 0;
  }
  return { load: polled.now, changed: polled.now, close: polled.close, query: () => ({}) };
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Where values lie between 0 (below) and 1, and the words at both ends: numbers by size, words in turn.
export function axis(values) {
  const numbers = values.map(Number), ordered = [...new Set(values)];
  if (values.some(value => String(value).trim() === '' || Number.isNaN(Number(value)))) {
    return { place: value => ordered.length > 1 ? ordered.indexOf(value) / (ordered.length - 1) : 0.5, ends: [ordered[0], ordered[ordered.length - 1]] };
  }
  const least = Math.min(...numbers), most = Math.max(...numbers), logs = least > 0 && most / least >= 50;
  const scale = logs ? Math.log : value => value, span = scale(most) - scale(least);
  return { place: value => span ? (scale(Number(value)) - scale(least)) / span : 0.5, ends: [number(least), number(most)] };
}

function coordinates(trials, parameters, goal) {
  const valued = trials.filter(trial => trial.value !== null).slice(0, DRAWN);
  const names = [...parameters, 'value'];
  if (valued.length < 2) return null;
  const width = Math.max(320, names.length * 150), height = 240, top = 34, bottom = 24;
  const of = (trial, name) => name === 'value' ? trial.value : trial.params[name] ?? '';
  const axes = names.map(name => axis(valued.map(trial => of(trial, name))));
  const x = index => 50 + index * (width - 100) / Math.max(1, names.length - 1), y = share => height - bottom - share * (height - top - bottom);
  const lines = valued.map((trial, rank) => {
    const points = names.map((name, index) => x(index) + ',' + y(axes[index].place(of(trial, name)))).join(' ');
    const line = svg('polyline', { points, class: rank === 0 ? 'best' : 'line', 'stroke-opacity': rank === 0 ? 1 : (0.75 - 0.6 * rank / valued.length).toFixed(2) });
    line.append(svg('title', {}, trial.run + ': ' + number(trial.value)));
    return line;
  }).reverse();
  const marks = names.flatMap((name, index) => [
    svg('line', { x1: x(index), x2: x(index), y1: top, y2: height - bottom, class: 'axis' }),
    svg('text', { x: x(index), y: 14, class: 'name' }, name), svg('text', { x: x(index), y: top - 6 }, String(axes[index].ends[1])),
    svg('text', { x: x(index), y: height - 8 }, String(axes[index].ends[0])),
  ]);
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'coordinates', role: 'img', 'aria-label': `${valued.length} trials over ${parameters.join(', ')}; best ${number(valued[0].value)} (${goal})` }, ...lines, ...marks);
  picture.style.minWidth = width * 0.8 + 'px';
  picture.style.maxWidth = width * 1.2 + 'px';
  return make('div', { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: 'Parallel coordinates' }, picture);
}

export function sweepPage(main, name) {
  document.title = name + ' · launcher';
  const polled = repeated(look);
  const stop = make('button', { textContent: 'Stop', hidden: true }), comparing = make('a', { className: 'button', textContent: 'Compare the best', hidden: true });
  const stands = make('p', { className: 'stands', role: 'status' });
  const head = make('div', { className: 'top' }, make('div', {}, make('h1', { textContent: name }), stands), make('div', { className: 'actions' }, comparing, stop));
  stop.addEventListener('click', async () => {
    if (await agreed('Stop ' + name + '?', [make('p', { textContent: 'Trials that run are stopped, and no other one starts.' })], 'Stop', 'bad')) {
      await tried(() => post('/api/sweeps/' + encodeURIComponent(name) + '/stop', {}));
    }
  });
  async function look() {
    const one = await get('/api/sweeps/' + encodeURIComponent(name));
    if (polled.closed) return 0;
    stop.hidden = console_.read_only || !(one.is_running || one.running);
    const best = one.ranked.filter(trial => trial.run && trial.value !== null).slice(0, 6).map(trial => encodeURIComponent(trial.run));
    comparing.hidden = best.length < 2;
    comparing.href = '#/compare/' + best.join(',');
    const rows = one.ranked.slice(0, SHOWN).map(trial => [trial.run ? make('a', { href: runLink(trial.run), textContent: trial.run }) : trial.id, status(trial.status), number(trial.value), ...one.parameters.map(parameter => trial.params[parameter] ?? ''), lasted(trial.seconds), trial.hosts.join(' ')]);
    const picture = coordinates(one.ranked, one.parameters, one.goal);
    update(stands, make('span', { textContent: counts(one) }), make('span', { className: 'dim', textContent: one.is_running ? 'running' : one.running ? 'nobody starts its trials: launcher sweep resume ' + name : '' }));
    update(main, head,
      one.best === null ? null : keyed('best', make('p', {}, 'Best so far (' + one.goal + '): ', make('strong', { textContent: number(one.best) }), '  ', make('a', { href: runLink(one.best_run), textContent: one.best_run }))),
      picture && keyed('picture', picture),
      rows.length ? keyed('trials', table('Trials', ['trial', 'status', 'value', ...one.parameters, 'took', 'hosts'], rows, one.ranked.map(trial => trial.id))) : empty('No trial has started yet.'));
    return one.is_running || one.running ? EVERY : 0;
  }
  return { load: polled.now, changed: polled.now, close: polled.close, query: () => ({}) };
}
