// The log of a run: follows it, loads what is before and after, finds text. Without it the page shows
// the last lines, and links lead to the others.
"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const view = $("#log");
  if (!view) return;
  const { base, run, stream } = view.dataset;
  // Lines that a page holds; how many a step of trimming removes more, so that it is seldom.
  const MOST = 5000, SPARE = 500;
  const number = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const address = (page, more) => `${base}/${page}?${new URLSearchParams({ run, stream, ...more })}`;

  // --- what is shown: the log from `start` up to `end`, where the next line begins ----------------
  let start = Number(view.dataset.start), end = Number(view.dataset.end);
  let first = "first" in view.dataset, last = "last" in view.dataset;
  // The line that has no end yet: it comes again.
  let open = view.lastElementChild;
  if (!open || Number(open.dataset.at) !== end) open = null;
  let stuck = true, wanted = null;

  function fill(element, text) {
    if (!wanted) { element.textContent = text; return; }
    const pieces = [];
    let from = 0;
    for (const found of text.matchAll(wanted)) {
      const mark = document.createElement("mark");
      mark.textContent = found[0];
      pieces.push(text.slice(from, found.index), mark);
      from = found.index + found[0].length;
    }
    element.replaceChildren(...pieces, text.slice(from));
  }
  function made([at, text, goesOn, tone]) {
    const line = document.createElement("div");
    line.className = ["line", goesOn ? "goes-on" : "", tone].filter(Boolean).join(" ");
    line.dataset.at = at;
    fill(line, text);
    return line;
  }
  const atBottom = () => view.scrollHeight - view.scrollTop - view.clientHeight < 24;
  function keepBottom() { if (stuck) view.scrollTop = view.scrollHeight; }
  function show() {
    $("#earlier").hidden = first;
    const begin = $("#begin");
    if (begin) begin.hidden = !first;
    $("#later-bar").hidden = last;
    $("#nothing").hidden = view.childElementCount > 0;
    $("#loaded").textContent = view.childElementCount ? `${number(view.childElementCount)} line${view.childElementCount === 1 ? "" : "s"}` : "";
  }
  function trimTop() {
    if (view.childElementCount <= MOST + SPARE) return;
    const height = view.scrollHeight;
    for (let extra = view.childElementCount - MOST; extra > 0; extra--) view.firstElementChild.remove();
    start = Number(view.firstElementChild.dataset.at ?? start);
    first = false;
    if (!stuck) view.scrollTop -= height - view.scrollHeight;
  }
  function trimBottom() {
    if (view.childElementCount <= MOST + SPARE) return;
    pause();
    let removed = null;
    for (let extra = view.childElementCount - MOST; extra > 0; extra--) { removed = view.lastElementChild; removed.remove(); }
    end = Number(removed.dataset.at);
    last = false;
    open = null;
  }
  function append(lines, next) {
    const fresh = document.createDocumentFragment();
    for (const line of lines) {
      // What is there already is not shown twice; the line without an end is shown anew.
      if (line[0] < end) continue;
      if (open && line[0] === end) { open.remove(); open = null; }
      const element = made(line);
      if (line[0] !== next && wanted && line[1].match(wanted)) hit(line[0]);
      fresh.append(element);
      if (line[0] === next) open = element;
    }
    view.append(fresh);
    end = next;
    trimTop();
    keepBottom();
    show();
  }
  function replaceAll(window) {
    view.replaceChildren(...window.lines.map(made));
    ({ start, end, first, last } = window);
    open = last && view.lastElementChild && Number(view.lastElementChild.dataset.at) === end ? view.lastElementChild : null;
    show();
  }
  async function fetched(page, more, signal) {
    const answer = await fetch(address(page, more), { headers: { Accept: "application/json" }, signal });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
    return answer.json();
  }
  let busy = false;
  async function load(page, more, use) {
    if (busy) return false;
    busy = true;
    view.setAttribute("aria-busy", "true");
    try { use(await fetched(page, more)); return true; } catch { state("reconnecting", "Could not be loaded"); return false; } finally {
      busy = false;
      view.removeAttribute("aria-busy");
    }
  }
  const earlier = () => load("lines", { before: start }, (window) => {
    const height = view.scrollHeight, top = view.scrollTop;
    stuck = false;
    view.prepend(...window.lines.map(made));
    ({ start, first } = window);
    view.scrollTop = top + view.scrollHeight - height;
    trimBottom();
    show();
  });
  const later = () => load("lines", { after: end }, (window) => {
    const known = view.lastElementChild;
    if (known && Number(known.dataset.at) >= window.start) known.remove();
    view.append(...window.lines.map(made));
    ({ end, last } = window);
    open = last && Number(view.lastElementChild?.dataset.at) === end ? view.lastElementChild : null;
    trimTop();
    show();
    if (last) follow();
  });
  const jump = (at) => load("lines", { at }, (window) => { pause(); stuck = false; replaceAll(window); });
  const newest = () => load("lines", {}, (window) => { replaceAll(window); stuck = true; follow(); keepBottom(); });

  // --- following ----------------------------------------------------------------------------------
  let source = null, paused = false, over = false, retry = 0;
  function state(name, text) {
    const indicator = $("#log-state"), label = indicator.querySelector("[data-label]");
    indicator.dataset.state = name;
    if (label.textContent !== text) label.textContent = text;
  }
  function button() {
    const follow = $("#follow");
    follow.setAttribute("aria-pressed", String(!paused));
    follow.querySelector("span").textContent = paused ? "Follow" : "Pause";
    follow.querySelector("use").setAttribute("href", paused ? "#i-play" : "#i-pause");
    follow.hidden = over;
  }
  function connect() {
    if (source || paused || over || !last || document.hidden) return;
    source = new EventSource(address("live", { offset: end }));
    source.addEventListener("lines", (event) => append(JSON.parse(event.data).lines, Number(event.lastEventId)));
    source.addEventListener("gap", (event) => gap(JSON.parse(event.data)));
    source.addEventListener("state", (event) => {
      if (JSON.parse(event.data).state === "live") state("live", "Following"); else state("reconnecting", "Reconnecting");
    });
    source.addEventListener("over", (event) => { state("paused", "Ended"); $("#follow").hidden = true; note(JSON.parse(event.data).html); });
    source.addEventListener("next", (event) => { stop("paused", "Ended"); note(JSON.parse(event.data).html); });
    source.addEventListener("end", (event) => {
      const words = { "signed-out": "Signed out: reload to go on", denied: "Not permitted", gone: "It is gone" };
      stop("ended", words[JSON.parse(event.data).reason] ?? "Ended");
    });
    source.onerror = () => {
      state("reconnecting", "Reconnecting");
      if (source && source.readyState === EventSource.CLOSED) {
        disconnect();
        clearTimeout(retry);
        retry = setTimeout(connect, 2000);
      }
    };
  }
  function disconnect() { source?.close(); source = null; }
  function stop(name, text) { over = true; disconnect(); state(name, text); button(); }
  function note(html) {
    if (!html.trim()) return;
    const place = $("#over");
    place.innerHTML = html;
    place.hidden = false;
    keepBottom();
  }
  function gap({ from, to, text }) {
    open = null;
    const line = document.createElement("div"), link = document.createElement("a");
    line.className = "line gap";
    line.dataset.at = from;
    link.href = address("", { at: from }).replace("/?", "?");
    link.textContent = text;
    line.append(link);
    view.append(line);
    end = to;
    keepBottom();
  }
  function pause() {
    if (over || paused) return;
    paused = true;
    disconnect();
    state("paused", "Paused");
    button();
  }
  function follow() {
    if (over) return;
    paused = false;
    button();
    state("connecting", "Connecting…");
    connect();
  }
  $("#follow").addEventListener("click", () => {
    if (!paused) { pause(); return; }
    stuck = true;
    if (last) { follow(); keepBottom(); } else newest();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); clearTimeout(retry); } else connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  view.addEventListener("scroll", () => {
    stuck = atBottom();
    if (view.scrollTop < 40 && !first && view.scrollHeight > view.clientHeight) earlier();
    else if (stuck && !last) later();
  }, { passive: true });
  for (const [id, act] of [["#earlier", earlier], ["#later", later], ["#newest", newest]]) {
    $(id).addEventListener("click", (event) => { event.preventDefault(); act(); });
  }

  // --- wrapping -----------------------------------------------------------------------------------
  const wrap = $("#wrap");
  function wrapped() { view.classList.toggle("plain", !wrap.checked); keepBottom(); }
  if (localStorage.getItem("log-wrap") === "off") wrap.checked = false;
  wrap.addEventListener("change", () => { localStorage.setItem("log-wrap", wrap.checked ? "on" : "off"); wrapped(); });

  // --- finding text -------------------------------------------------------------------------------
  // Offsets of the lines that have it, in the whole log; `count` may be more: the newest are named.
  let hits = [], count = 0, where = "", current = -1, asked = 0;
  const box = $("#q");
  let search = null;
  function hit(at) {
    if (hits.length && hits[hits.length - 1] >= at) return;
    hits.push(at);
    count += 1;
    matches();
  }
  function matches() {
    const some = hits.length > 0, before = count - hits.length;
    let text = "";
    if (wanted && !some) text = `none in ${where}`;
    if (some) text = current < 0 ? `${number(count)} in ${where}` : `${number(before + current + 1)} of ${number(count)} in ${where}`;
    if ($("#matches").textContent !== text) $("#matches").textContent = text;
    $("#next").disabled = $("#previous").disabled = !some;
  }
  function remark() {
    for (const line of view.children) if (!line.classList.contains("gap")) fill(line, line.textContent);
  }
  async function find() {
    const text = box.value, turn = ++asked;
    // A browser has few connections: what nobody waits for is given up.
    search?.abort();
    search = new AbortController();
    wanted = text ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu") : null;
    hits = [];
    count = 0;
    current = -1;
    remark();
    const shared = new URL(location.href);
    if (text) shared.searchParams.set("q", text); else shared.searchParams.delete("q");
    history.replaceState(null, "", shared);
    if (!text) { matches(); return; }
    $("#matches").textContent = "searching…";
    try {
      const found = await fetched("search", { q: text }, search.signal);
      if (turn !== asked) return;
      // What came while it was searched is behind.
      const newer = hits.filter((at) => !found.lines.length || at > found.lines[found.lines.length - 1]);
      hits = [...found.lines, ...newer];
      count = found.count + newer.length;
      where = found.where;
      matches();
    } catch {
      if (turn === asked) $("#matches").textContent = "the search failed";
    }
  }
  async function go(step) {
    if (!hits.length) return;
    if (current < 0) {
      // From what is seen on, or the last one.
      const top = [...view.children].find((line) => line.offsetTop + line.offsetHeight > view.scrollTop);
      const near = hits.findIndex((at) => top && at >= Number(top.dataset.at));
      current = near < 0 ? hits.length - 1 : step > 0 ? near : (near + hits.length - 1) % hits.length;
    } else current = (current + step + hits.length) % hits.length;
    const at = hits[current];
    stuck = false;
    if (!lineAt(at) && !await jump(at)) return;
    select(lineAt(at));
    matches();
  }
  const lineAt = (at) => view.querySelector(`[data-at="${at}"]`);
  function select(line) {
    view.querySelector(".line.current")?.classList.remove("current");
    if (!line) return;
    line.classList.add("current");
    view.scrollTop = line.offsetTop - view.clientHeight / 2;
    stuck = atBottom();
  }
  let typing = 0;
  box.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(find, 250); });
  $("#find").addEventListener("submit", async (event) => {
    event.preventDefault();
    clearTimeout(typing);
    if (box.value && !hits.length) await find();
    go(1);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); go(-1); }
  });
  $("#next").addEventListener("click", () => go(1));
  $("#previous").addEventListener("click", () => go(-1));
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (document.documentElement.dataset.shortcuts === "off" || field || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "p") $("#follow").click();
    if (event.key === "n") go(1);
    if (event.key === "N") go(-1);
  });

  wrapped();
  show();
  if (!last) { paused = true; stuck = false; state("paused", "Paused"); button(); }
  if ("at" in view.dataset) select(lineAt(view.dataset.at)); else if (last) keepBottom();
  if (box.value) find();
  button();
  connect();
})();
