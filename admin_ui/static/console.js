// What pages can do by themselves. Without it everything still works: reload instead of live rows,
// links and buttons instead of keys.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
  const announce = (text) => { $("#announce").textContent = text; };
  const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const clock = (at) => at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  // --- times grow old -------------------------------------------------------------------------
  const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [86400 * 45, 86400, "d"]];
  function age(at) {
    const seconds = (Date.now() - at) / 1000, size = Math.abs(seconds);
    if (size < 5) return "just now";
    for (const [limit, unit, name] of steps) {
      if (size < limit) {
        const text = `${Math.floor(size / unit)} ${name}`;
        return seconds > 0 ? `${text} ago` : `in ${text}`;
      }
    }
    return null;
  }
  function freshenTimes(from = document) {
    for (const time of $$("time[datetime]:not([data-left])", from)) {
      const text = age(Date.parse(time.dateTime));
      if (text && time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(() => { if (!document.hidden) freshenTimes(); }, 15000);
  // What is left of a time, second by second: the words of moments.left.
  function left(at) {
    const seconds = Math.floor((at - Date.now()) / 1000);
    if (seconds <= 0) return "no time";
    const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
    if (days) return `${days} d ${hours} h`;
    if (hours) return `${hours} h ${minutes} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
  }
  function countDown() {
    if (document.hidden) return;
    for (const time of $$("time[data-left]")) {
      const text = left(Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(countDown, 1000);

  // --- copy, dismiss, submit by choosing ------------------------------------------------------
  async function copy(button) {
    const label = button.querySelector("span:not(.vh)") || button.querySelector(".vh");
    const before = label ? label.textContent : "";
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: button.dataset.copy, className: "vh" });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("copied");
    if (label) label.textContent = "Copied";
    announce("Copied");
    setTimeout(() => {
      button.classList.remove("copied");
      if (label) label.textContent = before;
    }, 1500);
  }
  document.addEventListener("click", (event) => {
    const target = event.target;
    const copier = target.closest("[data-copy]");
    if (copier) copy(copier);
    if (target.closest("[data-dismiss]")) target.closest(".flash").remove();
    if (target.closest("[data-help]")) { event.preventDefault(); showHelp(); }
    const menu = $(".me[open]");
    if (menu && !menu.contains(target)) menu.open = false;
  });
  document.addEventListener("formdata", (event) => {
    // What is empty need not stand in an address that people share.
    if (event.target.method !== "get") return;
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-autosubmit]")) event.target.form.requestSubmit();
  });
  // On a phone the navigation is a strip: the page's own place in it is shown.
  const own = $(".nav [aria-current]"), strip = own?.closest(".nav");
  if (strip && strip.scrollWidth > strip.clientWidth) strip.scrollLeft = own.offsetLeft - strip.clientWidth / 3;
  const first = $("[data-autofocus]");
  if (first) {
    first.focus();
    if (first.setSelectionRange) { first.setSelectionRange(0, 0); first.scrollTop = 0; }
  }
  // A text of one line mostly: Enter sends it, Shift and Enter begin another line.
  for (const box of $$("[data-submit]")) {
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      box.form.requestSubmit();
    });
    if (!CSS.supports("field-sizing", "content")) {
      const fit = () => { box.style.height = "auto"; box.style.height = `${box.scrollHeight + 2}px`; };
      box.addEventListener("input", fit);
      fit();
    }
  }
  const mistake = $("[data-caret]");
  if (mistake) {
    const at = Number(mistake.dataset.caret), word = /^[\w.-]+|^./.exec(mistake.value.slice(at));
    mistake.focus();
    mistake.setSelectionRange(at, at + (word ? word[0].length : 0));
  }

  // --- selection ------------------------------------------------------------------------------
  const boxes = () => $$('tbody input[name="id"]');
  function selectionChanged() {
    const form = $("[data-bulk]");
    if (!form) return;
    const all = $("[data-scope-all]", form)?.checked;
    const chosen = boxes().filter((box) => box.checked).length;
    const label = $("[data-selected]", form);
    const text = all ? "All selected" : chosen ? `${chosen} selected` : "None selected";
    if (label && label.textContent !== text) label.textContent = text;
    for (const button of $$("[data-needs-selection]", form)) {
      if (button.dataset.denied === undefined) button.dataset.denied = button.disabled ? "yes" : "no";
      button.disabled = button.dataset.denied === "yes" || (!chosen && !all);
    }
    const head = $("[data-select-all]", form);
    if (head) {
      head.checked = chosen > 0 && chosen === boxes().length;
      head.indeterminate = chosen > 0 && !head.checked;
    }
    if (!holding()) applyPending();
  }
  let lastBox = null;
  document.addEventListener("click", (event) => {
    const box = event.target.closest('tbody input[name="id"]');
    if (!box) return;
    if (event.shiftKey && lastBox && lastBox.isConnected) {
      const list = boxes(), [from, to] = [list.indexOf(lastBox), list.indexOf(box)].sort((a, b) => a - b);
      for (const each of list.slice(from, to + 1)) each.checked = box.checked;
    }
    lastBox = box;
    selectionChanged();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-select-all]")) for (const box of boxes()) box.checked = event.target.checked;
    if (event.target.matches('[data-select-all], [data-scope-all], input[name="id"]')) selectionChanged();
  });

  // --- live -----------------------------------------------------------------------------------
  const main = $("#main");
  const indicator = $("#live");
  let source = null, paused = false, ended = false, since = null, retryTimer = 0;
  // What waits until nobody holds the table: table id -> {order, rows}.
  const waiting = new Map();
  const parts = new Map();

  function state(name, text) {
    if (!indicator) return;
    indicator.dataset.state = name;
    const label = $("[data-live-label]", indicator);
    if (label.textContent !== text) label.textContent = text;
  }
  function connect() {
    if (source || paused || ended || document.hidden || !main.dataset.live) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener("parts", (event) => {
      for (const [name, html] of Object.entries(JSON.parse(event.data))) { parts.set(name, html); applyPart(name); }
    });
    source.addEventListener("rows", (event) => receiveRows(JSON.parse(event.data)));
    source.addEventListener("state", (event) => {
      if (JSON.parse(event.data).state === "live") { since = null; state("live", "Live"); } else lost();
    });
    source.addEventListener("end", (event) => end(JSON.parse(event.data).reason));
    source.onerror = () => {
      lost();
      // The browser tries again by itself unless the answer was no stream at all.
      if (source && source.readyState === EventSource.CLOSED) {
        disconnect();
        clearTimeout(retryTimer);
        retryTimer = setTimeout(connect, 2000);
      }
    };
  }
  function disconnect() { if (source) source.close(); source = null; }
  function lost() {
    since ??= new Date();
    state("reconnecting", `Reconnecting · as of ${clock(since)}`);
  }
  function end(reason) {
    ended = true;
    disconnect();
    if (reason === "reload") { location.reload(); return; }
    if (reason === "final") { state("paused", "Done"); return; }
    if (reason === "signed-out") {
      state("ended", "Signed out");
      const note = document.createElement("div");
      note.className = "flash warn";
      const text = document.createElement("span");
      text.textContent = "Your session has ended, so this page no longer changes.";
      const link = document.createElement("a");
      link.className = "btn small";
      link.href = `/sign-in?${new URLSearchParams({ next: location.pathname + location.search, ended: "1" })}`;
      link.textContent = "Sign in again";
      note.append(text, link);
      $("#flashes").append(note);
      return;
    }
    state("ended", "Not live: not permitted");
  }
  function togglePause() {
    if (ended || !main.dataset.live || !indicator) return;
    paused = !paused;
    const button = $("[data-live-pause]", indicator);
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
    if (paused) { disconnect(); state("paused", `Paused at ${clock(new Date())}`); } else { state("connecting", "Connecting…"); connect(); }
  }
  $("[data-live-pause]")?.addEventListener("click", togglePause);
  document.addEventListener("visibilitychange", () => {
    // A tab in the background holds no connection: browsers allow six to a host.
    if (document.hidden) { disconnect(); clearTimeout(retryTimer); } else { freshenTimes(); countDown(); connect(); }
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  function applyPart(name) {
    const element = document.getElementById(name), html = parts.get(name);
    if (!element || html === undefined) return;
    // Never under a finger: what has focus or a tick stays until it is let go.
    if (element.contains(document.activeElement) || $("input:checked", element)) return;
    parts.delete(name);
    if (element.innerHTML !== html) element.innerHTML = html;
  }
  const rowOf = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html.trim();
    return template.content.firstElementChild;
  };
  const plain = (html) => html.replace(/(<time\b[^>]*>)[^<]*/g, "$1");

  // Somebody holds the table: pointer, focus or selection in it. Then no row may move.
  let pointerInside = false;
  for (const body of $$("tbody[id]")) {
    body.addEventListener("pointerenter", () => { pointerInside = true; });
    body.addEventListener("pointerleave", () => { pointerInside = false; applyPending(); });
  }
  const holding = () => pointerInside || $("tbody[id] input:checked") !== null ||
    $("[data-scope-all]:checked") !== null || document.activeElement?.closest?.("tbody[id]") != null;
  document.addEventListener("focusout", () => setTimeout(() => {
    for (const name of [...parts.keys()]) applyPart(name);
    applyPending();
  }, 0));

  function receiveRows({ table, order, rows }) {
    const body = document.getElementById(table);
    if (!body) return;
    const now = new Map($$("tr[data-key]", body).map((row) => [row.dataset.key, row]));
    const later = waiting.get(table) ?? { order, rows: {} };
    later.order = order;
    for (const [key, html] of Object.entries(rows)) {
      const row = now.get(key);
      if (row) updateRow(row, html);
      else later.rows[key] = html;
    }
    waiting.set(table, later);
    if (holding()) showPending(); else applyPending();
  }
  function updateRow(row, html) {
    const fresh = rowOf(html);
    const box = $("input[type=checkbox]", row);
    if (plain(row.innerHTML) === plain(fresh.innerHTML)) return;
    const checked = box?.checked, focused = row.contains(document.activeElement) ? document.activeElement : null;
    // The button that has focus keeps it, by its place in the row.
    const place = focused ? $$("a, button, input", row).indexOf(focused) : -1;
    row.replaceChildren(...fresh.childNodes);
    const newBox = $("input[type=checkbox]", row);
    if (newBox && checked) newBox.checked = true;
    if (place >= 0) $$("a, button, input", row)[place]?.focus();
    freshenTimes(row);
    glow(row);
  }
  function glow(row) {
    row.classList.remove("fresh");
    void row.offsetWidth;
    row.classList.add("fresh");
  }
  function difference(body, { order }) {
    const now = $$("tr[data-key]", body).map((row) => row.dataset.key);
    const gone = now.filter((key) => !order.includes(key)), came = order.filter((key) => !now.includes(key));
    const kept = now.filter((key) => order.includes(key)), target = order.filter((key) => now.includes(key));
    return { gone, came, moved: kept.filter((key, index) => key !== target[index]).length };
  }
  function showPending() {
    const pill = $("#pending");
    if (!pill) return;
    for (const [table, later] of waiting) {
      const body = document.getElementById(table), { gone, came, moved } = difference(body, later);
      for (const row of $$("tr[data-key]", body)) row.classList.toggle("leaving", gone.includes(row.dataset.key));
      const count = gone.length + came.length + (moved ? 1 : 0);
      pill.hidden = count === 0;
      const text = `${plural(count, "change")} · Show`;
      if (count && pill.textContent !== text) { pill.textContent = text; announce(`${plural(count, "change")} waiting`); }
      if (!count) waiting.delete(table);
    }
  }
  function applyPending(forced = false) {
    if (!waiting.size || (!forced && holding())) return;
    for (const [table, later] of waiting) {
      const body = document.getElementById(table), { gone, came } = difference(body, later);
      const rows = new Map($$("tr[data-key]", body).map((row) => [row.dataset.key, row]));
      const wanted = later.order.map((key) => {
        if (rows.has(key)) return rows.get(key);
        const row = rowOf(later.rows[key] ?? "<tr></tr>");
        freshenTimes(row);
        return row;
      });
      for (const key of gone) rows.get(key).remove();
      // Rows that stay in place are not touched: focus and ticks survive.
      wanted.forEach((row, index) => {
        const present = body.children[index];
        if (present !== row) body.insertBefore(row, present ?? null);
      });
      for (const row of wanted) { row.classList.remove("leaving"); if (came.includes(row.dataset.key)) glow(row); }
      if (came.length || gone.length) {
        announce([came.length ? `${plural(came.length, "row")} added` : "", gone.length ? `${plural(gone.length, "row")} removed` : ""].filter(Boolean).join(", "));
      }
    }
    waiting.clear();
    const pill = $("#pending");
    if (pill) pill.hidden = true;
    selectionChanged();
  }
  $("#pending")?.addEventListener("click", () => applyPending(true));

  // --- a page that failed tries again -----------------------------------------------------------
  if (main.dataset.retry) {
    const again = async () => {
      try {
        const answer = await fetch(main.dataset.retry, { headers: { Accept: "text/html" } });
        if (answer.status < 500) { location.assign(main.dataset.retry); return; }
      } catch { /* the console itself is away: later */ }
      setTimeout(again, 2000);
    };
    setTimeout(again, 2000);
  }

  // --- keyboard ---------------------------------------------------------------------------------
  let cursor = null, prefix = 0;
  const rows = () => $$("table[data-table] tbody tr[data-key]");
  function move(step) {
    const list = rows();
    if (!list.length) return;
    const at = cursor ? list.indexOf(cursor) : -1;
    const next = list[Math.min(Math.max(at + step, 0), list.length - 1)];
    cursor?.classList.remove("cursor");
    cursor = next;
    next.classList.add("cursor");
    next.scrollIntoView({ block: "nearest" });
    ($("[data-open]", next) ?? $("a", next))?.focus({ preventScroll: true });
  }
  function showHelp() {
    let dialog = $("#help-dialog");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "help-dialog";
      dialog.setAttribute("aria-label", "Keyboard shortcuts");
      document.body.append(dialog);
      fetch("/help").then((answer) => answer.text()).then((html) => {
        const section = new DOMParser().parseFromString(html, "text/html").querySelector("#shortcuts");
        dialog.innerHTML = `${section.innerHTML}<form method="dialog"><p class="row"><button class="btn">Close</button></p></form>`;
      });
      dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    }
    if (!dialog.open) dialog.showModal();
  }
  const keys = {
    "/": () => { const box = $("[data-search]"); box?.focus(); box?.select(); },
    "?": showHelp,
    j: () => move(1),
    k: () => move(-1),
    x: () => { const box = cursor && $('input[name="id"]', cursor); if (box) { box.checked = !box.checked; selectionChanged(); } },
    p: togglePause,
    n: () => { const link = $("a[data-new]"); if (link) location.assign(link.href); },
    e: () => { const link = $("a[data-edit]"); if (link) location.assign(link.href); },
    g: () => { prefix = Date.now(); },
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else if ($(".me[open]")) $(".me[open]").open = false;
      else if ($("tbody input:checked")) { for (const box of boxes()) box.checked = false; selectionChanged(); }
      return;
    }
    if (root.dataset.shortcuts === "off" || typing || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
    if (Date.now() - prefix < 1200) {
      prefix = 0;
      const link = $(`[data-go="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); location.assign(link.href); }
      return;
    }
    const action = keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });

  selectionChanged();
  connect();
})();
