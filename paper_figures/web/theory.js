/* Port of what the explorer needs of latebloom.theory: schedules, prices, the menu of equal compute, the area law and the
 * recovery field. Names and formulas are those of the Python modules named in the comments; tests/test_explorer.py holds
 * every function here against them, in node and in Chromium, and the page does so again when it opens.
 *
 * Areas are learning rate x steps, losses nats per token, and data (schedules, shapes, laws, pilots' ends) are the plain
 * objects of a plan file.
 */

/** Python's round: half to even. */
export function round(x) {
  const nearest = Math.round(x);
  return Math.abs(x % 1) === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

// --- theory/decay_shapes.py: s_i and sum_{i<m} s_i of a decay over n steps from 1 to f -------------------------------

const ZETA_OF_MINUS_HALF = -0.20788622497735457;
const ZETA_OF_HALF = -1.4603545088095868;

/** sum_{i=1}^m i^p, p = 1/2 or -1/2: Euler-Maclaurin from 16 on. */
export function powerSum(m, p) {
  if (m < 16) {
    let sum = 0;
    for (let i = 1; i <= m; i++) sum += i ** p;
    return sum;
  }
  const zeta = p > 0 ? ZETA_OF_MINUS_HALF : ZETA_OF_HALF;
  let sum = zeta + m ** (p + 1) / (p + 1) + m ** p / 2;
  let falling = 1, next = 0;
  for (const [count, bernoulli] of [[1, 12], [3, -720], [5, 30240], [7, -1209600]]) {
    while (next < count) falling *= p - next++;
    sum += (falling / bernoulli) * m ** (p - count);
  }
  return sum;
}

const DECAYS = {
  linear: [
    (i, n, f) => 1 - ((1 - f) * i) / n,
    (m, n, f) => m - ((1 - f) * m * (m - 1)) / (2 * n),
  ],
  cosine: [
    (i, n, f) => f + (1 - f) * 0.5 * (1 + Math.cos((Math.PI * i) / n)),
    (m, n, f) => {
      const x = Math.PI / n;
      return f * m + (1 - f) * 0.5 * (m + (Math.sin((m * x) / 2) * Math.cos(((m - 1) * x) / 2)) / Math.sin(x / 2));
    },
  ],
  sqrt: [
    (i, n, f) => 1 - (1 - f) * Math.sqrt(i / n),
    (m, n, f) => m - ((1 - f) / Math.sqrt(n)) * powerSum(Math.max(m - 1, 0), 0.5),
  ],
  exponential: [
    (i, n, f) => f ** (i / n),
    (m, n, f) => (f === 1 ? m : Math.expm1((m * Math.log(f)) / n) / Math.expm1(Math.log(f) / n)),
  ],
};

// --- theory/schedules.py ---------------------------------------------------------------------------------------------

export const SHAPES = ["wsd", "cosine", "linear", "constant", "inverse_sqrt"];

/** Learning rates of `data.steps` updates; `data` is a plan's schedule. */
export class Schedule {
  constructor(data) {
    if (!SHAPES.includes(data.shape)) throw new Error(`schedule "${data.shape}" is not known to this page`);
    Object.assign(this, { warmup_steps: 0, decay_steps: 0, decay: "linear", final: 0, timescale: 1 }, data);
  }
  get #after() {
    return Math.max(this.steps - this.warmup_steps, 1);
  }
  #unit(i) {
    if (this.shape === "constant") return 1;
    if (this.shape === "inverse_sqrt") return 1 / Math.sqrt(1 + i / this.timescale);
    if (this.shape !== "wsd") return DECAYS[this.shape][0](i, this.#after, this.final);
    const j = i - (this.steps - this.warmup_steps - this.decay_steps);
    return j < 0 ? 1 : DECAYS[this.decay][0](j, Math.max(this.decay_steps, 1), this.final);
  }
  #unitArea(m) {
    if (this.shape === "constant") return m;
    if (this.shape === "inverse_sqrt") {
      const c = this.timescale;
      return Math.sqrt(c) * (powerSum(c + m - 1, -0.5) - powerSum(c - 1, -0.5));
    }
    if (this.shape !== "wsd") return DECAYS[this.shape][1](m, this.#after, this.final);
    const stable = this.steps - this.warmup_steps - this.decay_steps;
    const decayed = DECAYS[this.decay][1](Math.max(m - stable, 0), Math.max(this.decay_steps, 1), this.final);
    return Math.min(m, stable) + decayed;
  }
  /** Learning rate of update `step`, a whole number. */
  lr(step) {
    const w = this.warmup_steps;
    return this.peak_lr * (step < w ? (step + 1) / w : this.#unit(step - w));
  }
  /** S(t): sum of the learning rates of the first t updates, linear between whole numbers. */
  area(t) {
    const whole = Math.min(Math.floor(t), this.steps - 1), w = this.warmup_steps, m = Math.min(whole, w);
    const units = (m * (m + 1)) / (2 * Math.max(w, 1)) + this.#unitArea(Math.max(whole - w, 0));
    return this.peak_lr * units + (t - whole) * this.lr(whole);
  }
  get totalArea() {
    return this.area(this.steps);
  }
  /** Smallest t with S(t) = area. */
  areaInverse(area) {
    let low = 0, high = this.steps;
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.area(middle) < area) low = middle;
      else high = middle;
    }
    const start = this.area(low), lr = this.lr(Math.min(low, this.steps - 1));
    return low + Math.min(1, Math.max(0, area > start ? (area - start) / (lr > 0 ? lr : 1) : 0));
  }
  /** Same shape, warm-up and decay in their shares. */
  withSteps(steps) {
    const share = (count) => round((count * steps) / this.steps), warmup_steps = share(this.warmup_steps);
    const decay_steps = Math.min(share(this.decay_steps), steps - warmup_steps);
    return new Schedule({ ...this, steps, warmup_steps, decay_steps });
  }
  /** theory.menu.schedule_for: the warm-up kept in steps, the decay in its share. */
  forHorizon(steps) {
    const scaled = this.withSteps(steps), warmup_steps = this.warmup_steps;
    return new Schedule({ ...scaled, warmup_steps, decay_steps: Math.min(scaled.decay_steps, steps - warmup_steps) });
  }
}

// --- theory/cost.py --------------------------------------------------------------------------------------------------

/** Training FLOPs per token at `depth` blocks; `model` is a plan's shape, of family GPT-2 or LLAMA. */
export function flopsPerToken(model, depth) {
  const d = model.width, block = model.block;
  const weights = block
    ? 2 * d * d + 2 * d * ((d / model.heads) * block.kv_heads) + 3 * d * block.hidden
    : 12 * d * d;
  return 6 * (model.vocab_size * d + depth * weights) + 12 * depth * model.context * d;
}

// --- theory/menu.py --------------------------------------------------------------------------------------------------

export const SHARES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/** One arm: what a run of these depths, grown at `tau` (null: never), costs and the areas that it has. */
export function makeArm({ schedule, price, small, depths, tau, steps }) {
  const rates = schedule.forHorizon(steps), total = rates.totalArea;
  const before = tau !== null ? rates.area(tau) : depths[0] === small ? total : 0;
  const last = depths[depths.length - 1], grown = tau ?? 0;
  const flops = price(last) * (steps - grown) + price(depths[0]) * grown;
  return { depths, tau, steps, flops, before, after: total - before, rates };
}

/** Every arm that `budget` FLOPs buy: fixed depths in ascending order, then growth at each share. */
export function equalComputeMenu({ schedule, price, small, full, budget, between = [], shares = SHARES }) {
  const shortest = schedule.warmup_steps + 2, common = { schedule, price, small }, arms = [];
  for (const depth of [small, ...between, full]) {
    const steps = round(budget / price(depth));
    if (steps >= shortest) arms.push(makeArm({ ...common, depths: [depth], tau: null, steps }));
  }
  for (const share of shares) {
    const arm = grownArm({ ...common, full, budget, share });
    if (arm) arms.push(arm);
  }
  return arms;
}

/** Growth at one share of its own run of `budget` FLOPs; null if there is no such run. */
export function grownArm({ schedule, price, small, full, budget, share }) {
  const ratio = price(small) / price(full);
  const steps = round(budget / (price(full) * (ratio * share + 1 - share))), tau = round(share * steps);
  if (steps < schedule.warmup_steps + 2 || tau <= 0 || tau >= steps) return null;
  return makeArm({ schedule, price, small, depths: [small, full], tau, steps });
}

// --- theory/landscapes/area.py ---------------------------------------------------------------------------------------

const SEGMENTS = 20000;

/** a ((S + S0)/S_ref)^-s; s = 0 is -a ln. */
export function signal(law, area) {
  const ratio = (area + law.onset) / law.reference;
  return law.amplitude * (law.exponent ? ratio ** -law.exponent : -Math.log(ratio));
}

/** Area at which the signal has come down to `value`. */
export function signalInverse(law, value) {
  if (law.amplitude === 0) return value >= 0 ? 0 : Infinity;
  const ratio = value / law.amplitude;
  if (law.exponent && ratio <= 0) return Infinity;
  const shifted = law.exponent ? ratio ** (-1 / law.exponent) : Math.exp(-ratio);
  return Math.max(0, shifted * law.reference - law.onset);
}

/** Response of the noise floor to the schedule at step t, in units of learning rate; in `segments` pieces at most. */
export function noiseResponse(schedule, t, rate, segments = SEGMENTS) {
  const count = Math.min(segments, schedule.steps), width = schedule.steps / count, now = schedule.area(t);
  let sum = 0, last = 0, lastArea = 0, kernel = 1 / (1 + rate * now);
  for (let i = 1; i <= count; i++) {
    const step = i === count ? schedule.steps : round(i * width);
    if (step === last) continue;
    const area = schedule.area(step), next = 1 / (1 + rate * Math.max(now - area, 0));
    sum += ((next - kernel) * (area - lastArea)) / (step - last);
    [last, lastArea, kernel] = [step, area, next];
  }
  return sum;
}

/** A landscape that knows one number for each run; `law` is an AreaLaw as data. */
export class AreaLaw {
  constructor(law) {
    Object.assign(this, law);
    this.sure = false;
  }
  fixed(schedule, t, isFull) {
    const area = schedule.area(t), body = isFull ? signal(this.fresh, area) : this.small_gap;
    return this.floor + signal(this.trunk, area) + body + this.#noise(schedule, t);
  }
  grown(schedule, t, tau) {
    const area = schedule.area(t), since = Math.max(area - schedule.area(tau), 0);
    const body = t > tau ? this.kappa * signal(this.fresh, since) : this.small_gap;
    return this.floor + signal(this.trunk, area) + body + this.#noise(schedule, t);
  }
  /** u_mix: area to leave so that growing costs at most `tolerance` nats. */
  mixingArea(tolerance, total) {
    return this.kappa === 0 ? 0 : signalInverse(this.fresh, (signal(this.fresh, total) + tolerance) / this.kappa);
  }
  /** Latest step that leaves it; null if growing costs more whenever it happens. */
  tauStar(schedule, tolerance) {
    const total = schedule.totalArea, area = this.mixingArea(tolerance, total);
    if (area >= total) return null;
    return area ? schedule.areaInverse(total - area) : schedule.steps;
  }
  #noise(schedule, t) {
    return this.noise ? this.noise * noiseResponse(schedule, t, this.noise_rate, this.segments) : 0;
  }
  /** Final losses of arms, the noise in at most `segments` pieces: few are enough for a picture. */
  means(arms, segments = SEGMENTS) {
    const law = segments === SEGMENTS ? this : new AreaLaw({ ...this, segments });
    return arms.map(({ rates, steps, tau, depths }) =>
      tau === null ? law.fixed(rates, steps, depths[0] !== law.small_depth) : law.grown(rates, steps, tau));
  }
}

// --- theory/fitting/recovery_field.py --------------------------------------------------------------------------------

const KEPT_WEIGHT = 0.995;
const STEEPEST_BEND = 1;

/** q = ln((d + 1)/(l + 1)) / ln((L + 1)/(l + 1)). */
export const depthShare = (depth, small, full) => Math.log((depth + 1) / (small + 1)) / Math.log((full + 1) / (small + 1));

/** Matern 5/2 correlation. */
const matern = (distance) => {
  const apart = Math.sqrt(5) * Math.abs(distance);
  return (1 + apart + apart ** 2 / 3) * Math.exp(-apart);
};

const VAGUE = 4; // columns of what is vague

/** The posterior of what growing recovers. `data` holds small_depth, full_depth, reference, ends and curve of a plan's
 * field, `prior` the hyperparameters of FieldPrior. Matrices are rows one after another. What is vague is a regression's
 * columns and stands apart from the Gaussian's matrix, as in theory/fitting/recovery_field.py: else seven digits are lost. */
export class RecoveryField {
  constructor(data, prior) {
    Object.assign(this, { small_depth: data.small_depth, full_depth: data.full_depth, reference: data.reference });
    this.prior = prior;
    this.sure = true;
    const ends = data.ends, curve = data.curve ?? { area: [], loss: [], noise: 0 };
    this.scale = Math.min(...ends.map((end) => end.loss));
    this.runs = [
      ...ends.map((end) => this.#run(end.area_before, end.area - end.area_before, end.depth, { seed: end.seed, trunk: end.trunk })),
      ...curve.area.map((area, i) => this.#run(area, 0, this.small_depth, { curve: curve.noise / curve.loss[i] })),
    ];
    this.logs = Float64Array.from([...ends.map((end) => end.loss), ...curve.loss], (loss) => Math.log(loss / this.scale));
    this.#fit();
  }

  /** A run in units of the reference area; without a seed it is an expected loss, `curve` the relative noise of a curve's point. */
  #run(before, after, depth, { seed = null, trunk = null, curve = null } = {}) {
    const share = depthShare(depth, this.small_depth, this.full_depth), t = (before + after) / this.reference;
    return { before: before / this.reference, after: after / this.reference, share, t, logT: Math.log(t), seed, trunk, curve };
  }

  #asked(arms) {
    return arms.map((arm) => this.#run(arm.before, arm.after, arm.depths[arm.depths.length - 1]));
  }

  /** Weights of the grid's points, and those that matter with what predictions need of them. */
  #fit() {
    const p = this.prior, pairs = this.#pairs(this.runs, this.runs, true), all = [];
    for (const shape of shapesOf(p)) {
      const columns = this.#basis(this.runs, shape);
      for (const amplitude of p.amplitudes)
        for (const discrepancy of p.discrepancies)
          for (const noise of p.noises) {
            const point = { amplitude, shape, discrepancy, noise, columns, fall: 0 };
            const given = this.#condition(pairs, columns, point);
            let log = given.likelihood - p.onset_power * Math.log1p(shape.onset);
            log -= 0.5 * (Math.log(noise / p.noise_typical) / p.noise_spread) ** 2;
            log -= p.amplitude_power * Math.log(amplitude) + p.discrepancy_power * Math.log(discrepancy);
            all.push({ ...point, ...given, log });
          }
    }
    const largest = all.reduce((most, point) => Math.max(most, point.log), -Infinity);
    const total = all.reduce((sum, point) => sum + Math.exp(point.log - largest), 0);
    all.forEach((point) => (point.weight = Math.exp(point.log - largest) / total));
    all.sort((a, b) => b.weight - a.weight);
    let sum = 0, count = 0;
    while (sum < KEPT_WEIGHT && count < all.length) sum += all[count++].weight;
    this.kept = all.slice(0, count);
    this.kept.forEach((point) => (point.weight /= sum));
    if (p.fall) this.kept.forEach((point) => Object.assign(point, this.#condition(pairs, point.columns, Object.assign(point, { fall: p.fall }))));
    this.#prepareMeans();
  }

  /** The field given the logarithms of the runs' losses, at a point of the grid; `columns`: the runs' basis there. */
  #condition(pairs, columns, point) {
    const n = this.runs.length, V = VAGUE, factor = cholesky(this.#covariance(pairs, point), n);
    const above = this.logs.map((log, i) => log - this.#mean(this.runs[i], point));
    const basis = forward(factor, columns.slice(), n, V), left = forward(factor, above, n, 1);
    const precision = new Float64Array(V * V), right = new Float64Array(V);
    for (let i = 0; i < V; i++) {
      precision[i * V + i] = 1;
      for (let k = 0; k < n; k++) {
        right[i] += basis[k * V + i] * left[k];
        for (let j = 0; j <= i; j++) precision[i * V + j] += basis[k * V + i] * basis[k * V + j];
      }
    }
    const normal = cholesky(precision, V), coefficients = backward(normal, forward(normal, right, V, 1), V);
    for (let i = 0; i < n; i++) for (let j = 0; j < V; j++) left[i] -= basis[i * V + j] * coefficients[j];
    let likelihood = 0;
    for (let i = 0; i < n; i++) likelihood -= 0.5 * left[i] ** 2 + Math.log(factor[i * n + i]);
    for (let i = 0; i < V; i++) likelihood -= 0.5 * coefficients[i] ** 2 + Math.log(normal[i * V + i]);
    return { factor, basis, normal, coefficients, residuals: left, likelihood };
  }

  /** What is vague, as columns times their standard deviations: a, c, the curve's offset and slope, (runs, 4). */
  #basis(runs, shape) {
    const p = this.prior, rows = runs.flatMap((x) => {
      const curve = x.curve === null ? 0 : 1;
      return [p.vague, p.vague_slope * fall(x.t, shape), p.vague * curve, p.curve_slope * x.logT * curve];
    });
    return Float64Array.from(rows);
  }

  /** What `means` sums over: alpha = K^-1 residuals, added up over the grid wherever the kernel does not depend on it. */
  #prepareMeans() {
    const n = this.runs.length, zeros = () => new Float64Array(n);
    this.floor = 0;
    this.matern = zeros();
    this.late = zeros();
    this.byShape = new Map();
    for (const { weight, factor, residuals, coefficients, amplitude, shape, discrepancy, fall } of this.kept) {
      const alpha = backward(factor, residuals, n);
      if (!this.byShape.has(shape)) {
        const lifts = this.runs.map((run) => this.#lift(run.after, shape));
        this.byShape.set(shape, { fallen: 0, amplitude: 0, recovery: zeros(), lifts });
      }
      const sums = this.byShape.get(shape);
      this.floor += weight * coefficients[0];
      sums.amplitude += weight * amplitude;
      sums.fallen += weight * coefficients[1];
      for (let i = 0; i < n; i++) {
        this.matern[i] += weight * alpha[i] * this.#never(discrepancy, fall);
        this.late[i] += weight * alpha[i] * (this.prior.fall_lag * fall) ** 2;
        sums.recovery[i] += weight * alpha[i] * this.#recovers(amplitude, fall);
      }
    }
  }

  /** Of every pair of runs (`alone`: of each a with its b) what no point of the grid changes; `same`: a and b are one. */
  #pairs(a, b, same, alone = false) {
    const p = this.prior, pairs = alone ? a.map((x, i) => [x, b[i]]) : a.flatMap((x) => b.map((y) => [x, y]));
    const columns = { curve: new Float64Array(pairs.length), seeds: new Float64Array(pairs.length) };
    Object.assign(columns, { matern: new Float64Array(pairs.length), error: new Float64Array(pairs.length) });
    columns.late = new Float64Array(pairs.length);
    pairs.forEach(([x, y], i) => {
      const own = same && x === y, paired = x.seed !== null && x.seed === y.seed;
      if (own && x.curve !== null) columns.curve[i] = Math.max(x.curve, p.curve_noise) ** 2;
      columns.seeds[i] = paired ? 1 : 0;
      columns.matern[i] = this.#matern(x, y);
      columns.late[i] = this.#lag(x, y);
      columns.error[i] = p.trunk_share * (paired && x.trunk === y.trunk ? 1 : 0) + (1 - p.trunk_share) * (own && x.seed !== null ? 1 : 0);
    });
    return { pairs, ...columns, byShape: new Map() };
  }

  /** Of the same pairs what growing recovers at A = 1, which only the shape of the small depth's law changes. */
  #recovered({ pairs, byShape }, shape) {
    if (!byShape.has(shape)) {
      byShape.set(shape, Float64Array.from(pairs, ([x, y]) => this.#recovery(x, y, shape)));
    }
    return byShape.get(shape);
  }

  /** Prior mean of -z at a point of the grid. */
  #mean(x, { amplitude, shape }) {
    return x.after > 0 && x.share > 0 ? amplitude * this.#leading(x, this.#lift(x.after, shape)) : 0;
  }

  /** The same at A = 1, of a grown run. */
  #leading(x, lift) {
    const p = this.prior, trained = p.retained + (1 - p.retained) / (1 + x.before / p.half_retained);
    return -p.lead * (1 + p.level_slope * lift) * x.share ** p.depth_power * trained;
  }

  /** Prior covariances of the pairs' logarithms at a point of the grid without what is vague. */
  #covariance(pairs, { amplitude, shape, discrepancy, noise, fall }) {
    const recovery = this.#recovered(pairs, shape), { matern, late, seeds, error, curve } = pairs;
    const made = new Float64Array(recovery.length), seed = this.prior.seed ** 2;
    const never = this.#never(discrepancy, fall), recovers = this.#recovers(amplitude, fall), lag = (this.prior.fall_lag * fall) ** 2;
    for (let i = 0; i < made.length; i++) {
      const field = never * matern[i] + recovers * recovery[i] + lag * late[i];
      made[i] = field + seed * seeds[i] + noise ** 2 * error[i] + curve[i];
    }
    return made;
  }

  /** Variance of s about its power law: wider where pilots fell faster than one. */
  #never(discrepancy, fall) {
    return discrepancy ** 2 + (this.prior.fall_never * fall) ** 2;
  }

  /** Variance of what growing recovers at A, likewise. */
  #recovers(amplitude, fall) {
    return amplitude ** 2 + (this.prior.fall_recovery * fall) ** 2;
  }

  #matern(x, y) {
    return matern((x.logT - y.logT) / this.prior.discrepancy_range);
  }

  /** Correlation of what a deeper net is early or late by, which a trained trunk does not take over. */
  #lag(x, y) {
    if (!(x.after > 0 && x.share > 0 && y.after > 0 && y.share > 0)) return 0;
    const p = this.prior, fresh = (x.share * y.share) ** p.depth_power * Math.exp(-(x.before + y.before) / p.p0);
    return fresh * matern(Math.log(x.after / y.after));
  }

  /** Covariance of z at A = 1. */
  #recovery(x, y, shape) {
    const shared = this.#shared(x, y);
    return shared && shared * this.#along(this.#lift(x.after, shape), this.#lift(y.after, shape));
  }

  /** Its part that depends on what came before and on the depth; 0 where nothing was grown. */
  #shared(x, y) {
    if (!(x.after > 0 && x.share > 0 && y.after > 0 && y.share > 0)) return 0;
    const p = this.prior, apart = Math.abs(Math.log1p(x.before / p.p0) - Math.log1p(y.before / p.p0));
    const memory = p.common + (1 - p.common) * Math.exp(-apart / p.p1);
    const depth = Math.exp(-Math.abs(Math.log(x.share) - Math.log(y.share)) / p.depth_range);
    return memory * depth * (x.share * y.share) ** p.depth_power;
  }

  /** l = (v^k - 1)/k of the area u after the expansion. */
  #lift(u, { bend }) {
    const v = (u + this.prior.u0) / this.prior.u1;
    return bend === 0 ? Math.log(v) : (v ** bend - 1) / bend;
  }

  /** Its part along u. */
  #along(l, l2) {
    const p = this.prior, wander = Math.sign(l) === Math.sign(l2) ? Math.min(Math.abs(l), Math.abs(l2)) : 0;
    return p.level ** 2 * (1 + p.level_slope * l) * (1 + p.level_slope * l2) + p.slope ** 2 * l * l2 + p.wander ** 2 * wander;
  }

  /** Losses over seeds whose logarithm is the posterior mean at each arm. */
  means(arms) {
    const p = this.prior, shapes = [...this.byShape];
    return this.#asked(arms).map((x) => {
      const shared = this.runs.map((y) => this.#shared(x, y));
      let sum = 0, vague = p.vague * this.floor;
      this.runs.forEach((y, i) => (sum += this.#matern(x, y) * this.matern[i] + this.#lag(x, y) * this.late[i]));
      for (const [shape, { fallen, amplitude, recovery, lifts }] of shapes) {
        vague += p.vague_slope * fall(x.t, shape) * fallen;
        const lift = this.#lift(x.after, shape);
        if (x.after > 0 && x.share > 0) sum += amplitude * this.#leading(x, lift);
        for (let i = 0; i < shared.length; i++) if (shared[i]) sum += shared[i] * this.#along(lift, lifts[i]) * recovery[i];
      }
      return this.scale * Math.exp(vague + sum);
    });
  }

  /** [{weight, mean, covariance}] of ln(loss/scale) at the arms, one for each point of the grid that matters; `alone`: variances only. */
  mixture(arms, alone = false) {
    const asked = this.#asked(arms), n = this.runs.length, m = asked.length, V = VAGUE;
    const cross = this.#pairs(this.runs, asked, false), prior = this.#pairs(asked, asked, true, alone);
    return this.kept.map((point) => {
      const half = forward(point.factor, this.#covariance(cross, point), n, m), covariance = this.#covariance(prior, point);
      const mean = Float64Array.from(asked, (x) => this.#mean(x, point)), basis = this.#basis(asked, point.shape), vague = new Float64Array(V * m);
      /** Adds a row's products to the covariances, `sign` times. */
      const spread = (rows, k, sign) => {
        for (let i = 0; i < m; i++) {
          const value = sign * rows[k * m + i];
          if (alone) covariance[i] += value * rows[k * m + i];
          else for (let j = 0; j < m; j++) covariance[i * m + j] += value * rows[k * m + j];
        }
      };
      for (let v = 0; v < V; v++)
        for (let i = 0; i < m; i++) {
          mean[i] += basis[i * V + v] * point.coefficients[v];
          vague[v * m + i] = basis[i * V + v];
          for (let k = 0; k < n; k++) vague[v * m + i] -= point.basis[k * V + v] * half[k * m + i];
        }
      forward(point.normal, vague, V, m);
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < m; i++) mean[i] += half[k * m + i] * point.residuals[k];
        spread(half, k, -1);
      }
      for (let v = 0; v < V; v++) spread(vague, v, 1);
      return { weight: point.weight, mean, covariance };
    });
  }

  /** `means` by another way, and the standard deviation of the logarithm, at each arm. */
  spread(arms) {
    const parts = this.mixture(arms, true), mean = arms.map((_, i) => parts.reduce((sum, part) => sum + part.weight * part.mean[i], 0));
    const variance = mean.map((value, i) => parts.reduce((sum, { weight, mean: of, covariance }) => sum + weight * (covariance[i] + (of[i] - value) ** 2), 0));
    return { mean: mean.map((value) => this.scale * Math.exp(value)), deviation: variance.map((value) => Math.sqrt(Math.max(value, 0))) };
  }

  /** `means`, and joint draws of the arms' expected losses, (number, arms); always the same ones. */
  draws(arms, number = 2000) {
    const normal = normals(20260), m = arms.length, mean = arms.map(() => 0), drawn = [];
    let owed = 0;
    for (const part of this.mixture(arms)) {
      part.mean.forEach((value, i) => (mean[i] += part.weight * value));
      owed += part.weight * number;
      const count = Math.round(owed - drawn.length);
      if (count <= 0) continue;
      const jitter = 1e-12 * Math.max(...arms.map((_, i) => part.covariance[i * m + i]));
      for (let i = 0; i < m; i++) part.covariance[i * m + i] += jitter;
      const factor = cholesky(part.covariance, m);
      for (let k = 0; k < count; k++) {
        const z = arms.map(normal);
        const logs = arms.map((_, i) => z.reduce((sum, value, j) => (j <= i ? sum + factor[i * m + j] * value : sum), part.mean[i]));
        drawn.push(logs.map((log) => this.scale * Math.exp(log)));
      }
    }
    return { mean: mean.map((value) => this.scale * Math.exp(value)), drawn };
  }
}

/** The grid's shapes (b, t0) of the small depth's power law, and how far what growing recovers bends with it. */
function shapesOf({ exponents, onsets }) {
  return exponents.flatMap((each) => onsets.map((onset) => {
    const exponent = each * (1 + onset), bend = 1 - (1 + exponent) / (1 + onset);
    return { exponent, onset, bend: round(1e6 * Math.min(Math.max(bend, -STEEPEST_BEND), STEEPEST_BEND)) / 1e6 };
  }));
}

/** What a power law falls from t = 1 to t, its slope in ln t at 1 being -1. */
function fall(t, { exponent, onset }) {
  return (Math.expm1(-exponent * Math.log((t + onset) / (1 + onset))) * (1 + onset)) / exponent;
}

// --- theory/menu.py: decide ------------------------------------------------------------------------------------------

export const SURE = 0.9;

/** What is expected of every arm, which one to take, and how sure that is (null where the landscape cannot say). */
export function decide(landscape, menu) {
  const grows = menu.map((arm) => arm.tau !== null);
  if (!landscape.sure) {
    const loss = landscape.means(menu), best = indexOfLeast(loss);
    const choices = menu.map((arm, i) => ({ arm, mean: loss[i], low: null, high: null, p_best: null }));
    return { head: grows[best] ? "grow" : "do not grow", p_grow: null, best, growth: leastOf(loss, grows), choices };
  }
  const { mean, drawn } = landscape.draws(menu), wins = menu.map(() => 0);
  drawn.forEach((row) => wins[indexOfLeast(row)]++);
  const choices = menu.map((arm, i) => {
    const [low, high] = quantiles(drawn.map((row) => row[i]), [0.05, 0.95]);
    return { arm, mean: mean[i], low, high, p_best: wins[i] / drawn.length };
  });
  const p_grow = choices.reduce((sum, choice, i) => sum + (grows[i] ? choice.p_best : 0), 0);
  const head = p_grow > SURE ? "grow" : p_grow < 1 - SURE ? "do not grow" : "not decided";
  return { head, p_grow, best: indexOfLeast(mean), growth: leastOf(mean, grows), choices };
}

const indexOfLeast = (values) => values.reduce((best, value, i) => (value < values[best] ? i : best), 0);

function leastOf(values, among) {
  const found = indexOfLeast(values.map((value, i) => (among[i] ? value : Infinity)));
  return among[found] ? found : null;
}

/** Quantiles with linear interpolation, as numpy's. */
export function quantiles(values, levels) {
  const sorted = Float64Array.from(values).sort();
  return levels.map((level) => {
    const at = level * (sorted.length - 1), i = Math.floor(at);
    return sorted[i] + (at - i) * ((sorted[i + 1] ?? sorted[i]) - sorted[i]);
  });
}

// --- golden numbers of paper_figures/explorer.py ---------------------------------------------------------------------

/** Largest relative difference from what Python computed, by quantity; settings without a law are of `golden.field`. */
export function disagreement(golden, prior) {
  const worst = {}, field = golden.field && new RecoveryField(golden.field, { ...prior, ...golden.field.prior });
  const compare = (name, got, wanted) => {
    const apart = got === wanted ? 0 : Math.abs(got - wanted) / Math.max(Math.abs(wanted), 1e-300);
    worst[name] = Math.max(worst[name] ?? 0, Number.isNaN(apart) ? Infinity : apart);
  };
  for (const setting of golden.settings) {
    const { model, small, full, budget } = setting, schedule = new Schedule(setting.schedule);
    const price = (depth) => setting.batch_tokens * flopsPerToken(model, depth);
    [small, full].forEach((depth, i) => compare("price", flopsPerToken(model, depth), setting.flops_per_token[i]));
    compare("total area", schedule.totalArea, setting.total_area);
    const arms = equalComputeMenu({ schedule, price, small, full, budget });
    compare("number of arms", arms.length, setting.arms.length);
    const landscape = setting.law ? new AreaLaw(setting.law) : field;
    const kind = setting.law ? "area law" : "field", losses = landscape.means(arms);
    setting.arms.forEach((wanted, i) => {
      for (const name of ["steps", "tau", "flops", "before", "after"]) compare(`arm: ${name}`, arms[i][name], wanted[name]);
      compare(`loss, ${kind}`, losses[i], wanted.loss);
    });
    if (setting.law) compare("tau*", landscape.tauStar(schedule, setting.tolerance), setting.tau_star);
    if (setting.deviations) {
      const { mean, deviation } = landscape.spread(arms);
      setting.arms.forEach((wanted, i) => {
        compare("loss, field's mixture", mean[i], wanted.loss);
        compare("deviation, field", deviation[i], setting.deviations[i]);
      });
    }
  }
  return worst;
}

// --- small matrices --------------------------------------------------------------------------------------------------

/** Lower triangle L of an n x n matrix A = L L'. */
function cholesky(matrix, n) {
  const factor = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j];
      for (let k = 0; k < j; k++) sum -= factor[i * n + k] * factor[j * n + k];
      factor[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-300)) : sum / factor[j * n + j];
    }
  return factor;
}

/** X with L X = B, (n, columns), in the place of B. */
function forward(factor, right, n, columns) {
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) {
      const value = factor[i * n + k];
      for (let j = 0; j < columns; j++) right[i * columns + j] -= value * right[k * columns + j];
    }
    const own = factor[i * n + i];
    for (let j = 0; j < columns; j++) right[i * columns + j] /= own;
  }
  return right;
}

/** x with L' x = b. */
function backward(factor, b, n) {
  const x = new Float64Array(n);
  for (let i = n - 1; i >= 0; i--) {
    let sum = b[i];
    for (let k = i + 1; k < n; k++) sum -= factor[k * n + i] * x[k];
    x[i] = sum / factor[i * n + i];
  }
  return x;
}

/** Standard normal numbers, the same ones for the same seed (mulberry32, Box-Muller). */
function normals(seed) {
  let state = seed, spare = null;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
  };
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}
