// The raters' page. Text from the server is only ever set as textContent.

const $ = (id) => document.getElementById(id);
const OTHER = { a: "b", b: "a" };
const FADE = 0.008, AHEAD = 0.01; // seconds
const CHOICES = [
  ["a", 3, "A is far better"], ["a", 2, "A is better"], ["a", 1, "A is a little better"],
  ["tie", null, "The same"],
  ["b", 1, "B is a little better"], ["b", 2, "B is better"], ["b", 3, "B is far better"],
];

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const drawn = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// Sound: both clips are decoded beforehand; a switch goes on at the same bar, to the sample.
class Player {
  constructor(changed) {
    this.changed = changed;
    this.context = null;
    this.clear();
  }

  clear() {
    this.halt();
    Object.assign(this, { clips: {}, side: "a", bars: 0, loop: null, unsent: [], heard: { a: 0, b: 0 } });
  }

  async load(trial) {
    this.clear();
    this.heard = { a: trial.a.played, b: trial.b.played };
    this.trial = trial; // another one may come before this one is loaded
    const decoder = new OfflineAudioContext(1, 1, 22050);
    const clips = await Promise.all(["a", "b"].map(async (side) => {
      const answer = await fetch(trial[side].audio);
      if (!answer.ok) throw new Error("the sound could not be loaded");
      const { bar, seconds, steps } = trial[side].roll;
      const buffer = await decoder.decodeAudioData(await answer.arrayBuffer());
      return { buffer, barSeconds: bar * seconds, bars: steps / bar };
    }));
    if (this.trial === trial) this.clips = { a: clips[0], b: clips[1] };
  }

  get ready() { return Boolean(this.clips.a); }
  get playing() { return Boolean(this.source); }
  get length() { return Math.max(this.clips.a.bars, this.clips.b.bars); }

  elapsed() { return this.source ? Math.max(0, this.context.currentTime - this.startedAt) : 0; }

  position() { // in bars
    if (!this.source) return this.bars;
    const { barSeconds, bars } = this.clips[this.side];
    const now = this.bars + this.elapsed() / barSeconds;
    if (this.looped && now > this.looped[1]) {
      const [from, to] = this.looped;
      return from + ((now - from) % (to - from));
    }
    return Math.min(now, bars);
  }

  start(side = this.side, bars = this.position()) {
    if (!this.ready) return;
    this.context ||= new AudioContext();
    this.context.resume();
    this.halt();
    const { buffer, barSeconds, bars: length } = this.clips[side];
    if (bars >= length - 1e-3) bars = 0;
    const source = this.context.createBufferSource(), gain = this.context.createGain();
    source.buffer = buffer;
    this.looped = this.loop && this.loop[0] < length && bars < this.loop[1] ? [this.loop[0], Math.min(this.loop[1], length)] : null;
    if (this.looped) {
      source.loop = true;
      [source.loopStart, source.loopEnd] = this.looped.map((bar) => bar * barSeconds);
    }
    const at = this.context.currentTime + AHEAD;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(1, at + FADE);
    source.connect(gain).connect(this.context.destination);
    source.start(at, bars * barSeconds);
    source.onended = () => { if (this.source === source) { this.halt(); this.bars = 0; this.changed(); } };
    Object.assign(this, { side, bars, source, gain, startedAt: at, noted: 0 });
    this.changed();
  }

  note() { // what was heard since the last time
    if (!this.source) return;
    const { barSeconds, buffer } = this.clips[this.side];
    const from = this.bars * barSeconds + this.noted, seconds = this.elapsed() - this.noted;
    const to = this.looped ? from + seconds : Math.min(from + seconds, buffer.duration);
    if (to > from) this.unsent.push([this.side, from, to]);
    this.heard[this.side] += Math.max(0, to - from);
    this.noted += seconds;
  }

  halt() {
    if (!this.source) return;
    this.note();
    const position = this.position();
    const { source, gain, context } = this;
    this.source = null;
    this.bars = position;
    source.onended = null;
    gain.gain.setTargetAtTime(0, context.currentTime, FADE / 3);
    source.stop(context.currentTime + 4 * FADE);
    source.onended = () => { source.disconnect(); gain.disconnect(); };
  }

  toggle() { if (this.playing) { this.halt(); this.changed(); } else this.start(); }
  seek(bars) {
    bars = Math.max(0, Math.min(bars, this.length - 1e-3));
    if (this.playing) this.start(this.side, bars);
    else { this.bars = bars; this.changed(); }
  }
  setLoop(loop) {
    const position = this.position();
    this.loop = loop;
    if (this.playing) this.start(this.side, loop && (position < loop[0] || position >= loop[1]) ? loop[0] : position);
    else { if (loop) this.bars = loop[0]; this.changed(); }
  }
  seconds(side) { return this.heard[side] + (this.source && this.side === side ? this.elapsed() - this.noted : 0); }
  take() { // what is to be sent
    this.note();
    return this.unsent.splice(0);
  }
}

// A piano roll, in which a click seeks and a drag sets the loop
class Roll {
  constructor(clip, pitches, bars, actions) {
    const { roll } = clip, [low, high] = pitches;
    this.bars = bars;
    const width = bars * roll.bar, height = high - low + 1;
    this.svg = drawn("svg", { class: "roll", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.svg.append(drawn("rect", { class: "ground", width, height }));
    for (let bar = 1; bar < bars; bar++) this.svg.append(drawn("line", { class: "bar", x1: bar * roll.bar, x2: bar * roll.bar, y1: 0, y2: height }));
    this.loop = this.svg.appendChild(drawn("rect", { class: "loop", y: 0, height, width: 0 }));
    const thick = Math.max(0.84, height / 24); // visible also where the range is large
    for (const [onset, duration, pitch, voice] of roll.notes) {
      this.svg.append(drawn("rect", {
        class: `note v${voice % 4}`, x: onset + 0.08, y: high - pitch + 0.5 - thick / 2, width: Math.max(duration - 0.16, 0.3), height: thick, rx: 0.3, ry: 0.3,
      }));
    }
    this.head = this.svg.appendChild(drawn("line", { class: "head", y1: 0, y2: height, x1: 0, x2: 0 }));
    this.width = width;
    let from = null;
    const bar = (event) => {
      const box = this.svg.getBoundingClientRect();
      return Math.max(0, Math.min(bars - 1e-3, ((event.clientX - box.left) / box.width) * bars));
    };
    this.svg.addEventListener("pointerdown", (event) => { from = bar(event); });
    this.svg.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [first, last] = [from, bar(event)].sort((x, y) => x - y);
      if (last - first > 0.5) actions.loop([Math.floor(first), Math.ceil(last)]);
      else actions.seek(last);
      from = null;
    });
    this.svg.addEventListener("pointercancel", () => { from = null; });
  }

  show(bars, loop) {
    const x = (bars / this.bars) * this.width;
    this.head.setAttribute("x1", x);
    this.head.setAttribute("x2", x);
    this.loop.setAttribute("x", loop ? (loop[0] / this.bars) * this.width : 0);
    this.loop.setAttribute("width", loop ? ((loop[1] - loop[0]) / this.bars) * this.width : 0);
  }
}

const page = { state: null, cards: {}, rolls: {}, sending: false, scores: false, begun: false };
const player = new Player(() => { render(); if (player.playing) requestAnimationFrame(tick); });
$("main").player = player; // for the tests

let fading;
function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "shown bad" : "shown";
  clearTimeout(fading);
  if (!bad) fading = setTimeout(() => { $("status").className = ""; }, 2600);
}

// A message is sent until it is answered: an answer that comes twice is stored once.
async function send(path, body) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 5000)) {
    try {
      const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      const answer = await fetch(path, options);
      if (answer.status !== 429 && answer.status < 500) {
        const data = await answer.json().catch(() => ({}));
        if (!answer.ok) throw Object.assign(new Error(data.error || "that did not work"), { final: true });
        return data;
      }
    } catch (error) {
      if (error.final) throw error;
    }
    say("No connection. Trying again; nothing is lost.", true);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function act(path, body = {}) {
  if (page.sending) return;
  page.sending = true;
  try {
    const state = await send(path, body);
    page.sending = false;
    await show(state);
    return true;
  } catch (error) {
    say(error.message, true);
  } finally {
    page.sending = false;
    render();
  }
}

function needed(side) { return Math.min(page.state.minimum, page.state.trial[side].seconds / 2); }
function enough() { return page.state?.trial && player.ready && ["a", "b"].every((side) => player.seconds(side) >= needed(side)); }

async function answer(choice, strength = null) {
  if (!page.state?.trial || page.sending || $("trial").hidden) return;
  if (!enough()) { say("Listen to a part of both first."); return; }
  player.halt();
  const heard = player.take(), nonce = page.state.trial.nonce;
  const label = choice === "both_bad" ? "Both are bad" : CHOICES.find((c) => c[0] === choice && c[1] === strength)[2];
  if (await act("/api/answer", { nonce, choice, strength, played: heard })) say(`Kept: ${label}. Z goes back.`);
}

function report() { // what was heard so far, so that a reload loses nothing
  if (!page.state?.trial || page.sending) return;
  const heard = player.take();
  if (heard.length) {
    const body = JSON.stringify({ nonce: page.state.trial.nonce, played: heard });
    fetch("/api/played", { method: "POST", headers: { "Content-Type": "application/json" }, body, keepalive: true }).catch(() => player.unsent.push(...heard));
  }
}

async function show(state) {
  const before = page.state?.trial?.nonce;
  page.state = state;
  $("title").textContent = document.title = state.title;
  $("count").textContent = state.trial ? `Pair ${state.answered + 1} of ${state.quota}` : `${state.answered} of ${state.quota}`;
  $("progress").hidden = false;
  $("progress").setAttribute("aria-valuemax", state.quota);
  $("progress").setAttribute("aria-valuenow", state.answered);
  $("progress-bar").style.width = `${(100 * state.answered) / state.quota}%`;
  if (state.answered > 0) page.begun = true;
  $("welcome").hidden = page.begun;
  $("trial").hidden = !page.begun || !state.trial;
  $("pause").hidden = !page.begun || Boolean(state.trial);
  showWelcome(state);
  showPause(state);
  showLearning(state.learning);
  if (state.trial && state.trial.nonce !== before) await showTrial(state);
  if (!state.trial) player.clear();
  render();
}

function showWelcome(state) {
  $("instructions").replaceChildren(...state.instructions.split("\n").filter(Boolean).map((text) => element("p", {}, text)));
}

async function showTrial(state) {
  const { trial } = state;
  $("question").textContent = state.question;
  $("prompt").textContent = trial.prompt ? `Both were made for: “${trial.prompt}”` : "";
  const bars = Math.max(...["a", "b"].map((side) => trial[side].roll.steps / trial[side].roll.bar));
  const pitches = ["a", "b"].flatMap((side) => trial[side].roll.notes.map((note) => note[2]));
  const range = [Math.min(...pitches) - 2, Math.max(...pitches) + 2];
  for (const side of ["a", "b"]) page.cards[side] = card(side, trial[side], range, bars);
  $("players").replaceChildren(page.cards.a.card, page.cards.b.card);
  $("scores").hidden = !(trial.a.sheet || trial.b.sheet);
  await player.load(trial);
  if (document.activeElement === document.body || document.activeElement?.closest("#choices")) $("question").focus({ preventScroll: true });
}

function card(side, clip, range, bars) {
  const roll = new Roll(clip, range, bars, {
    seek: (bar) => (player.playing ? player.start(side, bar) : (player.side = side, player.seek(bar))),
    loop: (loop) => player.setLoop(loop),
  });
  const notes = clip.roll.notes.length, length = Math.round(clip.seconds);
  const button = element("button", { type: "button", "aria-label": `Hear ${side.toUpperCase()}: ${notes} notes, ${length} seconds` }, side.toUpperCase());
  button.addEventListener("click", () => hear(side));
  const heard = element("span", { class: "heard" });
  const sheet = clip.sheet && element("img", { class: "sheet", alt: `Sheet music of ${side.toUpperCase()}`, loading: "lazy" });
  const whole = element("div", { class: `player ${side}` }, button, heard, roll.svg, ...(sheet ? [sheet] : []));
  return { card: whole, roll, heard, sheet, address: clip.sheet };
}

function hear(side) { // at the same bar, if the other one plays
  if (player.playing && player.side === side) player.toggle();
  else player.start(side, player.position());
}

function showPause(state) {
  const waits = state.learning?.state === "learning";
  const reached = state.answered >= state.quota;
  $("pause-title").textContent = reached ? "Thank you!" : waits ? "The agent is learning from your answers" : "That was all for now";
  $("pause-text").textContent = reached
    ? `All your ${state.answered} answers are kept. You can close the page, or go on.`
    : waits ? "New music comes in a moment, on this page." : "You have heard every pair. All answers are kept.";
  $("more").hidden = !reached;
  $("back").hidden = !state.answered;
}

function showLearning(learning) {
  $("learning").hidden = !learning || !page.begun;
  if (!learning) return;
  const left = Math.max(0, learning.every - learning.pending);
  $("learning-state").textContent = {
    learning: "It is learning now. Go on meanwhile.",
    failed: `The last round of learning failed: ${learning.reason}`,
  }[learning.state] || (learning.every === null ? "Learning is switched off." : `It learns again after ${left} more ${left === 1 ? "answer" : "answers"}.`);
  $("learn").hidden = learning.every === null || learning.state === "learning" || !learning.pending;
  const rows = learning.agents.map((agent) => {
    const decided = agent.wins + agent.losses, share = decided ? agent.wins / decided : 0;
    const text = decided ? `${Math.round(100 * share)} % (${agent.wins} of ${decided})` : "not heard yet";
    const name = agent.number ? `After round ${agent.number}` : "As it came";
    const label = `${name}: chosen over the base ${text}`;
    return element("div", {}, element("span", {}, name), element("meter", { min: 0, max: 1, value: share, "aria-label": label }), element("span", {}, text));
  });
  $("learning-chart").replaceChildren(
    element("p", { class: "quiet" }, "How often each agent was chosen over the base, without ties:"),
    element("div", { class: "bars" }, ...rows),
  );
}

function render() {
  const trial = page.state?.trial;
  if (!trial) return;
  $("transport").classList.toggle("playing", player.playing);
  $("play").querySelector(".label").textContent = player.playing ? "Pause" : "Play";
  $("loop").setAttribute("aria-pressed", String(Boolean(player.loop)));
  $("loop").firstElementChild.textContent = player.loop ? `Loop: bars ${player.loop[0] + 1}–${player.loop[1]}` : "Loop 2 bars";
  $("scores").setAttribute("aria-pressed", String(page.scores));
  $("undo").setAttribute("aria-disabled", String(!page.state.answered));
  for (const side of ["a", "b"]) {
    const { card: whole, sheet, address } = page.cards[side];
    whole.classList.toggle("on", player.side === side);
    whole.firstElementChild.setAttribute("aria-pressed", String(player.playing && player.side === side));
    if (sheet) {
      sheet.hidden = !page.scores;
      if (page.scores && !sheet.src) sheet.src = address;
    }
  }
  tick();
}

let announced = "";
function tick() {
  if (!page.state?.trial || !player.ready) return;
  const position = player.position(), bar = Math.floor(position) + 1;
  for (const side of ["a", "b"]) {
    const { roll, heard } = page.cards[side], seconds = player.seconds(side), need = needed(side);
    roll.show(position, player.loop);
    const text = seconds >= need ? `heard ${Math.floor(seconds)} s` : `heard ${Math.floor(seconds)} of ${Math.ceil(need)} s`;
    if (heard.textContent !== text) heard.textContent = text;
    heard.classList.toggle("enough", seconds >= need);
  }
  const where = `${player.side.toUpperCase()}, bar ${bar} of ${Math.ceil(player.length)}`;
  if (where !== announced) $("where").textContent = announced = where;
  const may = enough() && !page.sending;
  for (const button of document.querySelectorAll("#scale button, #bad")) button.setAttribute("aria-disabled", String(!may));
  $("need").textContent = may ? "" : page.sending ? "One moment…" : missing();
  if (player.playing) requestAnimationFrame(tick);
}

function missing() {
  const sides = ["a", "b"].filter((side) => player.seconds(side) < needed(side)).map((side) => side.toUpperCase());
  return `Listen to ${Math.ceil(needed("a"))} seconds of ${sides.join(" and ")} before you answer.`;
}

const actions = {
  play: () => player.toggle(),
  switch: () => (player.playing ? player.start(OTHER[player.side]) : ((player.side = OTHER[player.side]), render())),
  again: () => player.start(player.side, player.loop ? player.loop[0] : 0),
  loop: () => { const bar = Math.floor(player.position()); player.setLoop(player.loop ? null : [bar, bar + 2]); },
  scores: () => { page.scores = !page.scores; render(); },
  bad: () => answer("both_bad"),
  undo: () => { if (page.state?.answered) { player.halt(); act("/api/undo").then((done) => done && say("Answer this pair again.")); } },
  more: () => act("/api/more"),
  learn: () => act("/api/learn"),
  begin: () => { page.begun = true; show(page.state).then(() => $("play").focus()); },
};
actions.back = actions.undo;
const KEYS = { " ": "play", x: "switch", r: "again", l: "loop", s: "scores", 0: "bad", z: "undo" };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase(), onButton = document.activeElement?.tagName === "BUTTON";
  if ($("trial").hidden) {
    if (key === "z" && !$("pause").hidden) actions.undo();
    return;
  }
  if (key === " " && onButton && document.activeElement.id !== "play") return; // the button's own
  if (KEYS[key]) actions[KEYS[key]]();
  else if (key === "a" || key === "b") hear(key);
  else if (key === "arrowleft") player.seek(Math.ceil(player.position()) - 1);
  else if (key === "arrowright") player.seek(Math.floor(player.position()) + 1);
  else if (key >= "1" && key <= "7") answer(...CHOICES[Number(key) - 1].slice(0, 2));
  else return;
  event.preventDefault();
}

function build() {
  CHOICES.forEach(([choice, strength, label], index) => {
    const button = element("button", { type: "button", class: `${choice} s${strength ?? 0}` }, element("span", {}, label), element("kbd", {}, String(index + 1)));
    button.addEventListener("click", () => answer(choice, strength));
    $("scale").append(button);
  });
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  $("question").tabIndex = -1;
  document.addEventListener("keydown", pressed);
  document.addEventListener("keyup", (event) => { if (event.key === " " && document.activeElement?.id === "play") event.preventDefault(); });
  document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button")?.blur(); });
  window.addEventListener("pagehide", report);
  setInterval(report, 5000);
  setInterval(look, 3000);
}

async function look() { // for new music, and for what was learned
  const learning = page.state?.learning;
  if (page.sending || !learning || (page.state.trial && learning.state !== "learning" && learning.pending < learning.every)) return;
  const state = await send("/api/state").catch(() => null);
  if (!state || page.sending) return;
  if (state.trial?.nonce !== page.state.trial?.nonce) await show(state);
  else { page.state.learning = state.learning; showLearning(state.learning); }
}

build();
send("/api/state").then(show).catch((error) => {
  $("main").replaceChildren(element("p", { class: "notice" }, `${error.message[0].toUpperCase()}${error.message.slice(1)}.`));
});
