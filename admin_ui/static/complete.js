// Completion in a query box: the labels whose name goes on as the word before the cursor does.
// Without it the same labels stand in the help below the box.
(() => {
  "use strict";
  for (const field of document.querySelectorAll("[data-complete]")) {
    const box = field.querySelector("textarea"), list = document.getElementById(field.dataset.complete);
    const options = [...list.children];
    let shown = [], at = -1;

    box.setAttribute("role", "combobox");
    box.setAttribute("aria-autocomplete", "list");
    box.setAttribute("aria-controls", list.id);
    box.setAttribute("aria-expanded", "false");

    // Where the word that may become a label begins; -1 where a value or a quote stands.
    function begin() {
      const before = box.value.slice(0, box.selectionStart);
      let quoted = false, start = 0, open = true;
      for (let i = 0; i < before.length; i += 1) {
        if (before[i] === '"') quoted = !quoted;
        else if (quoted) continue;
        else if (before[i] === "+") { start = i + 1; open = true; }
        else if (before[i] === ":" && open) open = false;
      }
      return quoted || !open ? -1 : start;
    }
    function close() {
      at = -1;
      shown = [];
      list.hidden = true;
      box.setAttribute("aria-expanded", "false");
      box.removeAttribute("aria-activedescendant");
    }
    function mark(next) {
      at = next;
      for (const option of options) option.setAttribute("aria-selected", String(option === shown[at]));
      if (at < 0) { box.removeAttribute("aria-activedescendant"); return; }
      box.setAttribute("aria-activedescendant", shown[at].id);
      shown[at].scrollIntoView({ block: "nearest" });
    }
    function open() {
      const start = begin();
      if (start < 0 || box.selectionStart !== box.selectionEnd) { close(); return; }
      const word = box.value.slice(start, box.selectionStart).trim().toLowerCase();
      const named = (option) => option.dataset.insert.toLowerCase();
      // What begins with the word first, then what has a word that does.
      const ranked = options.filter((option) => named(option).startsWith(word))
        .concat(options.filter((option) => !named(option).startsWith(word) && named(option).includes(` ${word}`)));
      if (!ranked.length) { close(); return; }
      for (const option of options) option.hidden = !ranked.includes(option);
      for (const option of ranked) list.append(option);
      shown = ranked;
      list.hidden = false;
      box.setAttribute("aria-expanded", "true");
      mark(word ? 0 : -1);
    }
    function take(option) {
      const start = begin(), blank = /^\s*/.exec(box.value.slice(start))[0].length;
      box.setRangeText(option.dataset.insert, start + blank, box.selectionStart, "end");
      close();
      box.focus();
      box.dispatchEvent(new Event("input", { bubbles: true }));
      close();
    }
    box.addEventListener("input", open);
    box.addEventListener("click", open);
    box.addEventListener("blur", close);
    // Before the page's own keys: Enter takes what is marked, and sends only when nothing is.
    box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" && list.hidden) { open(); if (shown.length) mark(0); event.preventDefault(); return; }
      if (list.hidden || event.isComposing) return;
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) mark((at + step + shown.length) % shown.length);
      else if ((event.key === "Enter" || event.key === "Tab") && at >= 0 && !event.shiftKey) take(shown[at]);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
      event.stopImmediatePropagation();
    }, { capture: true });
    list.addEventListener("pointerdown", (event) => {
      const option = event.target.closest("[role=option]");
      // The box keeps its focus.
      event.preventDefault();
      if (option) take(option);
    });
  }
})();
