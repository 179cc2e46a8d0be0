// Curves by uPlot, which is loaded with the first of them.
import { make } from './dom.js';

const COLOURS = ['#2f7de1', '#e0662b', '#2a9d55', '#a45bd6', '#c99700', '#d64577', '#1f9fb0', '#8a8f98'];
const dark = matchMedia('(prefers-color-scheme: dark)');
let loaded = null;

export const colourOf = index => COLOURS[index % COLOURS.length];

export function load() {
  loaded ||= new Promise((done, failed) => {
    document.head.append(make('link', { rel: 'stylesheet', href: '/static/vendor/uPlot.min.css' }));
    document.head.append(make('script', { src: '/static/vendor/uPlot.iife.min.js', onload: () => done(globalThis.uPlot), onerror: failed }));
  });
  return loaded;
}

export function number(value) {
  if (value === null || value === undefined) return '';
  const size = Math.abs(value);
  return size && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

// An average that forgets, without the pull of its beginning.
export function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0, count = 0;
  return values.map(value => {
    sum = sum * weight + (1 - weight) * value;
    count = count * weight + (1 - weight);
    return sum / count;
  });
}

// One row of x for all curves, as uPlot wants it; where x comes twice in a curve, the later value stands.
export function aligned(series, { time, smooth }) {
  const begin = Math.min(...series.map(one => one.times.find(moment => moment > 0) ?? Infinity));
  const curves = series.map(one => {
    const values = smoothed(one.values, smooth);
    return new Map(values.map((value, index) => [time ? Math.max(0, one.times[index] - begin) : one.steps[index], value]));
  });
  const xs = [...new Set(curves.flatMap(curve => [...curve.keys()]))].sort((one, other) => one - other);
  return [xs, ...curves.map(curve => xs.map(x => curve.get(x) ?? null))];
}

// Seconds between the marks of an axis of time, so that whole minutes and hours are among them.
export const APART = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000];
const short = value => String(Number(value.toFixed(2)));
export function ticks(seconds) {
  return seconds < 120 ? short(seconds) + ' s' : seconds < 7200 ? short(seconds / 60) + ' min' : seconds < 172_800 ? short(seconds / 3600) + ' h' : short(seconds / 86_400) + ' d';
}

// A figure with the curves of one tag. show(series, how) draws: series have name, colour, steps, times,
// values; how has time, smooth and log.
export function figure(title) {
  const place = make('div', { className: 'plot', role: 'img' });
  const names = make('div', { className: 'legend' });
  const element = make('figure', {}, make('figcaption', { textContent: title }), place, names);
  let plot = null, drawn = '', latest = null;

  async function show(series, how) {
    latest = [series, how];
    const uPlot = await load();
    if (latest[0] !== series) return;
    const style = getComputedStyle(document.documentElement);
    const data = aligned(series, how);
    const kind = JSON.stringify([series.map(one => [one.name, one.colour]), how.log, how.time, dark.matches]);
    const last = series.map(one => one.name + ' ' + number(one.last?.[2]));
    place.ariaLabel = title + ': ' + last.join(', ');
    names.replaceChildren(...series.map((one, index) => {
      const swatch = make('i');
      swatch.style.background = one.colour;
      return make('span', { title: one.name }, swatch, make('span', { textContent: one.name }), make('b', { textContent: number(one.last?.[2]) }));
    }));
    if (plot && kind === drawn) {
      plot.setData(data);
      return;
    }
    plot?.destroy();
    drawn = kind;
    const axis = { stroke: style.getPropertyValue('--dim'), grid: { stroke: style.getPropertyValue('--line'), width: 1 }, ticks: { show: false }, font: '12px system-ui' };
    plot = new uPlot({
      width: place.clientWidth || 300, height: 200, legend: { show: false },
      cursor: { sync: { key: how.time ? 'time' : 'step' }, points: { size: 6 } },
      scales: { x: { time: false }, y: { distr: how.log ? 3 : 1 } },
      axes: [{ ...axis, ...how.time ? { incrs: APART } : {}, values: (self, all) => all.map(x => how.time ? ticks(x) : number(x)) }, { ...axis, size: 56, values: (self, all) => all.map(number) }],
      series: [{}, ...series.map(one => ({ label: one.name, stroke: one.colour, width: 1.5, spanGaps: true, points: { show: one.values.length < 2 } }))],
      hooks: { setCursor: [self => told(self, series)] },
    }, data, place);
  }
  function told(self, series) {
    const at = self.cursor.idx;
    [...names.children].forEach((one, index) => {
      const value = at === null || at === undefined ? series[index]?.last?.[2] : self.data[index + 1]?.[at];
      one.lastChild.textContent = number(value);
    });
  }
  const sized = new ResizeObserver(() => { if (plot && place.clientWidth) plot.setSize({ width: place.clientWidth, height: 200 }); });
  sized.observe(place);
  const themed = () => { if (latest) show([...latest[0]], latest[1]); };
  dark.addEventListener('change', themed);
  return { element, show, close() { dark.removeEventListener('change', themed); sized.disconnect(); plot?.destroy(); } };
}

// The choices that all figures of a page share.
export function choices(changed) {
  const smooth = make('input', { type: 'range', min: 0, max: 0.98, step: 0.02, value: 0, ariaLabel: 'Smoothing' });
  const log = make('input', { type: 'checkbox' });
  const axis = make('select', { ariaLabel: 'Over' }, make('option', { value: 'step', textContent: 'over steps' }), make('option', { value: 'time', textContent: 'over time' }));
  const filter = make('input', { type: 'search', placeholder: 'Filter scalars', ariaLabel: 'Filter scalars' });
  for (const one of [smooth, log, axis, filter]) one.addEventListener('input', () => changed());
  const element = make('div', { className: 'tools' }, filter, axis,
    make('label', {}, 'smoothing ', smooth), make('label', {}, log, ' log scale'));
  return {
    element,
    how: () => ({ smooth: Number(smooth.value), log: log.checked, time: axis.value === 'time' }),
    fits: tag => tag.toLowerCase().includes(filter.value.toLowerCase().trim()),
  };
}

// Figures by tag, made as they are needed and kept while they are.
export function figures(most) {
  const element = make('div', { className: 'figures' }), known = new Map();
  return {
    element,
    show(curves, how) { // a Map of tag to series
      const tags = [...curves.keys()].slice(0, most);
      for (const [tag, one] of known) if (!tags.includes(tag)) { one.close(); one.element.remove(); known.delete(tag); }
      tags.forEach((tag, index) => {
        if (!known.has(tag)) known.set(tag, figure(tag));
        const one = known.get(tag);
        if (element.children[index] !== one.element) element.insertBefore(one.element, element.children[index] || null);
        one.show(curves.get(tag), how);
      });
    },
    close() { for (const one of known.values()) one.close(); },
  };
}
