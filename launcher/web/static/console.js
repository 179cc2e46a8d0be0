// Which page is shown, and the stream that says what is new.
import { console_, post, tell } from './actions.js';
import { clusterPage } from './cluster.js';
import { comparePage } from './compare.js';
import { empty, get, make } from './dom.js';
import { newPage } from './new.js';
import { runPage } from './run.js';
import { runsPage } from './runs.js';
import { connection } from './stream.js';
import { sweepPage, sweepsPage } from './sweeps.js';

const nav = document.getElementById('nav');
const PAGES = [['#/', 'Runs', runsPage], ['#/sweeps', 'Sweeps', sweepsPage], ['#/cluster', 'Cluster', clusterPage], ['#/new', 'New', newPage]];
let main = document.getElementById('main'); // each page has its own: what comes late to one that was left is not seen
let page = null; // what is shown: { load(), changed(news), query(), close() }
let refused = ''; // what the console said of a code that it did not take, as long as this page has no cookie

// A page keeps what it shows while the console is gone.
async function guarded(mine, work) {
  try {
    await work();
  } catch (error) {
    if (page !== mine) return;
    if (error.gone || error.status === 401) {
      if (!main.childElementCount) main.replaceChildren(empty('This page waits for launcher console.'));
      if (!document.hidden) stream.seek();
      return;
    }
    main.replaceChildren(empty(error.message, ...(error.told?.hint ? [make('br'), error.told.hint] : [])));
    if (!error.status) throw error; // a mistake of ours
  }
}

const stream = connection(document.getElementById('link'), {
  query: () => page.query(),
  told: know,
  refused: () => refused,
  lost: () => { refused = ''; }, // the next console has another code
  back: async () => { const shown = page; await guarded(shown, () => shown.load()); },
  runs: news => { const shown = page; guarded(shown, () => shown.changed(news)); },
  log: piece => page.add?.(piece),
});

function listen() {
  if (document.hidden || !page) stream.close();
  else stream.open();
}

function know(facts) {
  refused = '';
  if (console_.version && console_.version !== facts.version) tell('This page is of launcher ' + console_.version + ', the console now of ' + facts.version + ': reload the page.');
  Object.assign(console_, facts);
  const pages = PAGES.filter(([, , made]) => made !== newPage || !console_.read_only);
  if (nav.childElementCount !== pages.length + 1) {
    nav.replaceChildren(nav.firstElementChild, ...pages.map(([href, textContent]) => make('a', { href, textContent })));
    mark();
  }
}

function mark() {
  for (const one of nav.querySelectorAll('a')) one.ariaCurrent = one.className !== 'brand' && (one.hash === location.hash || one.hash + 'runs/' === location.hash.slice(0, 7)) ? 'page' : null;
}

async function go() {
  page?.close();
  const place = main.cloneNode(false);
  main.replaceWith(place);
  main = place;
  const focused = document.activeElement;
  const run = location.hash.match(/^#\/runs\/([^/]+)(?:\/(\w*))?$/);
  const sweep = location.hash.match(/^#\/sweeps\/([^/]+)$/);
  const several = location.hash.match(/^#\/compare\/(.+)$/);
  const [, , made] = PAGES.find(([hash]) => hash === location.hash) || PAGES[0];
  if (run) page = runPage(main, decodeURIComponent(run[1]), run[2] || '', listen);
  else if (several) page = comparePage(main, several[1].split(',').map(decodeURIComponent));
  else if (sweep) page = sweepPage(main, decodeURIComponent(sweep[1]));
  else page = made(main);
  mark();
  listen();
  const mine = page;
  await guarded(mine, () => mine.load());
  if (page === mine && document.activeElement === focused) main.focus(); // nobody moved it meanwhile
}

// An address with a code opens the console, also in a page that is open: that page then goes on.
async function enter(shown) {
  const code = location.hash.slice(1);
  if (code && !code.startsWith('/')) {
    history.replaceState(null, '', shown);
    refused = await post('/session', { code }).then(() => '', error => error.status === 401 ? error.message : '');
    return true;
  }
  return false;
}

const greet = () => get('/api/console').then(know, () => {});

async function start() {
  await enter('/');
  if (!location.hash) history.replaceState(null, '', '#/');
  addEventListener('hashchange', async event => {
    if (!await enter(event.oldURL)) return go();
    await greet();
    if (page) stream.again();
  });
  document.addEventListener('visibilitychange', () => { if (document.hidden) stream.close(); else if (page) stream.again(); });
  await greet();
  await go();
}

start();
