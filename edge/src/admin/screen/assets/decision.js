// One decision: its pictures, who answered and why, and what it really was.
import { day, kindOf, make, number, percent, verdictOf, word } from "/screen/app.js";

/** Shows a decision in `place`; `said` is what has just been kept. */
export async function show(place, id, said = "") {
  const answer = await fetch(`/screen/decisions/${encodeURIComponent(id)}`).catch(() => null);
  const back = make("a", word("back"), { href: "#", class: "back" });
  if (!answer?.ok) {
    place.replaceChildren(back, make("p", word(answer?.status === 404 ? "gone" : "no_answer"), { role: "status" }));
    return;
  }
  const told = await answer.json();
  const { decision } = told;
  const row = { label: decision.verdict.label, disposition: decision.disposition ?? null };
  const head = make("section", "", { "data-kind": kindOf(row), class: "head" });
  const title = make("h2", `${verdictOf(row)}${row.label === "unknown" ? "" : `: ${row.label}`}`, { tabindex: "-1" });
  head.append(title, ...sentences(told).map((text) => make("p", text)));
  place.replaceChildren(back, head, pictures(decision.id, told.pictures), experts(decision), label(place, told, said), facts(told));
  title.focus();
}

/** Why, in sentences. */
function sentences({ decision, said }) {
  const { verdict, novelty, checks, why, degraded, historical } = decision;
  const all = [];
  if (verdict.probability != null) all.push(word("is_sure", { p: percent(verdict.probability) }));
  for (const check of checks ?? []) {
    const [least, most] = check.bounds.map((bound) => number(bound, 2));
    all.push(word("check_failed", { check: check.check, modality: check.modality, value: number(check.value, 2), least, most }));
  }
  if (novelty && novelty.p <= novelty.bound) {
    all.push(word("is_odd", { p: percent(novelty.p), bound: percent(novelty.bound), product: novelty.product }));
  }
  if (novelty?.nearest?.length) {
    const names = novelty.nearest.map((near) => `${near.sample} (${near.label})`).join(", ");
    all.push(word("nearest", { names }));
  }
  all.push(word("rule", { rule: why.rule }));
  if (degraded) {
    const names = degraded.missing.map((missing) => `${missing.name} (${missing.reason})`).join(", ");
    all.push(word("lacks", { names, later: degraded.later === "spooled" ? word("comes_later") : "" }));
  }
  if (historical) all.push(word("was_amended", { at: day(historical.amended_at), version: number(historical.replaces) }));
  for (const one of said) {
    all.push(word("somebody_said", { who: one.who || word("somebody"), label: one.label, at: day(one.at) }));
  }
  return all;
}

function pictures(id, modalities) {
  const section = make("section", "", { class: "pictures", "aria-label": word("pictures") });
  if (modalities.length === 0) section.append(make("p", word("no_picture"), { class: "none" }));
  for (const modality of modalities) {
    const figure = make("figure");
    const url = `/screen/pictures/${encodeURIComponent(id)}/${encodeURIComponent(modality)}`;
    const picture = make("img", "", { src: url, alt: word("picture_of", { modality }) });
    picture.addEventListener("error", () => figure.replaceChildren(make("p", word("not_shown", { modality }), { class: "none" })));
    figure.append(picture, make("figcaption", modality));
    section.append(figure);
  }
  return section;
}

function table(name, heads, lines) {
  const section = make("section");
  section.append(make("h3", name));
  const wide = make("div", "", { class: "wide", tabindex: "0", role: "group", "aria-label": name });
  const all = make("table");
  const head = make("thead");
  const first = make("tr");
  first.append(...heads.map((text) => make("th", text, { scope: "col" })));
  head.append(first);
  const body = make("tbody");
  for (const line of lines) {
    const row = make("tr");
    row.append(...line.map((text) => make("td", text)));
    body.append(row);
  }
  all.append(head, body);
  wide.append(all);
  section.append(wide);
  return section;
}

function experts({ experts: asked }) {
  const heads = ["expert", "where", "weight", "competence", "took"].map((name) => word(name));
  const lines = asked.map((one) => [
    one.name,
    one.where,
    percent(one.weight),
    percent(one.competence),
    word("milliseconds", { n: number(one.latency_us / 1000, 1) }),
  ]);
  return table(word("experts"), heads, lines);
}

/** Says what a part really was: a button for each label. */
function label(place, { decision, labels }, said) {
  const section = make("section", "", { class: "label" });
  section.append(make("h3", word("really_was")));
  const result = make("p", said, { role: "status" });
  const buttons = make("div", "", { class: "buttons" });
  for (const name of labels) {
    const button = make("button", name, { type: "button" });
    if (name === decision.verdict.label) button.append(" ", make("small", word("as_decided")));
    button.addEventListener("click", () => say(place, decision.id, name, buttons, result));
    buttons.append(button);
  }
  section.append(buttons, result);
  return section;
}

async function say(place, id, name, buttons, result) {
  for (const button of buttons.children) button.disabled = true;
  const body = JSON.stringify({ id, label: name, who: "screen" });
  const headers = { "content-type": "application/json" };
  const answer = await fetch("/screen/labels", { method: "POST", headers, body }).catch(() => null);
  if (answer?.ok) {
    await show(place, id, word("kept", { label: name }));
    return;
  }
  for (const button of buttons.children) button.disabled = false;
  result.textContent = word("not_kept", { why: answer ? await answer.text() : word("no_answer") });
}

function facts({ decision, at }) {
  const { sample, bundle, timings_us: took } = decision;
  const lines = [
    [word("id"), decision.id],
    [word("time"), day(at)],
    [word("state"), word(`state_${decision.state}`)],
    [word("source"), sample.source ?? ""],
    [word("part"), sample.part_id ?? ""],
    [word("file"), sample.path],
    [word("bundle"), `${bundle.name} ${bundle.version}, ${bundle.digest.slice(0, 19)}…`],
    [word("took"), word("milliseconds", { n: number(took.total / 1000, 1) })],
    [word("probabilities"), Object.entries(decision.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 5)
      .map(([name, p]) => `${name} ${percent(p)}`).join(", ")],
  ];
  return table(word("record"), [word("field"), word("value")], lines.filter(([, text]) => text !== ""));
}
