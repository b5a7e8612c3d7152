/* What the charts of explorer and report have in common: numbers in words, colours, one way to draw and redraw. */

export const COLORS = { grown: "var(--grown)", small: "var(--small)", full: "var(--full)", between: "var(--between)" };

/** A number in at most `digits` significant digits, large and small ones as 2.6e12. */
export function short(value, digits = 3) {
  if (!Number.isFinite(value)) return "unknown";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e6 && size >= 1e-3) return Number(value.toPrecision(digits)).toLocaleString("en");
  return Number(value.toPrecision(digits)).toExponential().replace("e+", "e");
}

export const blocks = (depth) => `${depth} block${depth === 1 ? "" : "s"}`;
export const percent = (share) => (share > 0.995 && share < 1 ? "over 99 %" : share > 0 && share < 0.005 ? "under 1 %" : `${Math.round(100 * share)} %`);

const drawn = [];

/** Draw into the element `id`, again whenever its width changes; `options(width)` are Plot's. */
export function chart(id, label, options) {
  const place = document.getElementById(id);
  let entry = drawn.find((known) => known.place === place);
  if (!entry) {
    entry = { place };
    drawn.push(entry);
    new ResizeObserver(() => entry.width !== place.clientWidth && redraw(entry)).observe(place);
  }
  Object.assign(entry, { label, options });
  redraw(entry);
}

function redraw(entry) {
  const width = entry.place.clientWidth;
  if (!width) return;
  entry.width = width;
  const plot = Plot.plot({
    width, height: Math.round(Math.min(340, Math.max(230, 0.55 * width))), marginLeft: 46, marginBottom: 40,
    marginRight: 16, marginTop: 22, ariaLabel: entry.label, ...entry.options(width),
  });
  entry.place.replaceChildren(plot);
}

/** Losses that are shown: from just below the lowest to a little above the highest of `values`. */
export function lossDomain(values, share = 0.06) {
  const low = Math.min(...values), high = Math.max(...values), room = share * (high - low || Math.abs(low) || 1);
  return [low - room, high + room];
}

export const logTicks = (width) => ({ type: "log", ticks: Math.max(2, Math.round(width / 110)), tickFormat: (value) => short(value, 1) });
