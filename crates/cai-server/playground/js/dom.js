// Elements from code. Strings become text nodes, never markup: whatever a person or a model wrote is
// shown as it is.

export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// Speaks to screen readers without moving the focus.
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

let count = 0;

// An id that no other element has, for labels.
export function freshId(stem) {
  count += 1;
  return `${stem}-${count}`;
}

// `dangerous_advice` for readers.
export function words(name) {
  return name.replaceAll("_", " ");
}

// `1 choice`, `2 choices`.
export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
