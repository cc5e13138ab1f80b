/* An agent in two rooms: a learned world model, planned with in the browser. No framework, no network, no kernel; a classic
   script, to run from file:// too. ebm_lib/viz/rooms.py writes, and documents, the JSON that it reads. */
(function () {
"use strict";

const { abs, cos, exp, floor, log, log1p, max, min, PI, pow, sqrt } = Math;
const clamp = (v, low, high) => min(high, max(low, v));
const SIZE = 28, SPOT = 0.04, MARGIN = 1e-4; // as in ebm_lib/world/rooms.py
const SAMPLES = 64, ELITES = 6, ITERATIONS = 3, HOLD = 4, RADIUS = 0.1;
const DOT = "#d55e00", TRAIL = "#0072b2", KEY = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STYLE = `.ebm-rooms{margin:1.2rem 0;padding:.9rem 1rem;border:1px solid #8886;border-radius:.6rem;font-size:.875rem}
.ebm-rooms .row{display:flex;flex-wrap:wrap;gap:.8rem 1.2rem}.ebm-rooms .left{flex:1.2 1 17rem;max-width:26rem}.ebm-rooms .right{flex:1 1 14rem}
.ebm-rooms canvas{display:block;width:100%;border-radius:.3rem}.ebm-rooms .left canvas{touch-action:none;cursor:pointer}.ebm-rooms canvas:focus-visible{outline:3px solid #0b5394}
.ebm-rooms button,.ebm-rooms select{min-height:2.25rem;padding:.2rem .7rem;margin:0 .4rem .4rem 0;font:inherit;border:1px solid #888;border-radius:.4rem;color:inherit;background:#8882}
.ebm-rooms option{color:#111;background:#fff}.ebm-rooms dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;margin:.5rem 0}.ebm-rooms dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}.ebm-rooms dt{font-weight:400}`;

function h(tag, attributes, ...children) {
	const e = document.createElement(tag);
	for (const [k, v] of Object.entries(attributes)) if (k.startsWith("on")) e[k] = v; else e.setAttribute(k, v);
	e.append(...children);
	return e;
}
function normals(seed) { // mulberry32, then Box and Muller
	const uniform = () => {
		seed = seed + 0x6d2b79f5 | 0;
		let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
		t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
		return ((t ^ t >>> 14) >>> 0) / 4294967296;
	};
	return () => sqrt(-2 * log(1 - uniform())) * cos(2 * PI * uniform());
}

/* --- the world: a segment, cut where it meets a wall or the border --- */

function move(p, a, walls, reach) {
	const d = a.map(v => clamp(v, -reach, reach));
	let t = 1;
	for (let k = 0; k < 2; k++) if (d[k]) t = min(t, max(0, (d[k] > 0 ? 1 - p[k] : p[k]) - MARGIN) / abs(d[k]));
	for (const w of walls) {
		let enter = -Infinity, leave = Infinity;
		for (let k = 0; k < 2; k++) {
			const low = w[k] - MARGIN, high = w[k + 2] + MARGIN;
			if (!d[k]) { if (p[k] <= low || p[k] >= high) enter = Infinity; continue; }
			enter = max(enter, ((d[k] > 0 ? low : high) - p[k]) / d[k]);
			leave = min(leave, ((d[k] > 0 ? high : low) - p[k]) / d[k]);
		}
		if (enter < leave && leave > 0) t = min(t, max(0, enter));
	}
	return [p[0] + t * d[0], p[1] + t * d[1]];
}

/* --- a world model --- */

function learned(m, reach) {
	const [n, C] = m.table, bytes = atob(m.values), table = new Float64Array(n * n * C), K = m.planes;
	for (let i = 0; i < table.length; i++) {
		const u = bytes.charCodeAt(2 * i) + 256 * bytes.charCodeAt(2 * i + 1), c = i % C;
		table[i] = m.low[c] + (m.high[c] - m.low[c]) * u / 65535;
	}
	const f = new Float64Array(C), maps = m.kernel.length, side = SIZE / 2;
	return {
		encode(p) { // one convolution, a softmax over places, their means, and a linear map
			const ink = [0, 1].map(k => Float64Array.from({ length: SIZE }, (_, j) => exp(-(((j + .5) / SIZE - p[k]) ** 2) / (2 * SPOT * SPOT))));
			const s = m.constant.slice();
			for (let c = 0; c < maps; c++) {
				const score = new Float64Array(side * side);
				let top = -Infinity, total = 0, x = 0, y = 0;
				for (let i = 0; i < side; i++) for (let j = 0; j < side; j++) {
					let v = 0;
					for (let a = 0; a < 5; a++) for (let b = 0; b < 5; b++) {
						const r = 2 * i + a - 2, q = 2 * j + b - 2;
						if (r >= 0 && q >= 0 && r < SIZE && q < SIZE) v += m.kernel[c][5 * a + b] * ink[1][r] * ink[0][q];
					}
					score[i * side + j] = v *= m.sharpness;
					top = max(top, v);
				}
				for (let i = 0; i < score.length; i++) {
					const w = exp(score[i] - top);
					total += w; x += w * (2 * (i % side) / (side - 1) - 1); y += w * (2 * floor(i / side) / (side - 1) - 1);
				}
				for (let k = 0; k < 2; k++) s[k] += 2 * (m.mix[k][2 * c] * x + m.mix[k][2 * c + 1] * y) / total;
			}
			return s;
		},
		step(s, a0, a1, out) { // planes around the state, read from the table, cut the step short
			const u = clamp((s[0] - m.box[0][0]) / (m.box[0][1] - m.box[0][0]), 0, 1) * (n - 1), v = clamp((s[1] - m.box[1][0]) / (m.box[1][1] - m.box[1][0]), 0, 1) * (n - 1);
			const i = min(n - 2, floor(u)), j = min(n - 2, floor(v)), x = u - i, y = v - j, o = (i * n + j) * C, e = o + n * C;
			for (let c = 0; c < C; c++) f[c] = (1 - x) * ((1 - y) * table[o + c] + y * table[o + C + c]) + x * ((1 - y) * table[e + c] + y * table[e + C + c]);
			a0 /= reach; a1 /= reach;
			let met = 1;
			for (let k = 0; k < K; k++) {
				const hit = f[2 * k] * a0 + f[2 * k + 1] * a1;
				if (hit > 0) met += pow(hit / f[2 * K + k], m.power);
			}
			const t = pow(met, -1 / m.power), b = 3 * K;
			out[0] = s[0] + t * (f[b] * a0 + f[b + 1] * a1);
			out[1] = s[1] + t * (f[b + 2] * a0 + f[b + 3] * a1);
		},
		read: s => [0, 1].map(k => m.read[0][k] * s[0] + m.read[1][k] * s[1] + m.read[2][k]),
	};
}

/* --- the cross-entropy method --- */

function energyOf(model, s0, goal, plan, H) {
	const s = s0.slice();
	let energy = 0;
	for (let t = 0; t < H; t++) {
		model.step(s, plan[2 * t], plan[2 * t + 1], s);
		energy += (t + 1) * log1p(sqrt(((s[0] - goal[0]) ** 2 + (s[1] - goal[1]) ** 2) / 2) / RADIUS);
	}
	return energy / (H * (H + 1) / 2);
}
function cem(model, s0, goal, mean, H, reach, draw) {
	let deviation = new Float64Array(2 * H).fill(2 * reach), best = mean, lowest = energyOf(model, s0, goal, mean, H), tried;
	mean = mean.slice();
	for (let k = 0; k < ITERATIONS; k++) {
		tried = [...Array(SAMPLES)].map(() => {
			const plan = new Float64Array(2 * H);
			for (let t = 0; t < H; t += HOLD) for (let c = 0; c < 2; c++) {
				const noise = draw();
				for (let r = t; r < min(H, t + HOLD); r++) plan[2 * r + c] = clamp(mean[2 * r + c] + deviation[2 * r + c] * noise, -reach, reach);
			}
			return { plan, energy: energyOf(model, s0, goal, plan, H) };
		}).sort((a, b) => a.energy - b.energy);
		if (tried[0].energy < lowest) [lowest, best] = [tried[0].energy, tried[0].plan];
		const elite = tried.slice(0, ELITES).map(e => e.plan);
		for (let i = 0; i < 2 * H; i++) {
			mean[i] = elite.reduce((s, p) => s + p[i], 0) / ELITES;
			deviation[i] = max(.3 * reach, sqrt(elite.reduce((s, p) => s + (p[i] - mean[i]) ** 2, 0) / ELITES));
		}
	}
	return { best, lowest, tried };
}

/* --- the figure --- */

function build(el, spec) {
	const { reach, H, walls } = spec, models = spec.members.map(m => learned(m, reach));
	const s = { member: 0, start: spec.start, goal: spec.goal, at: spec.start, trail: [spec.start], ahead: new Float64Array(2 * H), running: false, seed: 1, plan: null, time: 0, held: null };
	const canvas = h("canvas", { tabindex: 0, role: "img" }), strip = h("canvas", { role: "img" });
	const live = h("p", { "aria-live": "polite", style: "margin:.2rem 0" }), fields = {};
	const field = (key, label) => [h("dt", {}, label), fields[key] = h("dd", {})];
	const run = h("button", { type: "button", onclick: () => { s.running = !s.running; s.running ? tick() : show(); } }, "Run");
	const choose = h("select", { "aria-label": "World model", onchange: () => { s.member = +choose.value; reset(); } }, ...spec.members.map((m, i) => h("option", { value: i }, m.label)));
	el.replaceChildren(h("p", { style: "font-weight:600;margin:0 0 .5rem" }, spec.title), h("div", { class: "row" },
		h("div", { class: "left" }, canvas),
		h("div", { class: "right" }, choose, h("div", {}, run,
			h("button", { type: "button", onclick: () => { s.running = false; act(); } }, "One step"), h("button", { type: "button", onclick: reset }, "Back to start")),
			h("dl", {}, ...field("lowest", "Lowest energy found"), ...field("range", "Energies of the samples"), ...field("steps", "Steps"), ...field("time", "One decision")),
			strip, h("p", { style: "margin:.4rem 0" }, "Drag the dot or the star, or use the arrow keys (star) and Shift with them (dot)."), live)));

	const free = p => p.every(v => v > .01 && v < .99) && !walls.some(w => p[0] > w[0] - .005 && p[0] < w[2] + .005 && p[1] > w[1] - .005 && p[1] < w[3] + .005);
	const there = () => Math.hypot(s.at[0] - s.goal[0], s.at[1] - s.goal[1]) < reach;
	function think() {
		const model = models[s.member], begun = performance.now();
		s.state = model.encode(s.at);
		s.plan = cem(model, s.state, model.encode(s.goal), s.ahead, H, reach, normals(s.seed));
		s.time = performance.now() - begun;
		show();
	}
	function act() {
		if (there()) { s.running = false; show(); return; }
		const plan = s.plan.best;
		s.at = move(s.at, [plan[0], plan[1]], walls, reach);
		s.trail.push(s.at);
		s.ahead = Float64Array.from(plan, (_, i) => plan[min(i + 2, 2 * H - 2 + i % 2)]);
		s.seed++;
		think();
	}
	function tick() {
		if (!s.running) return;
		if (there() || s.trail.length > spec.budget) { s.running = false; show(); return; }
		act();
		setTimeout(tick, 90);
	}
	function reset() {
		Object.assign(s, { at: s.start, trail: [s.start], ahead: new Float64Array(2 * H), running: false, seed: 1 });
		think();
	}
	function drag(which, p) {
		p = p.map(v => clamp(v, .02, .98));
		if (!free(p)) return;
		s[which] = p;
		reset();
	}

	const dark = () => document.documentElement.dataset.theme === "dark";
	function fit(c, ratio) {
		const w = c.clientWidth || 320, r = window.devicePixelRatio || 1, g = c.getContext("2d");
		if (c.width !== Math.round(w * r) || c.height !== Math.round(w * ratio * r)) { c.width = Math.round(w * r); c.height = Math.round(w * ratio * r); }
		g.setTransform(c.width, 0, 0, c.width, 0, 0);
		return g;
	}
	function line(g, points, color, width, dash = []) {
		g.beginPath();
		points.forEach(([x, y], i) => i ? g.lineTo(x, y) : g.moveTo(x, y));
		g.strokeStyle = color; g.lineWidth = width; g.setLineDash(dash); g.stroke(); g.setLineDash([]);
	}
	function imagined(plan) {
		const model = models[s.member], state = s.state.slice(), path = [model.read(state)];
		for (let t = 0; t < H; t++) { model.step(state, plan[2 * t], plan[2 * t + 1], state); path.push(model.read(state)); }
		return path;
	}
	function show() {
		const g = fit(canvas, 1), ink = dark() ? "#eee" : "#111", { tried, best, lowest } = s.plan;
		g.fillStyle = dark() ? "#20262e" : "#fff"; g.fillRect(0, 0, 1, 1);
		tried.slice().reverse().forEach((e, i) => line(g, imagined(e.plan), `hsl(${200 + 40 * i / SAMPLES} 60% ${dark() ? 30 + 35 * i / SAMPLES : 85 - 40 * i / SAMPLES}%)`, .003));
		g.fillStyle = dark() ? "#7b8794" : "#777"; walls.forEach(w => g.fillRect(w[0], w[1], w[2] - w[0], w[3] - w[1]));
		g.strokeStyle = g.fillStyle; g.lineWidth = .008; g.strokeRect(0, 0, 1, 1);
		line(g, s.trail, TRAIL, .012);
		line(g, imagined(best), ink, .008);
		let p = s.at;
		line(g, [p, ...[...Array(H)].map((_, t) => p = move(p, [best[2 * t], best[2 * t + 1]], walls, reach))], DOT, .006, [.02, .015]);
		g.fillStyle = DOT;
		g.beginPath(); g.arc(...s.at, .02, 0, 2 * PI); g.fill();
		g.beginPath();
		for (let i = 0; i < 10; i++) g.lineTo(s.goal[0] + (i % 2 ? .014 : .036) * Math.sin(i * PI / 5), s.goal[1] - (i % 2 ? .014 : .036) * cos(i * PI / 5));
		g.fill();
		const low = tried[0].energy, high = tried[SAMPLES - 1].energy, q = fit(strip, .22), at = e => .03 + .94 * min(1, e / spec.top);
		q.fillStyle = dark() ? "#20262e" : "#fff"; q.fillRect(0, 0, 1, .22);
		tried.forEach(e => line(q, [[at(e.energy), .03], [at(e.energy), .12]], dark() ? "#7db8f0" : "#0b5394", .003));
		line(q, [[.03, .125], [.97, .125]], ink, .003);
		const w = strip.width, text = (s, x, align) => { q.textAlign = align; q.fillText(s, x * w, .19 * w); };
		q.setTransform(1, 0, 0, 1, 0, 0); q.fillStyle = ink; q.font = `${.045 * w}px sans-serif`;
		text("0", .03, "center"); text("energy of the samples", .5, "center"); text(String(spec.top), .97, "right");
		const digits = high - low < .1 ? 3 : 2;
		fields.lowest.textContent = lowest.toFixed(digits);
		fields.range.textContent = `${low.toFixed(digits)} to ${high.toFixed(digits)}`;
		fields.steps.textContent = `${s.trail.length - 1}${there() ? ", there" : s.trail.length > spec.budget ? ", given up" : ""}`;
		fields.time.textContent = `${Math.round(s.time)} ms`;
		run.textContent = s.running ? "Pause" : "Run";
		canvas.setAttribute("aria-label", `${spec.alt} The dot is at ${s.at.map(v => v.toFixed(2))}, the goal at ${s.goal.map(v => v.toFixed(2))}.`);
		strip.setAttribute("aria-label", `Energies of 64 plans, from ${low.toFixed(digits)} to ${high.toFixed(digits)}`);
		if (!s.running) live.textContent = there() ? `There after ${s.trail.length - 1} steps.` : "";
		el.dataset.state = s.running ? "running" : "idle";
	}

	const where = e => { const r = canvas.getBoundingClientRect(); return [(e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height]; };
	const away = (p, q) => Math.hypot(p[0] - q[0], p[1] - q[1]);
	canvas.onpointerdown = e => {
		const p = where(e);
		s.held = away(p, s.at) < .06 && away(p, s.at) < away(p, s.goal) ? "start" : "goal";
		canvas.setPointerCapture(e.pointerId);
		drag(s.held, p);
	};
	canvas.onpointermove = e => { if (s.held) drag(s.held, where(e)); };
	canvas.onpointerup = canvas.onpointercancel = () => { s.held = null; };
	canvas.onkeydown = e => {
		const d = KEY[e.key], which = e.shiftKey ? "start" : "goal";
		if (d) { e.preventDefault(); drag(which, s[which].map((v, k) => v + .03 * d[k])); }
	};
	reset();
	new ResizeObserver(() => show()).observe(canvas);
	new MutationObserver(() => show()).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
	el.ebm = { spec, models, state: () => s, set(changes) { Object.assign(s, changes); reset(); }, act, move: (p, a) => move(p, a, walls, reach) };
}

function scan() {
	const all = document.querySelectorAll(".ebm-rooms");
	if (all.length) document.head.append(h("style", {}, STYLE));
	all.forEach(el => {
		try {
			build(el, JSON.parse(el.querySelector("script[type='application/json']").textContent));
		} catch (error) {
			el.dataset.state = "error";
			el.append(h("p", { role: "alert" }, `This interactive figure cannot be drawn: ${error.message}.`));
		}
	});
}
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", scan);
else scan();
})();
