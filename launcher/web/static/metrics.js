// How busy the hosts and GPUs of one run are, live.
import { at, empty, get, make, repeated } from './dom.js';
import { colourOf, figures } from './plot.js';

const EVERY = 5000, FIGURES = 16, CURVES = 24, UNKNOWN = 64;
const HOW = { smooth: 0, log: false, time: true };

// Of many GPUs, those come first that do least: they are the ones to look at.
const least = (one, other) => (one.last?.[2] ?? 0) - (other.last?.[2] ?? 0);

export function metricsView(name) {
  const filter = make('input', { type: 'search', placeholder: 'Filter hosts and GPUs', ariaLabel: 'Filter hosts and GPUs' });
  const note = make('span', { className: 'dim', role: 'status' });
  const all = figures(FIGURES);
  const none = empty('Nothing was measured yet. Hosts begin 2 seconds after the first process of a run, and measure every 5 seconds.');
  const element = make('div', { className: 'stack' }, make('div', { className: 'tools' }, filter, note), none, all.element);
  let known = [], ended = false;
  const polled = repeated(look);
  filter.addEventListener('input', () => draw());

  function draw() {
    const fits = source => source.toLowerCase().includes(filter.value.toLowerCase().trim());
    const curves = new Map();
    let more = 0;
    for (const one of known) if (fits(one.source)) curves.set(one.tag, [...curves.get(one.tag) || [], one]);
    for (const [tag, series] of curves) {
      const shown = series.length > CURVES && tag.startsWith('GPU use') ? series.toSorted(least) : series;
      more = Math.max(more, series.length - CURVES);
      curves.set(tag, shown.slice(0, CURVES).map((one, index) => ({ ...one, name: one.source, colour: colourOf(index) })));
    }
    none.hidden = known.length > 0;
    note.textContent = more > 0 ? `${CURVES} of ${CURVES + more} shown: filter them` : '';
    all.show(curves, HOW);
  }
  async function look() {
    const last = ended; // what a run writes at its end may come after this look
    const names = new Set((await get(at(name) + '/metrics?points=0')).scalars.map(one => one.tag));
    const asked = new URLSearchParams([...names].slice(0, UNKNOWN).map(tag => ['tag', tag]));
    const found = await get(at(name) + '/metrics?points=400&' + asked);
    if (polled.closed) return 0;
    known = found.scalars.filter(one => one.values);
    draw();
    return !found.whole ? 100 : last ? 0 : EVERY;
  }
  return { element, async changed(run) { ended = run.ended; await polled.now(); }, close() { polled.close(); all.close(); } };
}
