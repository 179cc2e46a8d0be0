// Which page is shown, and the stream that says what is new.
import { console_ } from './actions.js';
import { clusterPage } from './cluster.js';
import { comparePage } from './compare.js';
import { LATER, empty, get, make } from './dom.js';
import { newPage } from './new.js';
import { runPage } from './run.js';
import { runsPage } from './runs.js';
import { sweepPage, sweepsPage } from './sweeps.js';

const main = document.getElementById('main'), link = document.getElementById('link'), nav = document.getElementById('nav');
const PAGES = [['#/', 'Runs', runsPage], ['#/sweeps', 'Sweeps', sweepsPage], ['#/cluster', 'Cluster', clusterPage], ['#/new', 'New', newPage]];
let page = null; // what is shown: { load(), changed(news), query(), close() }
let stream = null;

async function guarded(mine, work) {
  try {
    await work();
  } catch (error) {
    if (page !== mine) return;
    main.replaceChildren(empty(error.status === 401 ? 'This page was closed. Run launcher console again and open its address.' : error.message, ...(error.told?.hint ? [make('br'), error.told.hint] : [])));
    if (!error.status) setTimeout(() => { if (page === mine && !document.hidden) guarded(mine, () => mine.load()); }, LATER);
  }
}

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden || !page) return;
  const shown = page, mine = stream = new EventSource('/api/events?' + new URLSearchParams(page.query()));
  mine.onopen = () => {
    const back = Boolean(link.textContent);
    link.textContent = '';
    if (back && stream === mine) guarded(shown, () => shown.load()); // what was asked for meanwhile got no answer
  };
  mine.onerror = () => { if (stream === mine) link.textContent = 'console not reachable'; };
  mine.addEventListener('runs', event => { if (stream === mine) guarded(shown, () => shown.changed(JSON.parse(event.data))); });
  mine.addEventListener('log', event => { if (stream === mine) shown.add?.(JSON.parse(event.data)); });
}

async function go() {
  page?.close();
  main.replaceChildren();
  const run = location.hash.match(/^#\/runs\/([^/]+)(?:\/(\w*))?$/);
  const sweep = location.hash.match(/^#\/sweeps\/([^/]+)$/);
  const several = location.hash.match(/^#\/compare\/(.+)$/);
  const [, , made] = PAGES.find(([hash]) => hash === location.hash) || PAGES[0];
  if (run) page = runPage(main, decodeURIComponent(run[1]), run[2] || '', listen);
  else if (several) page = comparePage(main, several[1].split(',').map(decodeURIComponent));
  else if (sweep) page = sweepPage(main, decodeURIComponent(sweep[1]));
  else page = made(main);
  for (const one of nav.querySelectorAll('a')) one.ariaCurrent = one.className !== 'brand' && (one.hash === location.hash || one.hash + 'runs/' === location.hash.slice(0, 7)) ? 'page' : null;
  listen();
  const mine = page;
  await guarded(mine, () => mine.load());
  main.focus();
}

async function start() {
  const code = location.hash.slice(1);
  if (code && !code.startsWith('/')) {
    history.replaceState(null, '', '/');
    await fetch('/session', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code }) });
  }
  if (!location.hash) history.replaceState(null, '', '#/');
  addEventListener('hashchange', go);
  document.addEventListener('visibilitychange', () => { listen(); if (!document.hidden && page) guarded(page, () => page.load()); });
  await get('/api/console').then(told => Object.assign(console_, told), () => {});
  const pages = PAGES.filter(([, , made]) => made !== newPage || !console_.read_only);
  nav.append(...pages.map(([href, textContent]) => make('a', { href, textContent })));
  await go();
}

start();
