// A text box that tells its text to the script once the keys have rested.
//
// The script's own text is taken only with a version that the box has not taken yet. So an answer that comes late, to
// the text of a moment ago, never touches what a person types, nor the cursor.

const REST_MS = 150;
const COUNT_FROM = 0.9; // of the longest text
// Android's keyboards compose every word of every language; there a composition is typing like any other.
const ALWAYS_COMPOSES = /Android/.test(navigator.userAgent);
const boxes = new WeakMap();

let opened = 0;

/** The box of a frame; there is one as long as the frame is on the page. */
function open(frame) {
  const find = (selector) => frame.querySelector(selector);
  const box = find("textarea");
  const label = find("label");
  const stopping = new AbortController();
  let [version, known, timer, tell, pasting] = [null, "", null, null, false];
  label.htmlFor = box.id = `typed-text-${++opened}`;

  const rest = () => clearTimeout(timer);
  const later = () => {
    rest();
    timer = setTimeout(now, REST_MS);
  };

  function now() {
    rest();
    if (box.value === known) return;
    known = box.value;
    tell("text", { version, text: known });
  }

  function take(text) {
    rest();
    if (box.value !== text) box.value = text;
    known = box.value;
    write(find(".typed-text-note"), "");
    fit();
  }

  function fit() {
    const { length } = box.value;
    find(".typed-text-size").textContent = `${box.value}\u200b`; // else a last empty line has no height
    write(find(".typed-text-count"), length > COUNT_FROM * box.maxLength ? `${number(length)} of ${number(box.maxLength)}` : "");
  }

  function update({ data, setStateValue }) {
    tell = setStateValue;
    write(label, data.label);
    box.placeholder = data.placeholder;
    box.maxLength = data.most;
    if (data.version === version) return;
    version = data.version;
    take(data.text);
  }

  /** The browser cuts what goes over the limit; this says so. */
  function noteCut(given) {
    const room = box.maxLength - box.value.length + box.selectionEnd - box.selectionStart;
    const cut = (given?.getData("text/plain") ?? "").replaceAll("\r\n", "\n").length > room;
    write(find(".typed-text-note"), cut ? `Cut to ${number(box.maxLength)} characters` : "");
    pasting = true;
    setTimeout(() => {
      pasting = false;
    });
  }

  function listen(event, action) {
    box.addEventListener(event, action, { signal: stopping.signal });
  }
  listen("input", ({ isComposing }) => {
    if (!pasting) write(find(".typed-text-note"), "");
    fit();
    if (!isComposing || ALWAYS_COMPOSES) later();
  });
  listen("compositionstart", () => ALWAYS_COMPOSES || rest());
  listen("compositionend", later);
  listen("paste", (event) => noteCut(event.clipboardData));
  listen("drop", (event) => noteCut(event.dataTransfer));
  listen("blur", now);
  // A press elsewhere comes before its click, which may go to another page: what was typed is to be told before that.
  document.addEventListener("pointerdown", now, { capture: true, signal: stopping.signal });
  listen("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
    event.preventDefault();
    now();
  });

  function close() {
    stopping.abort();
    rest();
    boxes.delete(frame);
  }
  return { update, close };
}

const number = (value) => value.toLocaleString("en");

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export default function (component) {
  const frame = component.parentElement.querySelector(".typed-text");
  if (!boxes.has(frame)) boxes.set(frame, open(frame));
  boxes.get(frame).update(component);
  return () => boxes.get(frame)?.close(); // called once, when the component leaves the page
}
