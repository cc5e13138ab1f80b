/* The live explorer of an energy landscape: no framework, no network, no kernel; a classic script, to run from file:// too.
   ebm_lib/viz/live.py writes, and documents, the JSON that it reads. Tests and pages steer it through `element.ebm`. */
(function () {
"use strict";

const { abs, exp, hypot, log, log10, max, min, round, sqrt } = Math;

const SIDE = 121; // the landscape is computed on SIDE x SIDE points; one of many sheets first on HASTY x HASTY
const HASTY = 61;
const MOST = 12; // starts
const RATE = 30; // descent steps a second while running
const STILL = 1e-4; // a descent rests when its slope falls below this share of the landscape's own
const STOPS = 60; // positions of a logarithmic slider
const BALL = "#d55e00", CURVE = "#2f8fb3", WHITE = "#fff", BLACK = "rgba(0,0,0,.7)";
const VIRIDIS = "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725".match(/.{6}/g);
const RGB = [...Array(256)].map((_, i) => {
	const t = i / 255 * 16, a = min(15, Math.floor(t)), part = (j, c) => parseInt(VIRIDIS[j].substr(2 * c, 2), 16);
	return [0, 1, 2].map(c => round(part(a, c) + (t - a) * (part(a + 1, c) - part(a, c))));
});

const clamp = (v, low, high) => min(high, max(low, v));
const numbers = (n, f) => Float64Array.from({ length: n }, (_, i) => f(i));
const most = a => a.reduce((top, v) => max(top, v), -Infinity);
const check = (ok, message) => { if (!ok) throw new Error(message); };
const allFinite = a => Array.from(a).every(Number.isFinite);

/* --- energies ---
   A family of K sheets E_k(x, y), one for each value z_k of the latent (K = 1 without latent).
   f(x, y, E, gx, gy) writes the K energies and, where gx is given, their slopes. */

const sigmoid = u => 1 / (1 + exp(-u));
const ACTIVATIONS = {
	softplus: [u => max(u, 0) + Math.log1p(exp(-abs(u))), sigmoid],
	tanh: [Math.tanh, u => 1 - Math.tanh(u) ** 2],
	relu: [u => max(u, 0), u => +(u > 0)],
	silu: [u => u * sigmoid(u), u => sigmoid(u) * (1 + u * (1 - sigmoid(u)))],
};

const KINDS = {
	// E_k = a dx² + 2 h dx dy + b dy² + r around the centre c_k
	wells(m) {
		const K = m.c.length, q = i => numbers(K, k => (Array.isArray(m.q[0]) ? m.q[k] : m.q)[i]);
		const cx = numbers(K, k => m.c[k][0]), cy = numbers(K, k => m.c[k][1]), a = q(0), h = q(1), b = q(2);
		const r = numbers(K, k => Array.isArray(m.r) ? m.r[k] : m.r);
		check(K && [cx, cy, a, h, b, r].every(allFinite), "centres and curvatures must be finite");
		return { K, cx, cy, f(x, y, E, gx, gy) {
			for (let k = 0; k < K; k++) {
				const dx = x - cx[k], dy = y - cy[k], u = a[k] * dx + h[k] * dy, v = h[k] * dx + b[k] * dy;
				E[k] = u * dx + v * dy + r[k];
				if (gx) { gx[k] = 2 * u; gy[k] = 2 * v; }
			}
		} };
	},

	// a multi-layer perceptron of (x, y), differentiated by back-propagation
	mlp(m) {
		check(ACTIVATIONS[m.act], `unknown activation "${m.act}"`);
		const [act, slope] = ACTIVATIONS[m.act], last = m.layers.length - 1;
		let cols = 2;
		const layers = m.layers.map(({ w, b }, i) => {
			const flat = Float64Array.from(w.flat()), n = b.length, layer = { w: flat, b, cols, u: numbers(n, () => 0) };
			check(w.every(row => row.length === cols) && w.length === n && allFinite(flat) && allFinite(b),
				`layer ${i + 1} needs ${n} rows of ${cols} finite weights`);
			cols = n;
			return { ...layer, h: layer.u.slice(), d: layer.u.slice().fill(1) };
		});
		check(cols === 1 && last >= 0, "the last layer must give one number");
		const back = ({ w, d, cols }, j) => {
			let s = 0;
			for (let i = 0; i < d.length; i++) s += d[i] * w[i * cols + j];
			return s;
		};
		return { K: 1, f(x, y, E, gx, gy) {
			let a = [x, y];
			layers.forEach(({ w, b, u, h, cols }, l) => {
				for (let i = 0, p = 0; i < b.length; i++) {
					let s = b[i];
					for (let j = 0; j < cols; j++) s += w[p++] * a[j];
					u[i] = s;
					h[i] = l < last ? act(s) : s;
				}
				a = h;
			});
			E[0] = a[0];
			if (!gx) return;
			for (let l = last; l > 0; l--) {
				const { d, u } = layers[l - 1];
				for (let j = 0; j < d.length; j++) d[j] = back(layers[l], j) * slope(u[j]);
			}
			gx[0] = back(layers[0], 0);
			gy[0] = back(layers[0], 1);
		} };
	},

	// Chebyshev series on the box: exact for polynomials, near machine precision for smooth functions
	cheb(m, box) {
		const basis = (n, [low, high]) => {
			const w = new Float64Array(n), d = new Float64Array(n), scale = 2 / (high - low);
			return v => {
				const t = (v - low) * scale - 1;
				for (let i = 0, u = 0, before = 0; i < n; i++) { // u is U_{i-1}, and T_i' = i U_{i-1}
					w[i] = i < 2 ? (i ? t : 1) : 2 * t * w[i - 1] - w[i - 2];
					d[i] = i * u * scale;
					[u, before] = [i ? 2 * t * u - before : 1, u];
				}
				return { at: 0, w, d };
			};
		};
		check(m.c.every(c => c.length === m.n[0] * m.n[1] && allFinite(c)), `a series needs ${m.n[0]} x ${m.n[1]} finite coefficients`);
		return product(box, m.c.map(c => Float64Array.from(c)), m.n[1], basis(m.n[0], box[0]), basis(m.n[1], box[1]));
	},

	// values on a grid with its ends on the box, E = lo + (hi - lo) (u / 65535)², read by cubic convolution
	grid(m, box) {
		const [nx, ny] = m.n, bytes = atob(m.v), size = nx * ny, K = bytes.length / 2 / size, H = ny + 2;
		check(nx > 2 && ny > 2 && K >= 1 && K % 1 === 0 && allFinite([m.lo, m.hi]), `the table does not hold ${nx} x ${ny} finite values`);
		const sheets = [...Array(K)].map((_, k) => { // with a border of extrapolated values all around
			const v = new Float64Array((nx + 2) * H);
			for (let n = 0; n < size; n++) {
				const p = 2 * (k * size + n), u = (bytes.charCodeAt(p) + 256 * bytes.charCodeAt(p + 1)) / 65535;
				v[(Math.floor(n / ny) + 1) * H + n % ny + 1] = m.lo + (m.hi - m.lo) * u * u;
			}
			const extend = (p, step) => { v[p] = 3 * (v[p + step] - v[p + 2 * step]) + v[p + 3 * step]; };
			for (let i = 1; i <= nx; i++) { extend(i * H, 1); extend(i * H + H - 1, -1); }
			for (let j = 0; j < H; j++) { extend(j, H); extend((nx + 1) * H + j, -H); }
			return v;
		});
		const basis = (n, [low, high]) => v => {
			const c = (n - 1) / (high - low), s = (v - low) * c, at = clamp(Math.floor(s), 0, n - 2), t = s - at;
			return { at, w: [((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t].map(q => q / 2),
				d: [(4 - 3 * t) * t - 1, (9 * t - 10) * t, (8 - 9 * t) * t + 1, (3 * t - 2) * t].map(q => q * c / 2) };
		};
		return product(box, sheets, H, basis(nx, box[0]), basis(ny, box[1]));
	},
};

// Σ_ij X_i(x) Y_j(y) c_k[i, j]; outside the box, where the table says nothing, the energy goes on along its tangent
function product(box, sheets, stride, basisX, basisY) {
	const K = sheets.length;
	return { K, f(x, y, E, gx, gy) {
		const bx = clamp(x, ...box[0]), by = clamp(y, ...box[1]), X = basisX(bx), Y = basisY(by);
		for (let k = 0; k < K; k++) {
			let e = 0, ex = 0, ey = 0;
			for (let i = 0; i < X.w.length; i++) {
				let s = 0, sy = 0;
				for (let j = 0, p = (X.at + i) * stride + Y.at; j < Y.w.length; j++, p++) {
					s += Y.w[j] * sheets[k][p];
					sy += Y.d[j] * sheets[k][p];
				}
				e += X.w[i] * s;
				ex += X.d[i] * s;
				ey += X.w[i] * sy;
			}
			E[k] = e + ex * (x - bx) + ey * (y - by);
			if (gx) { gx[k] = ex; gy[k] = ey; }
		}
	} };
}

// F_β(x, y) = -1/β log Σ_k exp(log w_k - β E_k), and its slope Σ_k P_k ∇E_k; β = ∞ takes the minimum
function makeModel(m, box) {
	check(m && KINDS[m.kind], `unknown kind of energy "${m && m.kind}"`);
	const { K, f, cx, cy } = KINDS[m.kind](m, box), latent = m.latent, L = latent || { p: 0, v: 0 };
	const list = v => numbers(K, k => Array.isArray(v) ? v[k] : v), E = list(0), P = list(0), gx = list(0), gy = list(0);
	const logp = list(L.p), logv = list(L.v), z = L.z || Array.from(E, (_, k) => k + 1);
	check((latent || K === 1) && allFinite(logp) && allFinite(logv) && z.length === K && allFinite(z),
		"each sheet needs a finite weight and latent value");
	const self = { K, E, P, cx, cy, z, latent, best: 0, at(x, y, beta, prior, slope) {
		f(x, y, E, slope && gx, slope && gy);
		let best = 0, top = -Infinity, sum = 0;
		for (let k = 1; k < K; k++) if (E[k] < E[best]) best = k;
		self.best = best;
		if (!latent || beta === Infinity) {
			if (slope) { self.gx = gx[best]; self.gy = gy[best]; P.fill(0); P[best] = 1; }
			return E[best];
		}
		const w = prior ? logp : logv;
		for (let k = 0; k < K; k++) { P[k] = w[k] - beta * E[k]; if (P[k] > top) top = P[k]; }
		for (let k = 0; k < K; k++) { P[k] = P[k] - top < -40 ? 0 : exp(P[k] - top); sum += P[k]; }
		if (slope) {
			self.gx = self.gy = 0;
			for (let k = 0; k < K; k++) { P[k] /= sum; self.gx += P[k] * gx[k]; self.gy += P[k] * gy[k]; }
		}
		return -(top + log(sum)) / beta;
	}, mean: () => E.reduce((s, e, k) => s + exp(logp[k]) * e, 0) }; // under the prior, at the last point
	return self;
}

/* --- words and small elements --- */

const fmt = (v, digits) => !Number.isFinite(v) ? "–" : (abs(v) >= 1e6 ? v.toExponential(1) : v.toFixed(digits)).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
const digitsOf = v => clamp(2 - Math.floor(log10(v)), 2, 6);

function h(tag, attributes, ...children) {
	const node = document.createElement(tag);
	for (const [key, v] of Object.entries(attributes || {})) {
		if (key.startsWith("on")) node.addEventListener(key.slice(2), v);
		else node.setAttribute(key, v);
	}
	node.append(...children);
	return node;
}

function ticks([low, high], count) {
	const raw = (high - low) / count, p = 10 ** Math.floor(log10(raw)), step = p * [1, 2, 5, 10].find(m => m * p >= 0.75 * raw);
	const first = Math.ceil(low / step - 1e-9), digits = max(0, -Math.floor(log10(step) + 1e-9));
	return [...Array(Math.floor(high / step + 1e-9) - first + 1)].map((_, i) => [(first + i) * step, fmt((first + i) * step, digits)]);
}

/* --- one explorer --- */

function build(el, spec) {
	check(spec.v === 1, `version 1 expected, got ${spec.v}`);
	const { box, members } = spec;
	check(Array.isArray(box) && box.length === 2 && box.every(b => allFinite(b) && b[0] < b[1]), "box must be two intervals");
	check(Array.isArray(members) && members.length, "there is no energy to draw");
	check(spec.starts.length && spec.starts.every(p => p.length === 2 && allFinite(p)), "starts must be points");
	const models = members.map(m => makeModel(m.energy, box)), [nameX, nameY] = spec.axes;
	const [[xLow, xHigh], [yLow, yHigh]] = box, size = [xHigh - xLow, yHigh - yLow], conditional = spec.args === 2;
	const anyLatent = models.some(m => m.latent), hasBeta = anyLatent || spec.density;
	const calm = matchMedia("(prefers-reduced-motion: reduce)");
	const initial = () => ({
		starts: spec.starts.map(p => p.slice()), selected: 0, steps: spec.steps, lr: spec.lr, member: 0,
		beta: spec.beta === "inf" ? Infinity : spec.beta, prior: spec.prior, free: spec.free.slice(),
		density: spec.density === 2, arrows: !!spec.arrows, running: false,
	});
	let s = initial(), touched = false, runs = [], field = null, side = SIDE, backdrop = null, frame = 0, last = 0, voice = 0, fine = 0;
	const model = () => models[s.member], energyAt = (x, y, slope) => model().at(x, y, s.beta, s.prior === "p", slope);
	const slopeAt = (x, y) => { // the energy, and its slope along what is free
		const e = energyAt(x, y, true);
		return [e, s.free[0] ? model().gx : 0, s.free[1] ? model().gy : 0];
	};

	/* descent: a run is a function of its start, so that dragging a start redraws the whole path */
	function advance(run) {
		while (run.n < s.steps && !run.end) {
			const [x, y] = here(run), [, gx, gy] = slopeAt(x, y), nx = x - s.lr * gx, ny = y - s.lr * gy;
			if (hypot(gx, gy) <= STILL * ground().steep) run.end = "still";
			else if (!(abs(nx - xLow) < 4 * size[0] && abs(ny - yLow) < 4 * size[1])) run.end = "lost";
			else run.n = run.path.push([nx, ny]) - 1;
		}
	}
	const fresh = i => { runs[i] = { path: [s.starts[i]], n: 0, end: "" }; };
	const restart = () => { runs = []; s.starts.forEach((_, i) => fresh(i)); };
	const relief = () => { // the landscape changed: run again from the starts
		field = null;
		side = model().K > 60 ? HASTY : SIDE;
		clearTimeout(fine);
		if (side < SIDE) fine = setTimeout(() => { side = SIDE; field = null; refresh(); }, 150);
		restart();
	};
	const here = run => run.path[run.n];
	const finished = () => s.steps >= spec.max || runs.every(r => r.end);

	/* the landscape on a grid, its range, and from it the density; computed when first needed */
	function ground() {
		if (field) return field;
		backdrop = null;
		const v = numbers(side * side, n => energyAt(xLow + size[0] * (n % side) / (side - 1), yLow + size[1] * Math.floor(n / side) / (side - 1)));
		const sorted = v.slice().sort(), [low, high] = spec.levels || [sorted[0], sorted[Math.floor(0.96 * sorted.length)]];
		const flat = !(high - low > 1e-9 * (1 + abs(low)));
		field = { v, low, high, flat, digits: flat ? 2 : digitsOf(high - low), steep: max((high - low) / hypot(...size), 1e-9) };
		if (spec.density) field.density = gibbs(v, sorted[0]);
		return field;
	}
	function gibbs(v, least) { // P(y), or P(y|x) where every column has mass one
		const beta = min(s.beta, 1e6), edge = i => i === 0 || i === side - 1 ? 0.5 : 1; // trapezoids
		const step = size.map(w => w / (side - 1)), mass = (e, floor) => exp(-beta * (e - floor));
		const sum = (e, floor) => e.reduce((a, q, i) => a + mass(q, floor) * edge(i) * step[1], 0);
		const norm = column => { const floor = -most(column.map(e => -e)); return { floor, total: sum(column, floor) }; };
		const columns = [...Array(side)].map((_, i) => numbers(side, j => v[j * side + i]));
		const all = { floor: least, total: conditional ? 0 : columns.reduce((a, c, i) => a + sum(c, least) * edge(i) * step[0], 0) };
		const norms = columns.map(c => conditional ? norm(c) : all);
		const density = v.map((e, n) => mass(e, norms[n % side].floor) / norms[n % side].total);
		return { v: density, top: most(density), at(x, y) {
			const { floor, total } = conditional ? norm(numbers(side, j => energyAt(x, yLow + j * step[1]))) : all;
			return mass(energyAt(x, y), floor) / total;
		} };
	}

	/* --- the page: canvas, buttons, sliders, read-out --- */

	const map = h("canvas", { class: "ebm-map", tabindex: 0, role: "application", "aria-label": spec.alt, "aria-describedby": `${el.id}-help` });
	const cut = spec.panel && h("canvas", { class: "ebm-cut", role: "img", "aria-label": "Energies at the point" }); // said better by each drawing
	const button = (text, onclick) => h("button", { type: "button", onclick }, text);
	const runButton = button("Run", () => run()), manyButton = button("9 starts", () => act(many)); // named before the first drawing
	const buttons = h("div", { class: "ebm-buttons" }, runButton, button("Step", () => act(step)),
		button("Rewind", () => act(rewind)), manyButton, button("Reset", () => act(reset)));
	const controls = h("div", { class: "ebm-controls" }), syncs = [];

	function slider(label, count, read, write, show) {
		const value = h("b", { "aria-hidden": true }), input = h("input", { type: "range", min: 0, max: count, oninput: () => act(() => write(+input.value)) });
		controls.append(h("label", { class: "ebm-slider" }, h("span", {}, label, value), input));
		syncs.push(() => {
			input.value = round(read());
			value.textContent = show();
			input.setAttribute("aria-valuetext", show());
		});
		return input;
	}
	// a slider over [low, high], logarithmic; with `infinite`, one more stop for ∞
	function scale(label, key, [low, high], digits, after, infinite, show) {
		const ratio = high / low, top = STOPS + (infinite ? 1 : 0);
		const read = () => s[key] === Infinity ? top : clamp(STOPS * log(s[key] / low) / log(ratio), 0, STOPS);
		const write = i => { s[key] = i > STOPS ? Infinity : +(low * ratio ** (i / STOPS)).toPrecision(digits); after(); };
		const input = slider(label, top, read, write, show);
		return { input, nudge: d => input.disabled || write(clamp(round(read()) + d, 0, top)) };
	}
	function choice(label, options, read, write) {
		const select = h("select", { onchange: () => act(() => write(select.selectedIndex)) }, ...options.map(o => h("option", {}, o)));
		controls.append(h("label", { class: "ebm-choice" }, h("span", {}, label), select));
		syncs.push(() => { select.selectedIndex = read(); });
	}
	function tickbox(label, key) {
		const input = h("input", { type: "checkbox", onchange: () => act(() => { s[key] = input.checked; backdrop = null; }) });
		controls.append(h("label", { class: "ebm-tick" }, input, label));
		syncs.push(() => { input.checked = s[key]; });
	}

	if (members.length > 1) {
		const set = i => { s.member = i; relief(); };
		if (spec.ordered) slider(spec.choice, members.length - 1, () => s.member, set, () => members[s.member].label);
		else choice(spec.choice, members.map(m => m.label), () => s.member, set);
	}
	const showBeta = () => s.beta === Infinity ? "∞ (min)" : fmt(s.beta, s.beta < 0.1 ? 3 : s.beta < 10 ? 2 : 0);
	const beta = hasBeta && scale("Inverse temperature β", "beta", spec.betas, 3, relief, anyLatent, showBeta);
	if (beta) syncs.push(() => { beta.input.disabled = !model().latent && !spec.density; });
	if (spec.choosePrior) choice("Latent", ["with a normalised prior", "without a prior"], () => +(s.prior === "v"), i => { s.prior = i ? "v" : "p"; relief(); });
	const rate = scale("Step size η", "lr", spec.lrs, 2, restart, false, () => `${s.lr}`);
	if (spec.chooseFree) choice("Known", ["nothing", nameX, nameY], () => s.free[0] ? (s.free[1] ? 0 : 2) : 1,
		i => { s.free = [+(i !== 1), +(i !== 2)]; backdrop = null; restart(); });
	if (spec.density) tickbox("Show probability", "density");
	tickbox("Show −∇F", "arrows");

	const read = {}, readout = h("dl", { class: "ebm-readout" });
	const entry = (key, label) => {
		read[key] = h("dd");
		readout.append(h("div", {}, read[`${key}Label`] = h("dt", {}, label), read[key]));
	};
	entry("where", "Point"); entry("energy", ""); entry("slope", "Slope ‖∇F‖"); entry("steps", "Steps");
	if (anyLatent) entry("bounds", "Min, mean of E");
	if (spec.density) entry("density", conditional ? "P(y|x)" : "Density P(y)");
	entry("summary", "Starts");
	const low = h("span"), high = h("span");
	const legend = h("div", { class: "ebm-legend" }, low, h("i", { style: `background:linear-gradient(90deg,#${VIRIDIS.join(",#")})` }), high);
	const live = h("p", { class: "ebm-sr", "aria-live": "polite" });
	const help = h("details", { class: "ebm-help" }, h("summary", {}, "Mouse, touch and keys"),
		h("p", { id: `${el.id}-help` }, "Drag a point; click or tap elsewhere to add one (twelve at most). With the picture in focus: "
			+ "arrow keys move the chosen start (Shift: ten times as far), Space or Enter runs and pauses, S makes a step, R rewinds, "
			+ `+ and − change the step size, ${hasBeta ? "[ and ] β, " : ""}N and P choose a start, A adds one, Delete removes it.`));
	const left = h("div", { class: "ebm-left" }, map, legend, ...(cut ? [cut] : []));
	const right = h("div", { class: "ebm-right" }, buttons, readout, controls);
	el.querySelectorAll(":scope > :not(script)").forEach(n => n.remove());
	el.append(...(spec.title ? [h("p", { class: "ebm-title" }, spec.title)] : []), h("div", { class: "ebm-body" }, left, right), help, live);
	el.setAttribute("role", "group");
	el.setAttribute("aria-label", spec.title || spec.alt);

	/* --- actions --- */

	function act(change) { // every change by the reader passes here
		touched = true;
		change();
		refresh();
		clearTimeout(voice);
		voice = setTimeout(speak, 700);
	}
	const run = () => act(() => {
		if (s.running) { s.running = false; return; }
		if (finished()) rewind();
		if (calm.matches) s.steps = spec.max; // no animation: straight to where it ends
		else s.running = true;
		last = 0;
	});
	function step() { s.running = false; if (finished()) rewind(); s.steps++; }
	function rewind() { s.steps = 0; restart(); }
	function reset() { s = initial(); relief(); touched = false; }
	function many() { // nine over the box, or along what is free; or back to the chosen one
		const [x, y] = s.starts[s.selected], at = (i, n, axis) => box[axis][0] + size[axis] * (i + 0.5) / n;
		s.starts = s.starts.length > 1 ? [[x, y]] : [...Array(9)].map((_, i) => s.free[0] && s.free[1]
			? [at(i % 3, 3, 0), at(Math.floor(i / 3), 3, 1)] : s.free[0] ? [at(i, 9, 0), y] : [x, at(i, 9, 1)]);
		s.selected = s.starts.length >> 1;
		restart();
	}
	function add(x, y) {
		if (s.starts.length >= MOST) return false;
		s.selected = s.starts.push([x, y]) - 1;
		fresh(s.selected);
		return true;
	}
	function move(x, y) {
		s.starts[s.selected] = [clamp(x, xLow, xHigh), clamp(y, yLow, yHigh)];
		fresh(s.selected);
	}
	function remove() {
		if (s.starts.length < 2) return;
		[s.starts, runs].forEach(a => a.splice(s.selected, 1));
		s.selected = min(s.selected, s.starts.length - 1);
	}
	const choose = d => { s.selected = (s.selected + d + s.starts.length) % s.starts.length; };
	const shift = (dx, dy) => e => {
		const d = e.shiftKey ? 0.1 : 0.01, [x, y] = s.starts[s.selected];
		move(x + dx * d * size[0], y + dy * d * size[1]);
	};

	const keys = {
		arrowleft: shift(-1, 0), arrowright: shift(1, 0), arrowup: shift(0, 1), arrowdown: shift(0, -1),
		" ": run, enter: run, s: step, r: rewind, n: () => choose(1), p: () => choose(-1), delete: remove, backspace: remove,
		"+": () => rate.nudge(2), "=": () => rate.nudge(2), "-": () => rate.nudge(-2),
		a() { // the next of an even scatter (the plastic number's sequence)
			const k = s.starts.length;
			add(xLow + size[0] * ((0.5 + 0.7548776662 * k) % 1), yLow + size[1] * ((0.5 + 0.569840291 * k) % 1));
		},
		...(beta && { "[": () => beta.nudge(-1), "]": () => beta.nudge(1) }),
	};
	map.addEventListener("keydown", e => {
		const key = keys[e.key.toLowerCase()];
		if (!key || e.ctrlKey || e.metaKey || e.altKey) return;
		e.preventDefault();
		e.stopPropagation(); // the theme may turn pages with the arrow keys
		act(() => key(e));
	});

	/* a start, or the ball it led to, can be dragged; elsewhere a mouse adds a start at once, a finger by tapping,
	   so that a finger that does not begin on a point scrolls the page */
	let drag = null;
	const local = (canvas, e) => { const r = canvas.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
	const reach = e => e.pointerType === "mouse" ? 14 : 26;
	function nearest([px, py], least) {
		let best = -1;
		runs.forEach((r, i) => [s.starts[i], here(r)].forEach(([x, y]) => {
			const d = hypot(toX(x) - px, toY(y) - py);
			if (d < least) { least = d; best = i; }
		}));
		return best;
	}
	const inPlot = ([x, y]) => x >= plot.l && x <= plot.l + plot.w && y >= plot.t && y <= plot.t + plot.h;
	map.addEventListener("pointerdown", e => {
		const at = local(map, e), hit = nearest(at, reach(e));
		if (e.button || hit < 0 && !inPlot(at)) return;
		drag = { id: e.pointerId, at, tap: hit < 0 && e.pointerType !== "mouse" };
		if (drag.tap) return;
		act(() => { if (hit >= 0) s.selected = hit; else if (!add(fromX(at[0]), fromY(at[1]))) drag = null; });
		if (!drag) return;
		map.setPointerCapture(e.pointerId);
		map.classList.add("ebm-drag");
	});
	map.addEventListener("pointermove", e => {
		const at = local(map, e);
		if (!drag) { map.style.cursor = nearest(at, reach(e)) >= 0 ? "grab" : inPlot(at) ? "crosshair" : ""; return; }
		if (e.pointerId !== drag.id || !drag.moved && hypot(at[0] - drag.at[0], at[1] - drag.at[1]) < (e.pointerType === "mouse" ? 2 : 6)) return;
		drag.moved = true;
		if (!drag.tap) act(() => move(fromX(at[0]), fromY(at[1])));
	});
	["pointerup", "pointercancel"].forEach(type => map.addEventListener(type, () => {
		if (drag && drag.tap && !drag.moved && type === "pointerup") act(() => add(fromX(drag.at[0]), fromY(drag.at[1])));
		drag = null;
		map.classList.remove("ebm-drag");
	}));
	map.addEventListener("touchstart", e => { if (nearest(local(map, e.touches[0]), 26) >= 0) e.preventDefault(); }, { passive: false });
	if (spec.panel === "slice") { // in the cut, the ball is dragged along the axis
		const slide = e => act(() => {
			const p = s.starts[s.selected].slice(), c = axis();
			p[c] = box[c][0] + size[c] * (local(cut, e)[0] - plotC.l) / plotC.w;
			move(...p);
		});
		cut.classList.add("ebm-slide");
		cut.addEventListener("pointerdown", e => { if (!e.button) { cut.setPointerCapture(e.pointerId); slide(e); } });
		cut.addEventListener("pointermove", e => { if (cut.hasPointerCapture(e.pointerId)) slide(e); });
	}

	/* --- drawing --- */

	let plot = null, plotC = null, dense = 1, ink = "#222", font = "12px sans-serif";
	const toX = x => plot.l + (x - xLow) / size[0] * plot.w, toY = y => plot.t + (yHigh - y) / size[1] * plot.h;
	const fromX = px => xLow + (px - plot.l) / plot.w * size[0], fromY = py => yHigh - (py - plot.t) / plot.h * size[1];
	const toXY = ([x, y]) => [toX(x), toY(y)], axis = () => s.free[1] ? 1 : 0;

	function layout() {
		if (!left.clientWidth) return false;
		dense = min(3, devicePixelRatio || 1);
		const fit = (canvas, w, tall, t, r, b, l) => {
			canvas.style.height = `${tall}px`;
			canvas.width = round(w * dense);
			canvas.height = round(tall * dense);
			return { l, t, w: w - l - r, h: tall - t - b };
		};
		const w = left.clientWidth;
		plot = fit(map, w, round((w - 66) * clamp(conditional ? 0.8 : size[1] / size[0], 0.5, 1.4)) + 44, 8, 16, 36, 50);
		if (cut) plotC = fit(cut, w, 200, 10, spec.panel === "latent" ? 62 : 16, 36, 50);
		backdrop = null;
		return true;
	}
	function theme() {
		const css = getComputedStyle(el);
		ink = css.color;
		font = `12px ${css.fontFamily}`;
		backdrop = null;
		refresh();
	}
	function brush(canvas) {
		const g = canvas.getContext("2d");
		g.setTransform(dense, 0, 0, dense, 0, 0);
		g.clearRect(0, 0, canvas.width, canvas.height);
		g.font = font;
		g.lineJoin = g.lineCap = "round";
		return g;
	}
	function line(g, points, colour, width, dash) {
		g.strokeStyle = colour;
		g.lineWidth = width;
		g.setLineDash(dash || []);
		g.beginPath();
		points.forEach(p => g.lineTo(...p));
		g.stroke();
		g.setLineDash([]);
	}
	function cased(g, points, width) { // a line readable on dark and on light ground
		line(g, points, BLACK, width + 2.5);
		line(g, points, WHITE, width);
	}
	function dot(g, [x, y], r, fill, edge, width) {
		g.beginPath();
		g.arc(x, y, r, 0, 7);
		if (fill) { g.fillStyle = fill; g.fill(); }
		if (edge) { g.strokeStyle = edge; g.lineWidth = width || 1; g.stroke(); }
	}
	function within(g, p, paint) {
		g.save();
		g.beginPath();
		g.rect(p.l, p.t, p.w, p.h);
		g.clip();
		paint();
		g.restore();
	}
	function write(g, text, x, y, align, baseline) {
		g.textAlign = align || "center";
		g.textBaseline = baseline || "middle";
		g.fillText(text, x, y);
	}
	function axes(g, { l, t, w, h: tall }, xs, ys, xName, yName, xTicks) {
		g.fillStyle = ink;
		for (const [v, text] of xTicks || ticks(xs, clamp(w / 70, 2, 8))) {
			const x = l + (v - xs[0]) / (xs[1] - xs[0]) * w;
			line(g, [[x, t + tall], [x, t + tall + 4]], ink, 1);
			write(g, text, x, t + tall + 6, "center", "top");
		}
		write(g, xName, l + w / 2, t + tall + 21, "center", "top");
		for (const [v, text] of ticks(ys, clamp(tall / 40, 2, 8))) {
			const y = t + (ys[1] - v) / (ys[1] - ys[0]) * tall;
			line(g, [[l - 4, y], [l, y]], ink, 1);
			write(g, text, l - 6, y, "right");
		}
		g.save();
		g.translate(8, t + tall / 2);
		g.rotate(-Math.PI / 2);
		write(g, yName, 0, 0);
		g.restore();
		g.strokeRect(l, t, w, tall);
	}

	function paint() { // all that stays while a ball moves
		const image = h("canvas", { width: side, height: side }), ig = image.getContext("2d"), pixels = ig.createImageData(side, side);
		const { low, high, flat, v, density } = field;
		v.forEach((e, n) => { // colours grow with the root of the energy: with the distance, where energy is a squared distance
			const share = s.density ? 1 - sqrt(density.v[n] / density.top) : flat ? 0.5 : sqrt(clamp((e - low) / (high - low), 0, 1));
			pixels.data.set([...RGB[round(255 * share)], 255], 4 * ((side - 1 - Math.floor(n / side)) * side + n % side));
		});
		ig.putImageData(pixels, 0, 0);
		backdrop = h("canvas", { width: map.width, height: map.height });
		const g = brush(backdrop), { l, t, w, h: tall } = plot, px = w / (side - 1), py = tall / (side - 1);
		within(g, plot, () => {
			g.drawImage(image, l - px / 2, t - py / 2, w + px, tall + py);
			if (!flat) for (let i = 1; i < 13; i++) contour(g, low + (high - low) * (i / 12.5) ** 2, i < 8 && !s.density);
			if (s.arrows) arrows(g);
			spec.curves.forEach(c => cased(g, c.map(toXY), 1.5));
			spec.data.forEach(p => dot(g, toXY(p), 2.2, WHITE, BLACK));
		});
		axes(g, plot, box[0], box[1], nameX, nameY);
	}
	function contour(g, level, pale) { // marching squares
		const { v } = field, px = plot.w / (side - 1), py = plot.h / (side - 1);
		g.beginPath();
		for (let j = 0; j < side - 1; j++) for (let i = 0; i < side - 1; i++) {
			const n = j * side + i, a = v[n], b = v[n + 1], c = v[n + side + 1], d = v[n + side];
			if (a > level === b > level && b > level === c > level && c > level === d > level) continue;
			let open = false;
			const edge = (p, q, x, y, dx, dy) => {
				if (p > level === q > level) return;
				const f = (level - p) / (q - p);
				g[open ? "lineTo" : "moveTo"](plot.l + (i + x + dx * f) * px, plot.t + plot.h - (j + y + dy * f) * py);
				open = !open;
			};
			edge(a, b, 0, 0, 1, 0); edge(b, c, 1, 0, 0, 1); edge(d, c, 0, 1, 1, 0); edge(a, d, 0, 0, 0, 1);
		}
		g.strokeStyle = pale ? "rgba(255,255,255,.35)" : "rgba(0,0,0,.28)";
		g.lineWidth = 1;
		g.stroke();
	}
	function arrows(g) { // along the negative slope, long with its root
		const nx = 13, ny = max(5, round(nx * plot.h / plot.w)), cell = plot.w / nx;
		const all = [...Array(nx * ny)].map((_, n) => {
			const x = xLow + size[0] * (n % nx + 0.5) / nx, y = yLow + size[1] * (Math.floor(n / nx) + 0.5) / ny, [, gx, gy] = slopeAt(x, y);
			const dx = -gx * plot.w / size[0], dy = gy * plot.h / size[1];
			return { at: toXY([x, y]), dx, dy, d: hypot(dx, dy) };
		});
		const top = all.map(a => a.d).sort((a, b) => a - b)[Math.floor(0.9 * all.length)];
		all.forEach(({ at: [x, y], dx, dy, d }) => {
			if (!(d > 1e-6 * top)) return;
			const r = 0.42 * cell * sqrt(min(1, d / top)), ux = dx / d, uy = dy / d, tip = [x + r * ux, y + r * uy];
			const barb = k => [tip[0] - 4 * (ux + k * uy), tip[1] - 4 * (uy - k * ux)];
			cased(g, [[x - r * ux, y - r * uy], tip, barb(0.6), tip, barb(-0.6)], 1.2);
		});
	}

	function drawMap() {
		const m = model(), g = brush(map), ball = here(runs[s.selected]), [bx, by] = toXY(ball);
		if (!backdrop) paint();
		g.drawImage(backdrop, 0, 0, map.width / dense, map.height / dense);
		within(g, plot, () => {
			if (!s.free[1]) line(g, [[plot.l, by], [plot.l + plot.w, by]], WHITE, 1.5, [5, 5]); // the line a ball is bound to
			if (!s.free[0]) line(g, [[bx, plot.t], [bx, plot.t + plot.h]], WHITE, 1.5, [5, 5]);
			if (m.latent && m.cx) { // the points that the latent's values stand for, and which of them are inferred
				energyAt(...ball, true);
				const top = most(m.P), few = m.K <= 24;
				line(g, [[bx, by], toXY([m.cx[m.best], m.cy[m.best]])], WHITE, 1.5, [3, 3]);
				m.P.forEach((p, k) => dot(g, toXY([m.cx[k], m.cy[k]]), few ? 2.5 + 8 * sqrt(p) : 1 + 2.4 * p / top,
					`rgba(255,255,255,${0.28 + 0.65 * p / top})`, few && BLACK));
			}
			runs.forEach(r => {
				const path = r.path.map(toXY);
				let before = [-99, 0];
				cased(g, path, 1.6);
				path.forEach(p => { if (hypot(p[0] - before[0], p[1] - before[1]) > 5) dot(g, before = p, 1.9, WHITE, BLACK); });
			});
		});
		[...runs.keys()].sort((i, j) => (i === s.selected) - (j === s.selected)).forEach(i => { // the chosen one on top
			const r = runs[i], [x, y] = toXY(here(r)), at = [clamp(x, plot.l, plot.l + plot.w), clamp(y, plot.t, plot.t + plot.h)], chosen = i === s.selected;
			if (r.n) { dot(g, toXY(s.starts[i]), 5, null, "#000", 3.4); dot(g, toXY(s.starts[i]), 5, null, WHITE, 1.6); }
			if (chosen) dot(g, at, 10.5, null, WHITE, 2.4);
			dot(g, at, chosen ? 8.5 : 6, chosen ? BALL : WHITE, "#000", 1.8);
		});
		if (touched) return;
		const w = g.measureText("drag me").width + 14, x = clamp(bx - w / 2, plot.l + 2, plot.l + plot.w - w - 2), y = by - 40 > plot.t ? by - 40 : by + 18;
		g.fillStyle = "rgba(0,0,0,.8)";
		g.fillRect(x, y, w, 22);
		g.fillStyle = WHITE;
		write(g, "drag me", x + w / 2, y + 12);
	}

	function drawCut() {
		const g = brush(cut), ball = here(runs[s.selected]), m = model(), p = plotC, c = axis();
		const infer = spec.panel === "latent" && m.latent, F = energyAt(...ball, true), posterior = m.P.slice();
		let xs = numbers(181, i => box[c][0] + size[c] * i / 180), values, range = box[c], name = spec.axes[c], marks = [], few = false;
		if (infer) {
			const bottom = -most(m.z.map(v => -v)), top = most(m.z);
			few = m.K <= 24;
			const pad = few ? 0.5 * (top - bottom) / max(1, m.K - 1) || 0.5 : 0;
			xs = m.z; values = m.E.slice(); range = [bottom - pad, top + pad]; name = infer.name;
			marks = s.beta === Infinity ? [["min = F∞", F]] : [["min", values[m.best]], ["Fβ", F]];
			if (s.prior === "p") marks.push(["mean", m.mean()]);
		} else values = xs.map(v => c ? energyAt(ball[0], v) : energyAt(v, ball[1]));
		const shown = infer ? [...values, ...marks.map(v => v[1])] : [field.low, field.high, F];
		let floor = -most(shown.map(v => -v)), roof = most(shown);
		const pad = 0.07 * (roof - floor) || 1;
		floor -= pad; roof += pad;
		const X = v => p.l + (v - range[0]) / (range[1] - range[0]) * p.w, Y = v => p.t + (roof - v) / (roof - floor) * p.h;
		const ballAt = (q, r, fill) => dot(g, [X(clamp(q[c], ...range)), clamp(Y(energyAt(...q)), p.t, p.t + p.h)], r, fill, "#000", 1.8);
		const curve = Array.from(xs, (v, i) => [X(v), Y(values[i])]);
		within(g, p, () => {
			if (infer) { // the posterior over z, from the floor up
				const bar = 0.45 * p.h / most(posterior), w = few ? 8 : 0.5 * p.w / m.K, floor = p.t + p.h;
				g.beginPath();
				posterior.forEach((q, k) => [[-w, 0], [-w, q], [w, q], [w, 0]].forEach(([x, v]) => g.lineTo(curve[k][0] + x, floor - v * bar)));
				g.fillStyle = "rgba(213,94,0,.45)";
				g.fill();
			}
			marks.forEach(([, v]) => line(g, [[p.l, Y(v)], [p.l + p.w, Y(v)]], ink, 1, [4, 4]));
			if (few) curve.forEach(q => dot(g, q, 4.5, CURVE, ink));
			else line(g, curve, CURVE, 2.2);
		});
		if (infer) {
			let y = -99;
			g.fillStyle = ink;
			marks.sort((a, b) => b[1] - a[1]).forEach(([text, v]) => write(g, text, p.l + p.w + 4, y = max(Y(v), y + 13), "left"));
			dot(g, curve[m.best], 6.5, BALL, "#000", 1.8);
		} else {
			if (!s.free[1 - c]) runs.forEach(r => { if (here(r)[1 - c] === ball[1 - c]) ballAt(here(r), 5, WHITE); });
			ballAt(ball, 7.5, BALL);
		}
		axes(g, p, range, [floor, roof], infer ? `${name}; shaded: P(${name.split(" ")[0]}|y)` : name, infer ? "energy E" : "energy F", few && Array.from(xs, v => [v, `${v}`]));
		cut.setAttribute("aria-label", infer ? `Energy of each value of ${name} at the point, and the posterior` : `Energy along ${name} through the point`);
	}

	/* --- read-out --- */

	function ends() { // which energies the starts have reached, told apart at 2 % of the landscape's range
		const gap = 0.02 * (field.high - field.low) + 1e-9, lost = runs.filter(r => r.end === "lost").length, groups = [];
		runs.filter(r => r.end !== "lost").map(r => energyAt(...here(r))).sort((a, b) => a - b).forEach(e => {
			const g = groups[groups.length - 1];
			if (g && e - g[1] < gap) g[0]++; else groups.push([1, e]);
		});
		const text = groups.slice(0, 4).map(g => `${g[0]} at ${fmt(g[1], field.digits)}`);
		if (groups.length > 4) text.push("the rest higher");
		if (lost) text.push(`${lost} diverged`);
		return text.join(", ");
	}
	function report() {
		const run = runs[s.selected], [x, y] = here(run), m = model(), { digits, density, flat } = field, n = s.starts.length;
		const [e, gx, gy] = slopeAt(x, y), probable = s.density && density;
		if (anyLatent) read.bounds.textContent = !m.latent ? "no latent" : `${fmt(m.E[m.best], digits)}, ${s.prior === "p" ? fmt(m.mean(), digits) : "needs a prior"}`;
		read.energyLabel.replaceChildren("Energy F", ...(m.latent ? [h("sub", {}, s.beta === Infinity ? "∞" : "β")] : []));
		read.energy.textContent = fmt(e, digits + 1);
		read.where.textContent = `(${fmt(x, digitsOf(size[0]))}, ${fmt(y, digitsOf(size[1]))})`;
		read.slope.textContent = fmt(hypot(gx, gy), digits + 1);
		read.steps.textContent = run.n + (run.end === "lost" ? ", diverged" : run.end ? ", at rest" : "");
		if (density) read.density.textContent = fmt(density.at(x, y), 3);
		read.summary.textContent = n === 1 ? "1 (click to add more)" : `${s.selected + 1} of ${n}; energy: ${ends()}`;
		low.textContent = probable ? `probable ${fmt(density.top, 2)}` : flat ? `flat: ${fmt(field.low, digits)}` : `low energy ${fmt(field.low, digits)}`;
		high.textContent = probable ? "0" : flat ? "" : `${fmt(field.high, digits)} high`;
		runButton.textContent = s.running ? "Pause" : finished() && s.steps ? "Replay" : "Run";
		manyButton.textContent = n > 1 ? "1 start" : "9 starts";
		syncs.forEach(f => f());
		el.dataset.state = s.running ? "running" : "idle";
	}
	function speak() { // once things are quiet, one sentence for screen readers
		if (!s.running) live.textContent = `Start ${s.selected + 1} of ${s.starts.length}: point ${read.where.textContent}, energy ${read.energy.textContent}, `
			+ `steps ${read.steps.textContent}${hasBeta ? `, β ${showBeta()}` : ""}${s.starts.length > 1 ? `. Energies: ${ends()}` : ""}`;
	}

	/* --- frames --- */

	function draw(now) {
		frame = 0;
		if (!plot && !layout()) return;
		if (s.running) {
			if (!last || now - last > 1000) last = now;
			const due = Math.floor((now - last) * RATE / 1000);
			s.steps = min(spec.max, s.steps + due);
			last += due * 1000 / RATE;
		}
		ground();
		runs.forEach(advance);
		if (s.running && finished()) { s.running = false; speak(); }
		drawMap();
		if (cut) drawCut();
		report();
		if (s.running) refresh();
	}
	function refresh() { if (!frame) frame = requestAnimationFrame(draw); }

	restart();
	new ResizeObserver(() => { if (layout()) draw(performance.now()); }).observe(left);
	new MutationObserver(theme).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
	theme();

	el.ebm = {
		spec,
		state: () => ({ ...s, points: runs.map(here), energies: runs.map(r => energyAt(...here(r))), ends: runs.map(r => r.end), lengths: runs.map(r => r.n) }),
		set(changes) { Object.assign(s, changes); relief(); draw(performance.now()); },
		energy: (x, y) => energyAt(x, y),
		gradient: (x, y) => slopeAt(x, y).slice(1),
		density: (x, y) => ground().density.at(x, y),
		pixel: (x, y) => toXY([x, y]),
	};
}

/* --- all explorers of the page --- */

function start(el) {
	if (el.dataset.state) return;
	el.dataset.state = "starting";
	try {
		const script = el.querySelector("script[type='application/json']");
		check(script, "its description is missing");
		build(el, JSON.parse(script.textContent));
	} catch (error) {
		el.dataset.state = "error";
		el.append(h("p", { class: "ebm-error", role: "alert" }, `This interactive figure cannot be drawn: ${error.message}.`));
	}
}
// near the window at once, the others when the browser has time, so that printing and screenshots have them all
function scan() {
	const idle = window.requestIdleCallback || (f => setTimeout(f, 200)), queue = [...document.querySelectorAll(".ebm-explorer")];
	const near = new IntersectionObserver(all => all.forEach(e => e.isIntersecting && start(e.target)), { rootMargin: "400px" });
	const next = () => { const el = queue.shift(); if (el) { start(el); idle(next); } };
	queue.forEach(el => near.observe(el));
	idle(next);
}
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", scan);
else scan();
})();
