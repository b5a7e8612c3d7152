/* The report's curves: every run against steps and against compute, what was predicted beside them. */

import { chart, logTicks, lossDomain, short } from "./charts.js";

const { curves, predicted } = JSON.parse(document.getElementById("data").textContent);
const PREDICTED = "var(--other)";

/** Colours of the figures that have a lighter twin in the dark. */
const TWINS = { "#000000": "var(--full)", "#D55E00": "var(--grown)", "#009E73": "var(--small)", "#0072B2": "var(--between)" };
const inkOf = (curve) => TWINS[curve.color] ?? curve.color;

const pointsOf = (curve) => curve.step.map((step, i) => ({ curve, step, loss: curve.loss[i], flops: curve.flops?.[i] }));

/** From just below the lowest loss to a third above it, and to every final loss: where runs differ. */
function shownLosses() {
  const finals = curves.filter((curve) => !curve.faint).map((curve) => curve.loss[curve.loss.length - 1]);
  const best = Math.min(...finals);
  return lossDomain([best, Math.max(1.25 * best, ...finals)]);
}

function drawAgainst(id, x, label) {
  const domain = shownLosses(), lines = curves.filter((curve) => curve[x] && curve[x].length);
  const points = lines.flatMap(pointsOf), visible = points.filter((point) => point.loss <= domain[1] && !point.curve.faint);
  if (!visible.length) return;
  const grown = lines.filter((curve) => curve.tau !== null && !curve.faint);
  const expansions = [...new Set(grown.map((curve) => (x === "step" ? curve.tau : curve.flops[curve.step.findIndex((step) => step >= curve.tau)])))];
  const shown = [...visible.map((point) => point[x]), ...expansions];  // a rule outside would cross the chart beside
  const range = [Math.min(...shown), Math.max(...shown)];
  chart(id, `Validation loss against ${label}, a line for each run`, (width) => ({
    height: Math.round(Math.min(400, Math.max(270, 0.62 * width))),
    x: { ...logTicks(width), label: `${label} →`, domain: range },
    y: { label: "↑ loss (nats/token)", grid: true, domain },
    marks: [
      Plot.ruleX(expansions, { stroke: "var(--muted)", strokeDasharray: "2,3" }),
      ...lines.map((curve) => Plot.line(pointsOf(curve), { x, y: "loss", stroke: inkOf(curve), strokeDasharray: curve.dash, strokeWidth: curve.faint ? 1 : 1.8, strokeOpacity: curve.faint ? 0.45 : 1, clip: true })),
      ...(x === "step" && predicted ? [Plot.line(predicted.step.map((step, i) => ({ step, loss: predicted.loss[i] })), { x, y: "loss", stroke: PREDICTED, strokeDasharray: "5,3", strokeWidth: 1.6, clip: true })] : []),
      Plot.dot(lines.filter((curve) => !curve.faint).map((curve) => pointsOf(curve).pop()), { x, y: "loss", fill: (point) => inkOf(point.curve), r: 3.2 }),
      Plot.tip(visible, Plot.pointer({ x, y: "loss", stroke: (point) => inkOf(point.curve), title: (point) => `${point.curve.name}\nstep ${point.step.toLocaleString("en")}: ${point.loss.toFixed(4)}${point.flops ? `\n${short(point.flops)} FLOPs` : ""}` })),
    ],
  }));
}

function drawLegend() {
  const names = new Map(curves.map((curve) => [curve.name, curve]));
  if (predicted) names.set("predicted before the run", { color: PREDICTED, dash: "5,3" });
  document.getElementById("legend").replaceChildren(...[...names].map(([name, curve]) => {
    const item = document.createElement("li"), key = document.createElement("span");
    key.className = "line";
    key.style.borderTop = `3px ${curve.dash ? "dashed" : "solid"} ${inkOf(curve)}`;
    item.append(key, name);
    return item;
  }));
}

drawLegend();
if (!curves.some((curve) => curve.flops)) document.getElementById("charts").classList.add("one");
drawAgainst("steps", "step", "optimizer steps");
if (curves.some((curve) => curve.flops)) drawAgainst("compute", "flops", "training FLOPs");
else document.getElementById("against-compute").remove();
window.latebloom = { curves, predicted };
