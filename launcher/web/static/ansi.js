// Text for a terminal as text with colours: nothing of it can move, name a link or become markup.
import { make } from './dom.js';

// Sequences of all kinds; of these only colours and weights (SGR) are kept.
const SEQUENCE = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -\/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -\/]*[0-~]|\x9b[0-?]*[ -\/]*[@-~]/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

export const plain = text => text.replace(SEQUENCE, '').replace(CONTROLS, '');

const STYLE = { 1: ['bold', true], 2: ['faint', true], 3: ['italic', true], 4: ['underline', true], 7: ['inverse', true], 22: ['bold', false], 23: ['italic', false], 24: ['underline', false], 27: ['inverse', false] };

function colour256(number) {
  if (number < 16) return number;
  if (number > 231) { const grey = (number - 232) * 10 + 8; return `rgb(${grey},${grey},${grey})`; }
  const level = part => part ? part * 40 + 55 : 0, cube = number - 16;
  return `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`;
}

// How the text after a sequence looks; how is not changed.
export function sgr(how, codes) {
  const numbers = codes.split(/[;:]/).map(Number);
  let now = { ...how };
  for (let index = 0; index < numbers.length; index++) {
    const code = numbers[index];
    if (code === 0) now = {};
    else if (STYLE[code]) {
      now[STYLE[code][0]] = STYLE[code][1];
      if (code === 22) now.faint = false;
    } else if (code === 38 || code === 48) {
      const side = code === 38 ? 'fore' : 'back';
      if (numbers[index + 1] === 5 && numbers.length > index + 2) { now[side] = colour256(numbers[index + 2] & 255); index += 2; }
      else if (numbers[index + 1] === 2) { now[side] = `rgb(${numbers.slice(index + 2, index + 5).map(part => part & 255).join(',')})`; index += 4; }
    } else if (code === 39) delete now.fore;
    else if (code === 49) delete now.back;
    else if (code >= 30 && code <= 37) now.fore = code - 30;
    else if (code >= 90 && code <= 97) now.fore = code - 82;
    else if (code >= 40 && code <= 47) now.back = code - 40;
    else if (code >= 100 && code <= 107) now.back = code - 92;
  }
  return now;
}

function piece(text, how) {
  const names = ['bold', 'faint', 'italic', 'underline', 'inverse'].filter(name => how[name]);
  if (!names.length && how.fore === undefined && how.back === undefined) return text;
  if (typeof how.fore === 'number') names.push('f' + how.fore);
  if (typeof how.back === 'number') names.push('b' + how.back);
  const element = make('span', { className: names.join(' '), textContent: text });
  if (typeof how.fore === 'string') element.style.color = how.fore;
  if (typeof how.back === 'string') element.style.backgroundColor = how.back;
  return element;
}

// The parts of a line, and how the next line begins.
export function coloured(line, how) {
  const parts = [];
  let last = 0;
  const add = text => { const clean = text.replace(CONTROLS, ''); if (clean) parts.push(piece(clean, how)); };
  for (const match of line.matchAll(SEQUENCE)) {
    add(line.slice(last, match.index));
    if (match[1] !== undefined) how = sgr(how, match[1]);
    last = match.index + match[0].length;
  }
  add(line.slice(last));
  return { parts, how };
}
