// Pages change in place: an element that stays keeps the focus, what is selected in it, and how far it is scrolled.

export function keyed(key, element) {
  element.dataset.key = key;
  return element;
}

const keyOf = node => node.dataset?.key ?? '';

// Whether an element may become the one that is wanted: an element with a key only that with the same.
const fits = (have, want) => have.nodeName === want.nodeName && keyOf(have) === keyOf(want);

function become(have, want) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.data !== want.data) have.data = want.data;
    return;
  }
  for (const { name } of [...have.attributes]) if (!want.hasAttribute(name) && !['style', 'open'].includes(name)) have.removeAttribute(name);
  for (const { name, value } of want.attributes) if (name !== 'style' && have.getAttribute(name) !== value) have.setAttribute(name, value);
  if (have.style && have.style.cssText !== want.style.cssText) have.style.cssText = want.style.cssText;
  if (have.type === 'checkbox') have.checked = want.checked;
  settle(have, [...want.childNodes]);
}

function settle(place, wanted) {
  const rest = new Set(place.childNodes);
  for (const one of wanted) rest.delete(one);
  const byKey = new Map([...rest].filter(keyOf).map(one => [keyOf(one), one]));
  const others = [...rest].filter(one => !keyOf(one));
  const next = wanted.map(one => {
    if (one.parentNode === place) return one;
    const index = others.findIndex(other => fits(other, one));
    const found = keyOf(one) ? byKey.get(keyOf(one)) : others[index];
    if (!found || !fits(found, one)) return one;
    if (keyOf(one)) byKey.delete(keyOf(one)); else others.splice(index, 1);
    rest.delete(found);
    become(found, one);
    return found;
  });
  for (const one of rest) one.remove();
  let at = place.firstChild;
  for (const one of next) {
    if (one === at) at = at.nextSibling;
    else place.insertBefore(one, at);
  }
}

// Gives an element these children. Those that are there already become like them: by `keyed`, or else by their
// order. Listeners of new ones are then lost: what listens is kept by its page, or is the same for a key.
export function update(place, ...wanted) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  settle(place, wanted.filter(one => one !== null && one !== undefined && one !== '').map(one => one instanceof Node ? one : document.createTextNode(one)));
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}
