// The scalars of one run, live.
import { at, empty, get, make, repeated } from './dom.js';
import { choices, colourOf, figures } from './plot.js';

const MOST = 40, EVERY = 2000;

export function grouped(scalars, fits) {
  const tags = new Map();
  for (const one of scalars) if (fits(one.tag)) tags.set(one.tag, [...tags.get(one.tag) || [], one]);
  return tags;
}

export async function curvesOf(run, tags) {
  const asked = new URLSearchParams(tags.map(tag => ['tag', tag]));
  return get(at(run) + '/scalars?' + asked);
}

export function scalarsView(name) {
  const note = make('span', { className: 'dim', role: 'status' });
  const all = figures(MOST), chosen = choices(() => draw());
  const none = empty('No scalars yet. Write some with TensorBoard below $LAUNCHER_OUTPUT_DIR, or print them: ', make('code', { textContent: 'step 10 loss=0.31' }));
  const element = make('div', { className: 'stack' }, chosen.element, note, none, all.element);
  let known = [], ended = false;
  const polled = repeated(look);
  chosen.element.append(note);

  function draw() {
    const tags = grouped(known, chosen.fits);
    none.hidden = known.length > 0;
    const curves = new Map([...tags].map(([tag, series]) => [tag, series.filter(one => one.values).map((one, index) => ({ ...one, name: one.source || 'outputs', colour: colourOf(index) }))]));
    for (const [tag, series] of curves) if (!series.length) curves.delete(tag);
    all.show(curves, chosen.how());
    if (tags.size > MOST) note.textContent = MOST + ' of ' + tags.size + ' shown: filter them';
  }
  async function look() {
    const last = ended; // what a run writes at its end may come after this look
    const names = (await curvesOf(name, [])).scalars;
    const tags = [...grouped(names, chosen.fits).keys()].slice(0, MOST);
    const found = await curvesOf(name, tags);
    if (polled.closed) return 0;
    known = found.scalars;
    note.textContent = found.whole ? '' : 'reading logs …';
    draw();
    return !found.whole ? 100 : last ? 0 : EVERY;
  }
  return { element, async changed(run) { ended = run.ended; await polled.now(); }, close() { polled.close(); all.close(); } };
}
