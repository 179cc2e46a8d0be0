// A look into one file of a run. Hosts wrote it: it becomes text, a table or a picture, never markup.
import { ask, bytes, make, table } from './dom.js';

const TEXT = 200_000, PICTURE = 8_000_000, ROWS = 100, COLUMNS = 30, CELL = 200;
const PICTURES = { png: 'image/png', jpg: 'image/jpeg', jpeg: 'image/jpeg', gif: 'image/gif', webp: 'image/webp', bmp: 'image/bmp' };
const TEXTS = ['txt', 'log', 'out', 'err', 'json', 'jsonl', 'ipynb', 'yaml', 'yml', 'csv', 'tsv', 'md', 'rst', 'py', 'sh', 'toml', 'ini', 'cfg', 'xml', 'html', 'svg', 'diff', 'patch'];
const CHECKPOINTS = ['pt', 'pth', 'ckpt', 'safetensors', 'h5', 'keras', 'bin', 'distcp'];

const kindOf = name => name.includes('.') ? name.split('.').pop().toLowerCase() : '';
export const isCheckpoint = name => CHECKPOINTS.includes(kindOf(name));
export const canPreview = ({ name, size }) => kindOf(name) in PICTURES ? size <= PICTURE : TEXTS.includes(kindOf(name));

async function beginning(href, most) {
  const stop = new AbortController(), answer = await ask(href, { signal: stop.signal });
  const pieces = [], reader = answer.body.getReader();
  let length = 0;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    length += piece.value.length;
    if (length > most) { stop.abort(); break; }
  }
  return new Blob(pieces).slice(0, most);
}

function dataOf(blob) {
  return new Promise((done, failed) => {
    const reader = Object.assign(new FileReader(), { onload: () => done(reader.result), onerror: () => failed(reader.error) });
    reader.readAsDataURL(blob);
  });
}

const words = textContent => make('pre', { className: 'preview', tabIndex: 0, ariaLabel: 'Preview', textContent });

// Fields of a line as RFC 4180 has them; a quoted one may not go on in the next line here.
function fields(line, separator) {
  const found = [];
  for (let rest = line + separator; rest;) {
    const quoted = rest.startsWith('"') && rest.match(/^"((?:[^"]|"")*)"/);
    const value = quoted ? quoted[1].replaceAll('""', '"') : rest.slice(0, rest.indexOf(separator));
    found.push(value.slice(0, CELL));
    rest = rest.slice(rest.indexOf(separator, quoted ? quoted[0].length : 0) + 1);
  }
  return found;
}

function grid(text, separator) {
  const lines = text.split(/\r?\n/).filter(line => line).slice(0, ROWS + 1).map(line => fields(line, separator).slice(0, COLUMNS));
  return lines.length ? table('Preview', lines[0], lines.slice(1)) : words('');
}

const joined = text => Array.isArray(text) ? text.join('') : String(text ?? '');

function notebook(text) {
  const told = [];
  for (const cell of JSON.parse(text).cells) {
    told.push(joined(cell.source));
    for (const output of cell.outputs || []) told.push(joined(output.text ?? output.data?.['text/plain'] ?? output.traceback));
  }
  return words(told.filter(part => part).join('\n\n'));
}

const SHAPES = {
  csv: text => grid(text, ','),
  tsv: text => grid(text, '\t'),
  json: text => words(JSON.stringify(JSON.parse(text), null, 2)),
  ipynb: notebook,
};

export async function preview(href, { name, size }) {
  const kind = kindOf(name);
  if (kind in PICTURES) {
    const blob = await beginning(href, PICTURE);
    return make('img', { className: 'preview', alt: name, src: await dataOf(new Blob([blob], { type: PICTURES[kind] })) });
  }
  const text = await (await beginning(href, TEXT)).text();
  const rest = size > TEXT ? make('p', { className: 'dim', textContent: `The first ${bytes(TEXT)} of ${bytes(size)}.` }) : null;
  let shown = null;
  try {
    shown = (rest && kind !== 'csv' && kind !== 'tsv' ? words : SHAPES[kind] || words)(text);
  } catch {
    shown = words(text); // it is not what its name says
  }
  return make('div', {}, rest, shown);
}
