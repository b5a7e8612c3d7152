/* The explorer: settings in, what theory.js says of them out, four views of it. */

import { AreaLaw, RecoveryField, SHAPES, Schedule, decide, disagreement, equalComputeMenu, flopsPerToken, grownArm, round } from "./theory.js";
import { COLORS, blocks, chart, logTicks, lossDomain, percent, short } from "./charts.js";

const DATA = JSON.parse(document.getElementById("data").textContent);
const LEVEL = 1.6449; // standard deviations of a 90 % interval
const FAR = 4; // times the longest pilot from which on a prediction is called a what-if
const BUDGETS = 25, CURVE_SHARES = 40, MAP_BUDGETS = 36, MAP_PRICES = 18;
const SCHEDULES = { wsd: "WSD", cosine: "cosine", linear: "linear", constant: "constant", inverse_sqrt: "1/sqrt" };

// --- a plan as the page's settings -----------------------------------------------------------------------------------

/** What a plan file says; an Error in plain words if this page cannot use it. */
function readPlan(plan) {
  if (!plan || typeof plan !== "object" || !plan.schedule || !plan.model || !plan.stages) throw new Error("This file is not a plan.");
  if (!SHAPES.includes(plan.schedule.shape)) throw new Error(`The explorer does not know the schedule "${plan.schedule.shape}".`);
  const landscape = readLandscape(plan);
  const cost = (depth) => plan.batch_tokens * flopsPerToken(plan.model, depth);
  const steps = plan.schedule.steps, starts = plan.stages.map((stage) => stage.start_step);
  const flops = plan.stages.reduce((sum, stage, i) => sum + cost(stage.depth) * ((starts[i + 1] ?? steps) - starts[i]), 0);
  const menu = plan.predicted?.menu ?? [];
  return {
    plan, landscape,
    between: menu.filter((row) => row.depths.length === 1).map((row) => row.depths[0])
      .filter((depth) => depth > landscape.small_depth && depth < landscape.full_depth && landscape.sure),
    settings: {
      horizon: Math.max(2, Math.round(flops / cost(landscape.full_depth))), schedule: plan.schedule.shape,
      decay: (plan.schedule.decay_steps ?? 0) / steps || 0.1, tokens: plan.batch_tokens, model: plan.model.name,
      small: landscape.small_depth, full: landscape.full_depth, dollars: 2,
    },
  };
}

function readLandscape(plan) {
  const field = plan.predicted?.field, p = plan.provenance?.parameters;
  if (field?.ends) return new RecoveryField(field, { ...DATA.prior, half_retained: field.prior.p0, ...field.prior }); // older plans: p0
  if (plan.provenance?.landscape === "area" && p) {
    const unit = { onset: p.onset, reference: p.reference };
    return new AreaLaw({
      small_depth: plan.stages[0].depth, full_depth: plan.stages[plan.stages.length - 1].depth, floor: p.floor,
      small_gap: p.small_gap, kappa: p.kappa, noise: p.noise, noise_rate: p.noise_rate,
      trunk: { amplitude: p.trunk_amplitude, exponent: p.trunk_exponent, ...unit },
      fresh: { amplitude: p.fresh_amplitude, exponent: p.fresh_exponent, ...unit },
    });
  }
  if (field) throw new Error("This plan was made before plans kept their pilots' ends; make it again with `latebloom plan`.");
  throw new Error("This plan has no fit that the explorer knows: make it with pilots (`latebloom plan --pilot`).");
}

// --- what the page shows of settings ---------------------------------------------------------------------------------

/** Everything below but drawing: `opened` is a read plan, `settings` where the sliders stand. */
export function explore(opened, settings) {
  const { landscape, plan } = opened, { small_depth: small, full_depth: full } = landscape;
  const known = DATA.models[settings.model], shape = settings.model === plan.model.name ? plan.model : known.shape;
  const asFitted = settings.small === small && settings.full === full && shape === plan.model;
  const shown = (depth) => (depth === small ? settings.small : depth === full ? settings.full : depth);
  const price = (depth) => settings.tokens * flopsPerToken(shape, shown(depth)); // of a step at a depth of the fit
  const schedule = scheduleOf(plan.schedule, settings), budget = settings.horizon * price(full);
  const between = asFitted ? opened.between : [];
  const common = { schedule, price, small, full };
  const menu = equalComputeMenu({ ...common, budget, between });
  if (!menu.length) throw new Error("This compute does not even buy the warm-up: take a longer horizon.");
  const decision = decide(landscape, menu);
  const named = (arm) => armName(arm, shown);
  return { opened, settings, landscape, common, budget, menu, decision, named, shown, asFitted, between, ratio: price(small) / price(full) };
}

/** The plan's schedule over the horizon, in the shape chosen. */
function scheduleOf(base, { schedule: shape, horizon, decay }) {
  const warmup_steps = Math.min(base.warmup_steps ?? 0, Math.max(0, horizon - 2));
  const data = { ...base, shape, steps: horizon, warmup_steps, final: base.final ?? 0 };
  if (shape === "wsd") Object.assign(data, { decay: base.decay ?? "linear", decay_steps: Math.min(round(decay * horizon), horizon - warmup_steps) });
  else Object.assign(data, { decay_steps: 0 });
  return new Schedule(data);
}

function armName(arm, shown) {
  const depths = arm.depths.map(shown);
  return arm.tau === null ? blocks(depths[0]) : `${depths[0]} → ${depths[1]}`;
}

const kindOf = (arm, { small_depth, full_depth }) =>
  arm.tau !== null ? "grown" : arm.depths[0] === small_depth ? "small" : arm.depths[0] === full_depth ? "full" : "between";

/** Expected losses, and 90 % bands where the landscape has them. */
function withBands(landscape, arms) {
  if (!landscape.sure) return landscape.means(arms, 400).map((mean) => ({ mean, low: mean, high: mean }));
  const { mean, deviation } = landscape.spread(arms);
  return mean.map((value, i) => ({ mean: value, low: value * Math.exp(-LEVEL * deviation[i]), high: value * Math.exp(LEVEL * deviation[i]) }));
}

const spaced = (low, high, count) => Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));

/** Every arm's expected final loss at several amounts of compute. */
export function lossAgainstCompute({ landscape, common, budget, between }) {
  const budgets = spaced(budget / 4, budget * 6, BUDGETS), arms = [];
  for (const flops of budgets) {
    const menu = equalComputeMenu({ ...common, budget: flops, between }), loss = landscape.means(menu, 400);
    let best = null;
    menu.forEach((arm, i) => {
      if (arm.tau === null) arms.push({ arm, flops });
      else if (best === null || loss[i] < loss[best]) best = i;
    });
    if (best !== null) arms.push({ arm: menu[best], flops });
  }
  const bands = withBands(landscape, arms.map(({ arm }) => arm));
  return arms.map(({ arm, flops }, i) => ({ flops, arm, kind: kindOf(arm, landscape), series: arm.tau === null ? arm.depths[0] : "grown", ...bands[i] }));
}

/** Expected final loss of growing at each share of the run. */
export function lossAgainstShare({ landscape, common, budget }) {
  const shares = Array.from({ length: CURVE_SHARES }, (_, i) => (i + 1) / (CURVE_SHARES + 1));
  const arms = shares.map((share) => grownArm({ ...common, budget, share })).filter(Boolean);
  const bands = withBands(landscape, arms);
  return arms.map((arm, i) => ({ share: arm.tau / arm.steps, arm, ...bands[i] }));
}

/** Which way is expected to end lowest, over compute and the price of a step of the small depth, c_l/c_L. */
export function verdictMap({ landscape, common, budget }) {
  const { full, small, schedule } = common, atFull = common.price(full), cells = [];
  const budgets = spaced(budget / 10, budget * 40, MAP_BUDGETS + 1);
  for (let i = 0; i < MAP_BUDGETS; i++)
    for (let j = 0; j < MAP_PRICES; j++) {
      const ratio = (j + 0.5) / MAP_PRICES, price = (depth) => (depth === small ? ratio * atFull : atFull);
      const menu = equalComputeMenu({ schedule, price, small, full, budget: Math.sqrt(budgets[i] * budgets[i + 1]) });
      if (menu.length < 3) continue;
      const loss = landscape.means(menu, 100), least = {};
      menu.forEach((arm, k) => (least[kindOf(arm, landscape)] = Math.min(least[kindOf(arm, landscape)] ?? Infinity, loss[k])));
      const [[best, lowest], [, second]] = Object.entries(least).sort((a, b) => a[1] - b[1]);
      cells.push({ x1: budgets[i], x2: budgets[i + 1], y1: j / MAP_PRICES, y2: (j + 1) / MAP_PRICES, best, margin: second - lowest });
    }
  return cells;
}

// --- in words --------------------------------------------------------------------------------------------------------

function words(result) {
  const { decision, named, shown, landscape, budget, settings } = result, { choices, best, growth } = decision;
  const chosen = choices[best], arm = chosen.arm, digits = (loss) => loss.toFixed(2);
  const what = arm.tau === null
    ? `train ${named(arm)} for ${arm.steps.toLocaleString("en")} steps`
    : `train ${blocks(shown(arm.depths[0]))} for ${arm.tau.toLocaleString("en")} of ${arm.steps.toLocaleString("en")} steps, then grow to ${shown(arm.depths[1])}`;
  const head = { grow: "Grow: ", "do not grow": "Do not grow: ", "not decided": "Not decided; the least loss is expected if you " }[decision.head] + what + ".";
  const others = choices.filter((choice, i) => i !== best && (choice.arm.tau === null || i === growth)).sort((a, b) => a.mean - b.mean);
  const told = [`${named(arm)} ${arm.tau === null && shown(arm.depths[0]) !== 1 ? "end" : "ends"} at ${digits(chosen.mean)}`, ...others.map((choice) => `${named(choice.arm)} at ${digits(choice.mean)}`)];
  const dollars = (budget / 1e18) * settings.dollars;
  const expected = `Expected at this compute (${short(budget)} FLOPs, ${money(dollars)}): ${told.join(", ")} nats per token.`;
  const sure = landscape.sure
    ? `How sure: ${percent(chosen.p_best)} that nothing else on the menu ends lower, ${percent(decision.p_grow)} that growing is best.`
    : "How sure is not known: an area law is one curve without an interval. Pilots with --law field would say.";
  return { head, expected, sure: [sure, ...reservations(result, arm)].join(" ") };
}

/** What makes this a what-if and no forecast. */
function reservations({ opened, landscape, asFitted }, arm) {
  const told = [];
  if (!asFitted) told.push(`the losses are those of ${opened.plan.model.name} with ${landscape.small_depth} and ${landscape.full_depth} blocks`);
  const beyond = landscape.sure ? (arm.before + arm.after) / longestArea(landscape) : 1;
  if (beyond > FAR) told.push(`this run is ${short(beyond, 2)} times the longest pilot`);
  return told.length ? [`But it is a what-if, not a forecast: ${told.join(", and ")}.`] : [];
}

const longestArea = (landscape) => Math.max(...landscape.runs.map((run) => run.before + run.after)) * landscape.reference;

const money = (dollars) => (dollars < 0.01 ? "under 1 cent" : dollars < 0.015 ? "1 cent" : dollars < 1 ? `${Math.round(100 * dollars)} cents` : `$${dollars < 100 ? dollars.toFixed(2) : Math.round(dollars).toLocaleString("en")}`);

function fitText({ opened, landscape, asFitted, settings }) {
  const { plan } = opened, pilots = landscape.sure ? landscape.runs.filter((run) => run.curve === null).length : 0;
  const peak = plan.schedule.peak_lr;
  const told = [`${plan.name}: ${plan.model.name}, ${landscape.small_depth} → ${landscape.full_depth} blocks, ${landscape.sure ? `recovery field of ${pilots} pilots` : "area law"}.`];
  if (landscape.sure) told.push(`The longest pilot is like ${short(longestArea(landscape) / peak)} steps at the peak rate; beyond it everything is extrapolated.`);
  const costs = plan.predicted?.pilots;
  if (costs) told.push(`The pilots cost ${short(costs.flops)} FLOPs, ${money((costs.flops / 1e18) * settings.dollars)}.`);
  if (!asFitted) told.push("Other depths or another shape change prices only: losses stay those of the fit.");
  if (settings.tokens !== plan.batch_tokens) told.push("So does another number of tokens a step.");
  if (settings.schedule !== plan.schedule.shape) told.push("The pilots did not see this schedule: its area stands in for it.");
  return told.join(" ");
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function colorOf(point) {
  return COLORS[point.kind];
}

function drawCompute(result) {
  const points = lossAgainstCompute(result), { budget, named } = result;
  const series = [...groups(points)];
  chart("compute", "Expected final loss against training compute, a line for each way to spend it", (width) => ({
    x: { ...logTicks(width), label: "training FLOPs →", domain: [points[0].flops, points[points.length - 1].flops] },
    y: { label: "↑ final loss (nats/token)", grid: true, domain: lossDomain(points.map((point) => point.mean)) },
    marks: [
      ...series.map((line) => Plot.areaY(line, { x: "flops", y1: "low", y2: "high", fill: colorOf(line[0]), fillOpacity: 0.13, clip: true })),
      ...series.map((line) => Plot.line(line, { x: "flops", y: "mean", stroke: colorOf(line[0]), strokeWidth: 2, clip: true })),
      Plot.ruleX([budget], { stroke: "currentColor", strokeDasharray: "2,3" }),
      Plot.tip(points, Plot.pointer({ x: "flops", y: "mean", stroke: colorOf, title: (point) => `${named(point.arm)}${point.arm.tau === null ? "" : ` at ${percent(point.arm.tau / point.arm.steps)} of the run`}\n${short(point.flops)} FLOPs, ${short(point.arm.steps)} steps\n${bandText(point)}` })),
    ],
  }));
  document.getElementById("compute-caption").textContent = `Final losses of whole runs, each with a schedule of its own; the dashed line is this compute${result.landscape.sure ? ", bands are 90 % intervals" : ""}.`;
  const seen = new Map(series.map((line) => [line[0].kind === "grown" ? `${named(line[0].arm)}, grown at the best step` : named(line[0].arm), colorOf(line[0])]));
  document.getElementById("legend").replaceChildren(...[...seen].map(([name, color]) => legendItem(name, color)));
}

function groups(points) {
  const found = new Map();
  points.forEach((point) => found.set(point.series, [...(found.get(point.series) ?? []), point]));
  return found.values();
}

function legendItem(name, color) {
  const item = document.createElement("li"), key = document.createElement("span");
  key.className = "key";
  key.style.background = color;
  item.append(key, name);
  return item;
}

const bandText = ({ mean, low, high }) => (low === high ? `${mean.toFixed(3)} nats` : `${mean.toFixed(3)} nats [${low.toFixed(3)}, ${high.toFixed(3)}]`);

function drawWhen(result) {
  const points = lossAgainstShare(result), { decision, landscape, named, shown } = result;
  const fixed = decision.choices.filter(({ arm }) => arm.tau === null).map((choice) => ({ ...choice, kind: kindOf(choice.arm, landscape) }));
  const caption = document.getElementById("when-caption");
  if (!points.length) {
    document.getElementById("when").replaceChildren();
    caption.textContent = "This compute buys no run that grows.";
    return;
  }
  const least = points.reduce((a, b) => (a.mean <= b.mean ? a : b));
  chart("when", "Expected final loss of growing against the share of the run at which it grows, beside never growing", () => ({
    x: { label: "grown at this share of its steps →", domain: [0, 1], tickFormat: "%", ticks: 5 },
    y: { label: "↑ final loss (nats/token)", grid: true, domain: lossDomain([...points, ...fixed].map((point) => point.mean), 0.25) },
    marks: [
      Plot.areaY(points, { x: "share", y1: "low", y2: "high", fill: COLORS.grown, fillOpacity: 0.13, clip: true }),
      ...fixed.map((choice) => Plot.ruleY([choice.mean], { stroke: COLORS[choice.kind], strokeWidth: 1.6 })),
      Plot.text(fixed, { x: 0.01, y: "mean", text: (choice) => named(choice.arm), dy: -7, textAnchor: "start", fill: colorOf, stroke: "var(--ground)", strokeWidth: 4 }),
      Plot.line(points, { x: "share", y: "mean", stroke: COLORS.grown, strokeWidth: 2 }),
      Plot.dot([least], { x: "share", y: "mean", fill: COLORS.grown, r: 4 }),
      Plot.tip(points, Plot.pointerX({ x: "share", y: "mean", stroke: COLORS.grown, title: (point) => `grown at step ${point.arm.tau.toLocaleString("en")} of ${point.arm.steps.toLocaleString("en")}\n${bandText(point)}` })),
    ],
  }));
  caption.textContent = `${shown(landscape.small_depth)} → ${shown(landscape.full_depth)} at this compute: earlier growth is longer at the full depth and so has fewer steps. The dot is the best step; straight lines never grow.`;
}

function drawMap(result) {
  const cells = verdictMap(result), { budget, ratio, shown, landscape, common } = result;
  const seen = landscape.sure ? common.price(common.full) * (longestArea(landscape) / common.schedule.peak_lr) : Infinity;
  const names = { small: `${blocks(shown(landscape.small_depth))}, never grown`, grown: "grow", full: `${blocks(shown(landscape.full_depth))} from the start` };
  chart("map", "Map of the best way to train over compute and over the price of a small step", (width) => ({
    height: Math.round(Math.min(360, Math.max(240, 0.42 * width))),
    x: { ...logTicks(width), label: "training FLOPs →", domain: cells.length ? [cells[0].x1, cells[cells.length - 1].x2] : undefined },
    y: { label: "↑ price of a step of the small depth / of the full one", domain: [0, 1], ticks: 5, tickFormat: "%" },
    marks: [
      Plot.rect(cells, { x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill: (cell) => COLORS[cell.best], fillOpacity: (cell) => 0.2 + 0.65 * Math.min(1, cell.margin / 0.05), shapeRendering: "crispEdges" }),
      Plot.ruleX(cells.length && seen < cells[cells.length - 1].x2 ? [Math.max(seen, cells[0].x1)] : [], { stroke: "var(--text)", strokeDasharray: "2,3" }),
      Plot.dot([{}], { x: () => budget, y: () => ratio, r: 6, fill: "var(--ground)", stroke: "var(--text)", strokeWidth: 2.5 }),
      Plot.tip(cells, Plot.pointer({ x: (cell) => Math.sqrt(cell.x1 * cell.x2), y: (cell) => (cell.y1 + cell.y2) / 2, title: (cell) => `${names[cell.best]}\nby ${cell.margin.toFixed(3)} nats` })),
    ],
  }));
  const place = document.getElementById("map-caption"), found = [...new Set(cells.map((cell) => cell.best))];
  const list = document.createElement("ul");
  list.className = "legend";
  list.append(...found.map((kind) => legendItem(names[kind], COLORS[kind])));
  place.replaceChildren(list, "Which of the three is expected to end lowest. The circle is where you are; pale colours differ by less than .05 nats, which few runs can tell. A wide vocabulary or a deep small model makes small steps dear." + (landscape.sure ? " Right of the dashed line even the full depth runs longer than the longest pilot: an extrapolation." : ""));
}

function drawTable(result) {
  const { decision, named, landscape } = result, table = document.getElementById("arms");
  const cell = (tag, text, small = "") => {
    const made = Object.assign(document.createElement(tag), { textContent: text });
    if (tag === "th") made.scope = "col";
    if (small) made.append(" ", Object.assign(document.createElement("small"), { textContent: small }));
    return made;
  };
  const row = (cells) => {
    const line = document.createElement("tr");
    line.append(...cells);
    return line;
  };
  const head = document.createElement("thead"), body = document.createElement("tbody");
  const titles = ["blocks", "grown at", "steps", "expected loss", ...(landscape.sure ? ["best"] : [])];
  head.append(row(titles.map((title) => cell("th", title))));
  const order = decision.choices.map((_, i) => i).sort((a, b) => decision.choices[a].mean - decision.choices[b].mean);
  for (const i of order) {
    const { arm, mean, low, high, p_best } = decision.choices[i];
    const line = row([
      cell("td", named(arm)),
      cell("td", arm.tau === null ? "never" : arm.tau.toLocaleString("en")),
      cell("td", arm.steps.toLocaleString("en")),
      cell("td", mean.toFixed(3), landscape.sure ? `${low.toFixed(2)} to ${high.toFixed(2)}` : ""),
      ...(landscape.sure ? [cell("td", percent(p_best))] : []),
    ]);
    if (i === decision.best) line.className = "best";
    body.append(line);
  }
  const caption = document.createElement("caption");
  caption.textContent = landscape.sure ? "Lowest expected loss first, nats per token with 90 % intervals; last, the probability that no other way ends lower." : "Lowest expected loss first, nats per token.";
  table.replaceChildren(caption, head, body);
}

// --- controls --------------------------------------------------------------------------------------------------------

const LOG = { to: (value) => Math.log10(value), from: (position) => 10 ** position };
const KNOBS = [
  { name: "horizon", place: "the-run", label: "Horizon: steps of the full depth", scale: LOG, low: 20, high: 1e6, step: 0.01, whole: true, text: (value) => value.toLocaleString("en") },
  { name: "tokens", place: "the-run", label: "Tokens a step", scale: LOG, low: 64, high: 1e7, step: 0.01, whole: true, text: (value) => (value < 1e6 ? value.toLocaleString("en") : short(value)) },
  { name: "schedule", place: "the-run", label: "Schedule", options: () => SCHEDULES },
  { name: "decay", place: "the-run", label: "Decay, share of the run (WSD)", low: 0.01, high: 1, step: 0.01, text: percent },
  { name: "model", place: "the-model", label: "Shape", options: () => ({ [opened.plan.model.name]: opened.plan.model.name, ...Object.fromEntries(Object.keys(DATA.models).map((name) => [name, name])) }) },
  { name: "small", place: "the-model", label: "Small depth", low: 0, high: 40, step: 1, whole: true, text: blocks },
  { name: "full", place: "the-model", label: "Full depth", low: 1, high: 100, step: 1, whole: true, text: blocks },
  { name: "dollars", place: "the-price", label: "Price of 1e18 FLOPs, .7 hours of an H100", scale: LOG, low: 0.01, high: 100, step: 0.01, text: (value) => `$${value.toFixed(2)}` },
];
let opened, settings;

function buildControls() {
  for (const knob of KNOBS) {
    const label = document.createElement("label");
    label.className = "control";
    label.append(knob.label);
    if (knob.options) {
      knob.input = document.createElement("select");
      label.append(knob.input);
    } else {
      knob.scale ??= { to: (value) => value, from: (value) => value };
      knob.output = document.createElement("output");
      knob.input = Object.assign(document.createElement("input"), { type: "range", min: knob.scale.to(knob.low), max: knob.scale.to(knob.high), step: knob.step });
      label.append(knob.output, knob.input);
    }
    knob.input.id = label.htmlFor = knob.name; // named: an output inside a label would be what it labels
    knob.input.addEventListener("input", () => {
      const value = knob.options ? knob.input.value : knob.scale.from(Number(knob.input.value));
      change({ [knob.name]: knob.whole ? Math.round(value) : value });
    });
    document.getElementById(knob.place).append(label);
  }
}

/** Controls where the settings are. */
function showSettings() {
  for (const knob of KNOBS) {
    const value = settings[knob.name];
    if (knob.options) {
      const options = Object.entries(knob.options()).map(([name, text]) => new Option(text, name, false, name === value));
      knob.input.replaceChildren(...options);
      continue;
    }
    if (document.activeElement !== knob.input) knob.input.value = knob.scale.to(value);
    knob.output.textContent = knob.text(value);
    knob.input.setAttribute("aria-valuetext", knob.text(value));
  }
  document.getElementById("decay").disabled = settings.schedule !== "wsd";
}

function change(changed) {
  const wanted = { ...settings, ...changed };
  if (changed.model && DATA.models[changed.model] && changed.model !== opened.plan.model.name) wanted.full = DATA.models[changed.model].depth;
  else if (changed.model) wanted.full = opened.settings.full;
  if (wanted.full <= wanted.small) {
    if ("small" in changed) wanted.full = wanted.small + 1;
    else wanted.small = wanted.full - 1;
  }
  settings = wanted;
  showSettings();
  history.replaceState(null, "", `#${new URLSearchParams(Object.entries(settings).filter(([name, value]) => value !== opened.settings[name]))}`);
  show();
}

let later = 0;

/** Answer at once, the charts when the sliders rest. */
function show() {
  const began = performance.now();
  try {
    const result = explore(opened, settings), told = words(result);
    for (const id of ["head", "expected", "sure"]) document.getElementById(id).textContent = told[id];
    document.getElementById("fit").textContent = fitText(result);
    drawTable(result);
    notice("");
    clearTimeout(later);
    later = setTimeout(() => [drawCompute, drawWhen, drawMap].forEach((draw) => draw(result)), 30);
    window.latebloom = { ...window.latebloom, settings, result, milliseconds: performance.now() - began };
    if (parent !== window) parent.postMessage({ latebloom: { settings, ...told } }, "*"); // in a notebook, widget.js listens
  } catch (error) {
    notice(error.message);
  }
}

function notice(text) {
  const place = document.getElementById("notice");
  place.hidden = !text;
  place.textContent = text;
}

/** Show another plan, or the words why not. */
function open(plan) {
  try {
    opened = readPlan(plan);
  } catch (error) {
    notice(error.message);
    return;
  }
  settings = { ...opened.settings };
  showSettings();
  show();
}

async function openFile(file) {
  try {
    open(JSON.parse(await file.text()));
  } catch {
    notice(`${file.name} is not a JSON file.`);
  }
}

/** Settings in the page's address, so that a view can be kept and sent. */
function fromAddress() {
  const found = {};
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    const knob = KNOBS.find((each) => each.name === name), number = Number(value);
    if (!knob) continue;
    if (knob.options ? value in knob.options() : number >= knob.low && number <= knob.high) found[name] = knob.options ? value : knob.whole ? Math.round(number) : number;
  }
  return found;
}

buildControls();
open(DATA.plan);
const asked = fromAddress();
if (Object.keys(asked).length) change(asked);
document.getElementById("file").addEventListener("change", (event) => event.target.files[0] && openFile(event.target.files[0]));
document.getElementById("controls").addEventListener("reset", (event) => {
  event.preventDefault();
  document.activeElement?.blur?.();
  change(opened.settings);
});
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
});
setTimeout(() => {
  const worst = disagreement(DATA.golden, DATA.prior), largest = Math.max(...Object.values(worst)), count = DATA.golden.settings.length;
  window.latebloom = { ...window.latebloom, worst };
  const agreement = document.getElementById("agreement");
  agreement.textContent = largest < 1e-12
    ? `Checked when it opened: in ${count} settings this page and the Python package agree to ${largest.toExponential(0)} of every number.`
    : `Do not trust this page: in ${count} settings it differs from the Python package by up to ${largest.toExponential(0)}. Write it again with \`latebloom explorer\`.`;
  if (!(largest < 1e-12)) notice(agreement.textContent);
}, 300);
