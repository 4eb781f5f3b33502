// A text drawn once for each model, its words coloured by what they count, and a menu at the word that is clicked.
//
// Nodes stay for as long as there are as many lines and words; new data only change what is written on them. All that
// comes from a person's text goes through textContent and attributes, never through HTML.

const SIGN_FROM = 0.1; // a share that is underlined
const EDGE = 8; // pixels between the menu and the window's edge
const texts = new WeakMap();

const element = (name, className, children = []) => {
  const made = Object.assign(document.createElement(name), { className });
  made.append(...children);
  return made;
};

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fitChildren(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make());
}

/** Control characters get their pictures, as they would have neither width nor look. */
const shown = (word) =>
  word.replace(/[\0-\x1f\x7f]/g, (sign) => String.fromCharCode(sign === "\x7f" ? 0x2421 : 0x2400 + sign.charCodeAt(0)));

function percent(score) {
  if (score === null) return "not read";
  const whole = Math.round(100 * Math.abs(score));
  return `${whole === 0 ? "" : score > 0 ? "+" : "−"}${whole} %`;
}

function look(word, score, marked) {
  const looks = ["words-word"];
  if (score === null) looks.push("words-unread");
  else if (score !== 0) looks.push(score > 0 ? "words-for" : "words-against");
  if (Math.abs(score) >= SIGN_FROM) looks.push("words-signed");
  if (marked) looks.push("words-marked");
  if (/[\u202a-\u202e\u2066-\u2069]/.test(word)) looks.push("words-contained"); // its direction is not its neighbours'
  return looks.join(" ");
}

/** Heading, text, and how many words are left out. */
function makeLine() {
  const text = Object.assign(document.createElement("p"), { dir: "auto" });
  const head = element("div", "words-head", [element("i", ""), element("b", ""), element("small", "")]);
  return element("section", "words-line", [head, text, element("small", "words-more")]);
}

function drawLine(section, line, data) {
  const [head, text, more] = section.children;
  const [square, name, note] = head.children;
  square.style.background = line.colour;
  write(name, line.name);
  write(note, line.note);
  fitWords(text, data.words.length);
  data.words.forEach((word, place) => {
    const node = text.children[place];
    const score = line.scores[place];
    const marked = data.marked.includes(place);
    const gap = place === 0 ? "" : data.gaps[place];
    if (node.previousSibling.data !== gap) node.previousSibling.data = gap;
    write(node, shown(word));
    node.className = look(word, score, marked);
    node.style.setProperty("--words-share", Math.abs(score ?? 0));
    node.title = `${shown(word)}: ${percent(score)}${marked ? " · the models disagree" : ""}`;
    node.setAttribute("aria-label", spoken(data, place));
  });
  more.hidden = !data.more;
  write(more, `… and ${data.more.toLocaleString("en")} more ${data.more === 1 ? "word" : "words"}`);
}

/** A text node for the gap before each word, then the word. */
function fitWords(text, count) {
  while (text.children.length > count) {
    text.lastChild.remove();
    text.lastChild.remove();
  }
  while (text.children.length < count) {
    const word = element("span", "words-word");
    word.setAttribute("role", "button");
    word.setAttribute("aria-haspopup", "dialog");
    word.dataset.place = text.children.length;
    word.tabIndex = -1;
    text.append(document.createTextNode(""), word);
  }
}

function spoken({ words, lines, marked }, place) {
  const said = lines.map(({ name, scores }) => `${name} ${percent(scores[place])}`);
  if (marked.includes(place)) said.push("the models disagree");
  return `${shown(words[place])}: ${said.join(", ")}`;
}

/** The lines of a frame and their menu; there is one as long as the frame is on the page. */
function open(frame) {
  const lines = frame.querySelector(".words-lines");
  const stopping = new AbortController();
  const menu = makeMenu(frame.querySelector(".words-menu"), stopping.signal);
  let [data, stop] = [null, 0];

  function update(component) {
    data = component.data;
    frame.setAttribute("aria-label", data.label);
    const focused = lines.contains(document.activeElement);
    fitChildren(lines, data.lines.length, makeLine);
    data.lines.forEach((line, number) => drawLine(lines.children[number], line, data));
    frame.querySelector("[data-legend]").hidden = !data.lines.some(({ scores }) => scores.includes(null));
    moveStop(Math.min(stop, data.words.length - 1));
    if (focused && !lines.contains(document.activeElement)) firstLine()[stop]?.focus({ preventScroll: true });
    menu.update(data, component.setTriggerValue);
  }

  const firstLine = () => lines.firstElementChild?.querySelector("p").children ?? [];

  /** Of all words one is reached with Tab, the others from there with the arrows. */
  function moveStop(place) {
    if (firstLine()[stop]) firstLine()[stop].tabIndex = -1;
    stop = Math.max(place, 0);
    if (firstLine()[stop]) firstLine()[stop].tabIndex = 0;
  }

  const wordOf = ({ target }) => target.closest("p .words-word");

  function listen(event, action) {
    lines.addEventListener(event, action, { signal: stopping.signal });
  }
  listen("pointerdown", (event) => menu.press(wordOf(event)));
  listen("click", (event) => {
    const word = wordOf(event);
    if (word) menu.open(word);
  });
  listen("focusin", (event) => {
    const word = wordOf(event);
    if (word) moveStop(Number(word.dataset.place));
  });
  listen("keydown", (event) => {
    const word = wordOf(event);
    if (!word || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" || event.key === " ") {
      menu.press(null);
      menu.open(word);
    } else {
      const next = neighbour(word, event.key);
      if (!next) return;
      next.focus();
    }
    event.preventDefault();
  });

  function close() {
    stopping.abort();
    texts.delete(frame);
  }
  return { update, close };
}

function neighbour(word, key) {
  const reads = getComputedStyle(word.parentElement).direction === "rtl" ? -1 : 1;
  const all = word.parentElement.children;
  const place = Number(word.dataset.place);
  const steps = { ArrowRight: reads, ArrowLeft: -reads, ArrowDown: 1, ArrowUp: -1 };
  if (key === "Home") return all[0];
  if (key === "End") return all[all.length - 1];
  return key in steps ? all[place + steps[key]] : null;
}

/** The menu: a popover, so that no container cuts it off, and a click outside or Escape closes it. */
function makeMenu(menu, signal) {
  const input = menu.querySelector("input");
  let [data, trigger, word, pressed] = [null, null, null, null];
  const isOpen = () => menu.matches(":popover-open");
  const placeOf = () => Number(word.dataset.place);

  function update(newData, setTriggerValue) {
    const before = word && data.words[placeOf()];
    [data, trigger] = [newData, setTriggerValue];
    input.maxLength = data.longest;
    if (!isOpen()) return;
    if (!word.isConnected || data.words[placeOf()] !== before) menu.hidePopover();
    else fill();
  }

  /** A press on the word of the open menu closes it; the click that follows must not open it again. */
  function press(on) {
    pressed = isOpen() && on === word ? on : null;
  }

  function show(on) {
    if (on === pressed) return;
    if (isOpen()) menu.hidePopover();
    word = on;
    input.value = "";
    fill();
    menu.showPopover();
    put();
    word.setAttribute("aria-expanded", "true");
    menu.querySelector("button").focus({ preventScroll: true });
  }

  function fill() {
    const place = placeOf();
    write(menu.querySelector(".words-menu-word"), shown(data.words[place]));
    menu.setAttribute("aria-label", `Change the word ${shown(data.words[place])}`);
    const list = menu.querySelector("dl");
    fitChildren(list, 2 * data.lines.length, () => document.createElement(list.children.length % 2 ? "dd" : "dt"));
    data.lines.forEach(({ name, scores }, number) => {
      write(list.children[2 * number], name);
      write(list.children[2 * number + 1], percent(scores[place]));
    });
  }

  /** Under the word, or above where there is more room; always within the window. */
  function put() {
    if (!isOpen()) return;
    const seen = window.visualViewport ?? { width: innerWidth, height: innerHeight, offsetLeft: 0, offsetTop: 0 };
    const at = word.getClientRects()[0] ?? word.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const under = at.bottom + 6;
    const fits = under + height <= seen.offsetTop + seen.height - EDGE || at.top < height + 6 + EDGE;
    const within = (value, from, size, own) => Math.max(from + EDGE, Math.min(value, from + size - own - EDGE));
    menu.style.left = `${within(at.left, seen.offsetLeft, seen.width, width)}px`;
    menu.style.top = `${within(fits ? under : at.top - height - 6, seen.offsetTop, seen.height, height)}px`;
  }

  function choose(what) {
    const replacement = what === "replace" ? input.value.trim() : "";
    if (what === "replace" && !replacement) return input.focus();
    const place = placeOf();
    menu.hidePopover();
    word.focus({ preventScroll: true });
    trigger("edit", { what, place, word: replacement, was: data.words[place] });
  }

  function listen(target, event, action, more = {}) {
    target.addEventListener(event, action, { signal, ...more });
  }
  listen(menu, "click", ({ target }) => {
    const button = target.closest("button[type=button]");
    if (button) choose(button.dataset.edit);
  });
  listen(menu.querySelector("form"), "submit", (event) => {
    event.preventDefault();
    choose("replace");
  });
  listen(menu, "beforetoggle", ({ newState }) => {
    if (newState === "closed") word?.removeAttribute("aria-expanded");
  });
  listen(menu, "keydown", (event) => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    menu.hidePopover();
    word.focus({ preventScroll: true });
  });
  listen(menu, "focusout", ({ relatedTarget }) => {
    if (relatedTarget && !menu.contains(relatedTarget) && isOpen()) menu.hidePopover();
  });
  listen(window, "scroll", put, { capture: true, passive: true });
  listen(window, "resize", put);
  if (window.visualViewport) listen(window.visualViewport, "resize", put);
  return { update, press, open: show };
}

export default function (component) {
  const frame = component.parentElement.querySelector(".words");
  if (!texts.has(frame)) texts.set(frame, open(frame));
  texts.get(frame).update(component);
  return () => texts.get(frame)?.close(); // called once, when the component leaves the page
}
