"use strict";
// Text into the page. Rows are model output: nothing of theirs is ever parsed as markup.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu; // they steer text direction, hide, or break lines
const KEPT = "\n\t\u200d";

function visible(text) {
  return String(text).replace(HIDDEN, (letter) =>
    KEPT.includes(letter) ? letter : "\\u" + letter.codePointAt(0).toString(16).padStart(4, "0"),
  );
}

// element("p", {class: "x"}, "text", child, …)
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") made.style.cssText = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(
    ...children.filter((child) => child != null).map((child) => (child instanceof Node ? child : visible(child))),
  );
  return made;
}

// A model's text, with what stands between ``` in a block of its own.
function prose(text) {
  const parts = String(text).split("```");
  return element(
    "div",
    {class: "prose"},
    ...parts.map((part, place) => {
      if (place % 2 === 0) return part ? element("span", {}, part) : null;
      const [, language, code] = part.match(/^([\w+#.-]{0,20})\n([\s\S]*)$/) ?? [null, "", part];
      return element("pre", {title: language || false}, code.replace(/\n$/, ""));
    }),
  );
}

function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value.toLocaleString("en", {maximumSignificantDigits: 4});
}

const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const words = (name) => name.replaceAll("_", " ");

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    // a page from a file may not write there
    button.textContent = "press Ctrl-C";
    getSelection().selectAllChildren(button.previousElementSibling);
  }
  setTimeout(() => (button.textContent = "copy"), 1500);
}

// Marks of the search in what is on the screen, without a change to the document.
function mark(terms, ...roots) {
  if (!CSS.highlights) return;
  CSS.highlights.delete("found");
  if (!terms.length) return;
  const ranges = [];
  for (const root of roots) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node && ranges.length < 2000; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      for (const term of terms) {
        for (let at = text.indexOf(term); at >= 0; at = text.indexOf(term, at + term.length)) {
          const range = new Range();
          range.setStart(node, at);
          range.setEnd(node, Math.min(at + term.length, node.length));
          ranges.push(range);
        }
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}
