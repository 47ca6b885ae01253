// The screen of the line. The server holds the state; each message has all of it, and this only shows it.
import { show as showDecision } from "/screen/decision.js";

const STALE = 10000; // milliseconds without a sign of the agent before the page says so
const ASK = 5000; // milliseconds between questions of a page that is not told of changes
const MARKS = { accept: "✓", reject: "✕", review: "?", none: "•" };

const find = (id) => document.getElementById(id);
let words = {};
let language = "en";
let state = null;
let heard = Date.now();
let asking = null;

/** A word of the chosen language; `values` fill its places `{name}`. */
export function word(name, values = {}) {
  const text = words[name]?.[language] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, key) => values[key] ?? "");
}

/** An element with text in it: text is never markup. */
export function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
const share = (value) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);

/** A share of one in percent. What is not quite one is not shown as if it were. */
export function percent(value) {
  const most = 0.999;
  return value > most && value < 1 ? `> ${share(most)}` : share(value);
}

export const time = (text) =>
  new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(text));
export const day = (text) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(new Date(text));

/** What is to be done with a part: accept, reject or review; `none` where no recipe says it. */
export function kindOf(row) {
  return row.disposition ?? (row.label === "unknown" ? "review" : "none");
}

export function verdictOf(row) {
  return row.label === "unknown" ? word("unknown") : word(`verdict_${kindOf(row)}`);
}

function setText(element, text) {
  // A screen reader speaks again what is set again.
  if (element.textContent !== text) element.textContent = text;
}

function rows(list, entries, tile) {
  const wanted = entries.map(([name, text, kind]) => {
    const group = make("div", "", kind ? { "data-kind": kind } : {});
    group.append(make("dt", name), make("dd", text));
    return group;
  });
  list.replaceChildren(...wanted);
  list.hidden = tile && wanted.length === 0;
}

function showLine() {
  const { agent, line } = state;
  setText(find("bundle"), `${agent.bundle} ${agent.bundle_version}`);
  const link = find("link");
  link.dataset.link = agent.link;
  setText(link, word(agent.is_draining ? "draining" : `link_${agent.link}`));
  const troubles = find("troubles");
  troubles.hidden = agent.troubles.length === 0;
  troubles.replaceChildren(...agent.troubles.map((text) => make("li", text)));

  const last = line.last[0];
  const verdict = find("verdict");
  verdict.dataset.kind = last ? kindOf(last) : "none";
  verdict.querySelector(".mark").textContent = last ? MARKS[kindOf(last)] : "";
  setText(find("big"), last ? verdictOf(last) : word("nothing_yet"));
  setText(find("big-label"), last && last.label !== "unknown" ? last.label : "");
  setText(find("big-part"), last ? last.part : "");

  const { tally } = line;
  const decided = tally.accept + tally.reject + tally.review + tally.none;
  const counts = [[word("decided"), number(decided)], [word("per_minute"), number(line.per_minute)]];
  if (decided > tally.none) {
    counts.push([word("yield"), percent(tally.accept / (decided - tally.none))]);
    counts.push([word("verdict_accept"), number(tally.accept), "accept"]);
    counts.push([word("verdict_reject"), number(tally.reject), "reject"]);
    counts.push([word("verdict_review"), number(tally.review), "review"]);
  }
  counts.push([word("unknown"), number(tally.unknown)], [word("provisional"), number(tally.provisional)]);
  counts.push([word("undecided"), number(tally.undecided)]);
  rows(find("counts"), counts, true);
  setText(find("since"), word("since", { at: day(line.since) }));

  const most = Math.max(1, ...line.pareto.map(([, count]) => count));
  find("pareto-none").hidden = line.pareto.length > 0;
  find("pareto").replaceChildren(
    ...line.pareto.map(([label, count]) => {
      const item = make("li");
      const bar = make("meter", "", { min: 0, max: most, value: count, "aria-hidden": "true" });
      item.append(make("span", label, { class: "text" }), make("span", number(count), { class: "count" }), bar);
      return item;
    }),
  );

  const doing = [[word("link"), word(`link_${agent.link}`)], [word("queued"), number(agent.queued)]];
  doing.push([word("in_flight"), number(agent.in_flight)], [word("spooled"), number(agent.spooled)]);
  if (agent.oldest_seconds !== null) doing.push([word("oldest"), word("seconds", { n: number(agent.oldest_seconds) })]);
  doing.push([word("version"), agent.version]);
  rows(find("agent"), doing, false);
  showLast(line.last);
}

/** The list: rows that stay are left alone, so that nobody loses the place they are at. */
function showLast(last) {
  find("last-none").hidden = last.length > 0;
  const body = find("last");
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const wanted = last.map((row) => {
    const key = `${row.id} ${row.version} ${row.said ?? ""} ${language}`;
    return known.get(key) ?? lineOf(row, key);
  });
  for (const [at, row] of wanted.entries()) {
    if (body.children[at] !== row) body.insertBefore(row, body.children[at] ?? null);
  }
  while (body.children.length > wanted.length) body.lastElementChild.remove();
}

function lineOf(row, key) {
  const line = make("tr", "", { "data-key": key, "data-kind": kindOf(row) });
  const at = make("td");
  at.append(make("a", time(row.at), { href: `#decision/${encodeURIComponent(row.id)}` }));
  const verdict = make("td");
  verdict.append(make("span", MARKS[kindOf(row)], { class: "mark", "aria-hidden": "true" }), ` ${verdictOf(row)}`);
  if (row.state !== "final") verdict.append(" ", make("small", word(`state_${row.state}`)));
  const label = make("td", row.label === "unknown" ? "" : row.label);
  if (row.said !== null) label.append(" ", make("small", word("person_says", { label: row.said })));
  line.append(at, verdict, label, make("td", row.probability === null ? "" : percent(row.probability)));
  line.append(make("td", row.source), make("td", row.part));
  return line;
}

function isLine() {
  return !location.hash.startsWith("#decision/");
}

async function show() {
  find("line").hidden = !isLine();
  find("decision").hidden = isLine();
  if (isLine()) {
    if (state) showLine();
    return;
  }
  await showDecision(find("decision"), decodeURIComponent(location.hash.slice("#decision/".length)));
}

function take(text) {
  heard = Date.now();
  find("stale").hidden = true;
  state = JSON.parse(text);
  if (isLine()) showLine();
}

async function ask() {
  const answer = await fetch("/screen/line").catch(() => null);
  if (answer?.ok) take(await answer.text());
}

/** Is told of changes by the worker that all tabs share; where there is none, by a line of its own while it is looked at. */
function listen() {
  if ("SharedWorker" in window) {
    const worker = new SharedWorker("/screen/live.js");
    worker.port.onmessage = ({ data }) => {
      if (data.state) take(data.state);
    };
    worker.port.start();
    addEventListener("pagehide", () => worker.port.postMessage("bye"));
    addEventListener("pageshow", (event) => event.persisted && location.reload());
    return;
  }
  let source = null;
  const look = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) {
      source = new EventSource("/screen/live");
      source.addEventListener("state", (event) => take(event.data));
    }
  };
  document.addEventListener("visibilitychange", look);
  look();
}

function watch() {
  setInterval(() => {
    const silent = Date.now() - heard;
    if (silent > ASK && asking === null) asking = ask().finally(() => (asking = null));
    find("stale").hidden = silent <= STALE;
  }, 1000);
}

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
  find("language").value = chosen;
}

async function start() {
  words = await (await fetch("/screen/words.json")).json();
  const known = ["en", "de", "zh"];
  const wanted = [localStorage.getItem("language"), ...navigator.languages.map((tag) => tag.slice(0, 2))];
  speak(wanted.find((tag) => known.includes(tag)) ?? "en");
  find("language").addEventListener("change", (event) => {
    localStorage.setItem("language", event.target.value);
    speak(event.target.value);
    show();
  });
  addEventListener("hashchange", show);
  await ask();
  listen();
  watch();
  await show();
}

start();
