// Several runs beside each other.
import { empty, get, make, repeated, runLink, status, table } from './dom.js';
import { choices, colourOf, figures, number } from './plot.js';
import { curvesOf, grouped } from './scalars.js';
import { update } from './update.js';

const MOST = 40;

// --lr 0.1 -> ['--lr', '0.1']; a word that no option takes has its place as name.
const isOption = word => word.startsWith('-') && Number.isNaN(Number(word));
export function parameters(words) {
  const found = new Map();
  let place = 1;
  for (let index = 0; index < words.length; index++) {
    const word = words[index], [name, ...rest] = word.split('=');
    if (word.startsWith('-') && rest.length) found.set(name, rest.join('='));
    else if (isOption(word)) found.set(word, words[index + 1] !== undefined && !isOption(words[index + 1]) ? words[++index] : 'yes');
    else if (rest.length) found.set(name, rest.join('='));
    else found.set('argument ' + place++, word);
  }
  return found;
}

// For accuracies more is better, for losses and errors less.
export const lessIsBetter = tag => /loss|err|ppl|perplexity|nll|mae|mse|wer/i.test(tag);

export function comparePage(main, names) {
  const all = figures(MOST), chosen = choices(() => draw());
  const differences = make('div', { className: 'stack' }), values = make('div', { className: 'stack' }), head = make('ul', { className: 'runs' });
  let curves = new Map(), turn = 0, seen = 0; // an older answer may come after a newer one
  const polled = repeated(look);
  document.title = 'compare · launcher';

  const heads = runs => ['', ...runs.map((run, index) => swatched(run.run, index))];
  function swatched(name, index) {
    const swatch = make('i');
    swatch.style.background = colourOf(index);
    return make('span', { className: 'swatched' }, swatch, make('a', { href: runLink(name), textContent: name }));
  }
  // Of each run the curve of its lowest rank or first folder.
  function byTag() {
    const tags = new Map();
    names.forEach((name, index) => {
      for (const [tag, series] of grouped(curves.get(name) || [], chosen.fits)) {
        tags.set(tag, [...tags.get(tag) || [], { ...series[0], name, colour: colourOf(index) }]);
      }
    });
    return tags;
  }
  function draw() {
    const tags = byTag();
    const drawn = new Map([...tags].map(([tag, series]) => [tag, series.filter(one => one.values)]).filter(([, series]) => series.length));
    all.show(drawn, chosen.how());
    const rows = [...tags].slice(0, MOST).map(([tag, series]) => {
      const best = one => lessIsBetter(tag) ? one.least : one.most;
      const top = lessIsBetter(tag) ? Math.min(...series.map(best)) : Math.max(...series.map(best));
      return [tag, ...names.map(name => {
        const one = series.find(each => each.name === name);
        return one ? make(best(one) === top && series.length > 1 ? 'strong' : 'span', { textContent: number(best(one)), title: best(one) === top ? 'best of these runs' : '' }) : '';
      })];
    });
    const runs = names.map(run => ({ run }));
    update(values, ...(rows.length ? [make('h2', { textContent: 'Best values' }), table('Best values', heads(runs), rows, rows.map(([tag]) => tag))] : [empty('These runs have no scalars yet.')]));
  }
  async function look() {
    const lists = await Promise.all(names.map(name => curvesOf(name, [])));
    const tags = [...new Set(lists.flatMap(list => list.scalars.map(one => one.tag)))].filter(chosen.fits).slice(0, MOST);
    const found = await Promise.all(names.map(name => curvesOf(name, tags)));
    if (polled.closed) return 0;
    curves = new Map(names.map((name, index) => [name, found[index].scalars]));
    draw();
    return found.every(one => one.whole) ? 5000 : 100;
  }
  async function load() {
    const mine = ++turn;
    const told = await get('/api/compare?' + new URLSearchParams(names.map(name => ['run', name])));
    if (mine < seen) return;
    seen = mine;
    const given = told.runs.map(run => parameters(run.arguments));
    const options = [...new Set(given.flatMap(one => [...one.keys()]))].filter(name => new Set(given.map(one => one.get(name))).size > 1);
    update(head, ...told.runs.map((run, index) => make('li', {}, swatched(run.run, index), status(run.status), make('code', { textContent: run.command }))));
    const shown = [];
    if (options.length) shown.push(make('h2', { textContent: 'Parameters' }), table('Parameters', heads(told.runs), options.map(name => [name, ...given.map(one => one.get(name) ?? '')])));
    for (const other of told.differences) {
      const rows = other.differences.filter(one => one.what !== 'arguments').map(one => [one.what, one.before, one.after]);
      const title = other.run + ' against ' + names[0];
      if (rows.length) shown.push(make('h2', { textContent: title }), table(title, ['', names[0], other.run], rows));
    }
    update(differences, ...shown);
    if (!main.contains(head)) main.replaceChildren(make('h1', { textContent: 'Compare' }), head, chosen.element, all.element, values, differences);
    await polled.now();
  }
  return { load, async changed({ runs }) { if (runs.some(run => names.includes(run.run) && run.ended)) await load(); }, close() { polled.close(); all.close(); }, query: () => ({}) };
}
