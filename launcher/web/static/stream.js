// The stream that says what is new, and what a page says while there is none.
import { console_ } from './actions.js';
import { ask, make } from './dom.js';

// Milliseconds until a console that is gone is looked for again, at first and at most, and for its answer.
const SOON = 250, MOST = 4000, PATIENCE = 5000, PORT = '8770';
// The console sends something every 2 s or so; a stream that is silent for so many milliseconds hangs.
const QUIET = 15_000;

const other = () => [(console_.version ? 'The console was restarted. ' : '') + 'Open the address that launcher console printed in this browser, and this page continues.'];
const SILENT = ['The console answers, but sends no news: reload this page.'];
function ended() {
  const command = 'launcher console' + (location.port === PORT ? '' : ' --port ' + location.port) + (console_.version && console_.read_only ? ' --read-only' : '');
  return ['launcher console has ended, or the SSH connection to it was lost. Start it again: ', make('code', { textContent: command })];
}

// `place` has the words; query() is what the stream is asked for, told(facts) gets those of the console, refused()
// says why the console took no code, lost() is called while it is gone, and a stream waits for back() before it
// goes on. The other functions get what comes by their names.
export function connection(place, { query, told, refused, lost, back, ...on }) {
  let stream = null, timer = null, pause = SOON, turn = 0;

  function close() {
    turn++;
    clearTimeout(timer);
    stream?.close();
    stream = null;
  }
  function say(words) {
    if (place.textContent !== make('p', {}, ...words).textContent) place.replaceChildren(...words);
  }
  // Looks for the console once the stream breaks or a page gets no answer: after a refusal no browser does.
  async function seek() {
    close();
    const mine = turn;
    let words = [], facts = null;
    pause = Math.min(MOST, 2 * pause);
    try {
      facts = await (await ask('/api/console', { signal: AbortSignal.timeout(PATIENCE) })).json();
      words = facts.full ? [facts.full] : pause === MOST ? SILENT : [];
    } catch (error) {
      words = error.status === 401 ? (refused() ? [refused()] : other()) : error.status ? [error.message] : ended();
      if (!error.status) lost();
    }
    if (turn !== mine) return;
    if (facts) told(facts);
    if (words.length) say(words);
    const reached = !words.length || words === SILENT;
    timer = setTimeout(reached ? again : seek, reached && pause === 2 * SOON ? 0 : pause);
  }
  async function again() {
    const mine = ++turn;
    await back(); // before logs go on: there may be far more of them than anybody reads
    if (turn === mine) open();
  }
  function open() {
    close();
    const mine = stream = new EventSource('/api/events?' + new URLSearchParams(query()));
    const heard = (work = () => {}) => event => {
      if (stream !== mine) return;
      clearTimeout(timer);
      timer = setTimeout(seek, QUIET);
      work(event);
    };
    heard()();
    mine.onopen = heard(() => { place.replaceChildren(); pause = SOON; });
    mine.onerror = () => { if (stream === mine) seek(); };
    mine.addEventListener('beat', heard());
    for (const [name, work] of Object.entries(on)) mine.addEventListener(name, heard(event => work(JSON.parse(event.data))));
  }
  return { open, close, seek, again };
}
