// The output of a process, live.
import { bytes, make } from './dom.js';

const KEPT = 400000, TAIL = 65536;

export function logView(name, listen) {
  const choice = make('select', { ariaLabel: 'Output of' });
  const log = make('pre', { className: 'log', tabIndex: 0, ariaLabel: 'Output of the chosen process' });
  const note = make('span', { className: 'dim' });
  let decoder, text = '', offset = 0, listed = '';

  function begin() {
    decoder = new TextDecoder();
    text = '';
    const known = [...choice.options].find(option => option.value === choice.value);
    offset = Math.max(0, Number(known?.dataset.size || 0) - TAIL);
    note.textContent = offset ? 'the last ' + bytes(TAIL) + '; all of it: launcher logs ' + name : '';
    log.textContent = '';
    listen();
  }
  function add(piece) {
    if (piece.offset !== offset) decoder = new TextDecoder();
    const raw = Uint8Array.from(atob(piece.data), letter => letter.charCodeAt(0));
    offset = piece.offset + raw.length;
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    // Colours and other commands to a terminal are left out.
    text = (text + decoder.decode(raw, { stream: true })).slice(-KEPT);
    log.textContent = text.replace(/\x1b\[[0-9;:?]*[ -\/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]/g, '').replace(/[^\n]*\r(?!\n)/g, '').replace(/[\x00-\x08\x0b-\x1f\x7f]/g, '');
    if (below) log.scrollTop = log.scrollHeight;
  }
  function changed(run) {
    const names = run.logs.map(one => one.name).join('\n');
    if (names === listed) return;
    const before = choice.value;
    choice.replaceChildren(...run.logs.map(one => {
      const option = make('option', { value: one.name, textContent: one.name });
      option.dataset.size = one.size;
      return option;
    }));
    if (names.split('\n').includes(before)) choice.value = before;
    listed = names;
    if (choice.value !== before) begin();
  }
  choice.addEventListener('change', begin);
  return { element: make('div', { className: 'fill' }, make('div', { className: 'tools' }, choice, note), log), changed, add, query: () => ({ log: choice.value, offset }) };
}
