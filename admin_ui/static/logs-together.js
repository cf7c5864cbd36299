// Logs of several pods: lines as they come, the last few thousand, and only those that have a text.
"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const view = $("#log");
  if (!view) return;
  const MOST = 5000, SPARE = 500;
  let positions = view.dataset.positions, source = null, paused = false, over = false, stuck = true, wanted = null, retry = 0;
  const notes = new Map();
  const number = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");

  function state(name, text) {
    const indicator = $("#log-state"), label = indicator.querySelector("[data-label]");
    indicator.dataset.state = name;
    if (label.textContent !== text) label.textContent = text;
  }
  function keepBottom() { if (stuck) view.scrollTop = view.scrollHeight; }
  function fill(element, text) {
    if (!wanted) { element.textContent = text; return true; }
    const pieces = [];
    let from = 0;
    for (const found of text.matchAll(wanted)) {
      const mark = document.createElement("mark");
      mark.textContent = found[0];
      pieces.push(text.slice(from, found.index), mark);
      from = found.index + found[0].length;
    }
    element.replaceChildren(...pieces, text.slice(from));
    return from > 0;
  }
  function made(instance, text, css, place) {
    const line = document.createElement("div"), of = document.createElement("a"), words = document.createElement("span");
    line.className = css;
    of.className = `of c${instance % 6}`;
    of.href = `${view.dataset.pods}/${instance}/logs?${new URLSearchParams({ stream: view.dataset.output, ...place })}`;
    of.textContent = instance;
    line.hidden = !fill(words, text);
    line.append(of, words);
    return line;
  }
  function add(lines) {
    const height = view.scrollHeight;
    view.append(...lines);
    const extra = view.childElementCount - MOST;
    if (extra > SPARE) {
      const before = view.scrollHeight;
      for (let left = extra; left > 0; left--) view.firstElementChild.remove();
      if (!stuck) view.scrollTop -= before - view.scrollHeight;
    }
    if (height !== view.scrollHeight) keepBottom();
    show();
  }
  function show() {
    $("#nothing").hidden = view.childElementCount > 0;
    const lines = [...view.children], seen = lines.filter((line) => !line.hidden).length;
    $("#matches").textContent = wanted ? `${number(seen)} of the ${number(lines.length)} lines here` : "";
  }
  function connect() {
    if (source || paused || over || document.hidden || !positions) return;
    source = new EventSource(`${view.dataset.liveLogs}&${new URLSearchParams({ positions })}`);
    source.addEventListener("lines", (event) => {
      positions = event.lastEventId;
      add(JSON.parse(event.data).lines.map(([instance, run, at, text, goesOn, tone]) => made(instance, text, ["line", goesOn ? "goes-on" : "", tone].filter(Boolean).join(" "), { run, at })));
    });
    source.addEventListener("note", (event) => {
      positions = event.lastEventId;
      const { instance, text } = JSON.parse(event.data);
      // After a break the service says again what became of a run.
      if (notes.get(instance) === text) return;
      notes.set(instance, text);
      add([made(instance, text, "line gap", {})]);
    });
    source.addEventListener("state", (event) => {
      if (JSON.parse(event.data).state === "live") state("live", "Following"); else state("reconnecting", "Reconnecting");
    });
    source.addEventListener("end", (event) => {
      const words = { "signed-out": "Signed out: reload to go on", denied: "Not permitted" };
      over = true;
      disconnect();
      $("#follow").hidden = true;
      state("ended", words[JSON.parse(event.data).reason] ?? "Ended");
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
  $("#follow").addEventListener("click", () => {
    paused = !paused;
    const button = $("#follow");
    button.setAttribute("aria-pressed", String(!paused));
    button.querySelector("span").textContent = paused ? "Follow" : "Pause";
    button.querySelector("use").setAttribute("href", paused ? "#i-play" : "#i-pause");
    if (paused) { disconnect(); state("paused", "Paused"); } else { stuck = true; state("connecting", "Connecting…"); connect(); keepBottom(); }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); clearTimeout(retry); } else connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);
  view.addEventListener("scroll", () => { stuck = view.scrollHeight - view.scrollTop - view.clientHeight < 24; }, { passive: true });
  const wrap = $("#wrap");
  function wrapped() { view.classList.toggle("plain", !wrap.checked); keepBottom(); }
  if (localStorage.getItem("log-wrap") === "off") wrap.checked = false;
  wrap.addEventListener("change", () => { localStorage.setItem("log-wrap", wrap.checked ? "on" : "off"); wrapped(); });
  $("#q").addEventListener("input", () => {
    const text = $("#q").value;
    wanted = text ? new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu") : null;
    for (const line of view.children) { const words = line.lastElementChild; line.hidden = !fill(words, words.textContent); }
    show();
    keepBottom();
  });
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (document.documentElement.dataset.shortcuts === "off" || field || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "p") $("#follow").click();
  });
  wrapped();
  show();
  keepBottom();
  connect();
})();
