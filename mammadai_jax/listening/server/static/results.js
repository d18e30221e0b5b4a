// The researcher's page: numbers from /api/results as tables and plots.

const $ = (id) => document.getElementById(id);
const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);
const signed = (x) => (x === null ? "–" : `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`);

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function table(heads, rows) {
  const cell = (kind) => (text, index) => element(kind, index ? { class: "number" } : {}, String(text));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))));
}

// Values with intervals on one axis around a middle
function plot(rows, [low, high], middle, label) {
  const left = 150, right = 640, height = 30 * rows.length + 30;
  const x = (value) => left + ((Math.max(low, Math.min(high, value)) - low) / (high - low)) * (right - left);
  const svg = drawn("svg", { class: "plot", viewBox: `0 0 660 ${height}`, role: "img", "aria-label": label });
  svg.append(drawn("line", { class: "axis", x1: x(middle), x2: x(middle), y1: 4, y2: height - 22 }));
  rows.forEach((row, index) => {
    const y = 20 + 30 * index;
    svg.append(drawn("text", { x: 0, y: y + 4 }, row.name.length > 20 ? `${row.name.slice(0, 19)}…` : row.name));
    svg.append(drawn("line", { class: "range", x1: x(row.low), x2: x(row.high), y1: y, y2: y }));
    svg.append(drawn("circle", { cx: x(row.value), cy: y, r: 6 }));
  });
  for (const [at, anchor] of [[low, "start"], [middle, "middle"], [high, "end"]]) {
    svg.append(drawn("text", { class: "quiet", x: x(at), y: height - 6, "text-anchor": anchor }, at.toFixed(1).replace("-", "−")));
  }
  return svg;
}

const nothing = (text) => element("p", { class: "quiet" }, text);

function showLeaderboard(board) {
  if (!board) return [nothing("There are too few answers yet, or none that link all systems.")];
  const rows = board.places.map((p) => ({ name: p.system, value: p.strength, low: p.low, high: p.high }));
  const reach = Math.max(0.5, ...rows.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]).filter((x) => x < 6));
  const rank = (p) => (p.best === p.worst ? `${p.best}` : `${p.best}–${p.worst}`);
  const first = board.first;
  return [
    plot(rows, [-reach, reach], 0, "Strength of each system with its interval"),
    table(["system", "rank", "strength", "95 % interval", "answers"], board.places.map((p) => [p.system, rank(p), signed(p.strength), `${signed(p.low)} to ${signed(p.high)}`, p.votes])),
    element("p", { class: "quiet" }, first.low === first.high ? "" : `Being heard first gives ${signed(first.value)} log odds (${signed(first.low)} to ${signed(first.high)}). `,
      `Equal systems tie in ${percent(board.tie)} of answers.`),
  ];
}

function showStopping(rows) {
  if (!rows.length) return [nothing("No answers yet.")];
  const plotted = rows.map((row) => ({ name: `${row.a} − ${row.b}`, value: row.mean, low: row.low, high: row.high }));
  const units = { rater: "raters who gave 10 answers or more", vote: "answers of the only rater, so it says nothing of others" };
  return [
    plot(plotted, [-1, 1], 0, "Differences with intervals that hold at every look"),
    ...rows.map((row) => element("p", {}, `${row.a} and ${row.b}: `,
      row.may_stop ? element("span", { class: "good" }, "you may stop: ") : "go on asking: ",
      row.may_stop ? `${row.mean > 0 ? row.a : row.b} is chosen more often` : "the interval still has 0 in it",
      ` (by ${row.values} ${units[row.unit]}).`)),
  ];
}

function showRates(rows) {
  if (!rows.length) return [nothing("No answers yet.")];
  const interval = (row) => (row.low === null ? "–" : `${percent(row.low)} to ${percent(row.high)}`);
  return [table(["systems", "won", "tied", "lost", "win rate", "95 % interval"],
    rows.map((row) => [`${row.a} over ${row.b}`, row.wins, row.ties, row.losses, percent(row.win_rate), interval(row)]))];
}

function showRounds(learning) {
  const rows = learning.agents.map((agent) => {
    const decided = agent.wins + agent.losses;
    return [agent.number ? `after round ${agent.number}` : "as it came", agent.wins, agent.ties, agent.losses, decided ? percent(agent.wins / decided) : "–"];
  });
  return [table(["agent against the base", "won", "tied", "lost", "win rate"], rows)];
}

function showReliability(results) {
  const { alpha, raw, pairs } = results.agreement, position = results.position;
  const said = [];
  said.push(pairs ? `${pairs} pairs were answered by several raters: they agree in ${percent(raw)} of them, Krippendorff's alpha ${alpha === null ? "–" : alpha.toFixed(2)}.` : "No pair was answered by several raters yet.");
  if (position.share !== null) said.push(`The piece heard first was chosen in ${percent(position.share)} (${percent(position.low)} to ${percent(position.high)}) of decided answers.`);
  return [element("p", {}, said.join(" "))];
}

function showRaters(raters) {
  return [table(["rater", "answers", "ties", "seconds heard a pair", "catch pairs passed", "repeats answered alike"], raters.map((rater) => [
    rater.name, `${rater.answers} of ${rater.quota}`, rater.ties, rater.seconds ?? "–", rater.catches.join(" of "), rater.repeats.join(" of "),
  ]))];
}

function show(results) {
  $("title").textContent = document.title = `Results: ${results.title}`;
  $("count").textContent = `${results.answers} answers`;
  const { tie, both_bad: bad } = results.choices;
  $("summary").textContent = `${results.answers} answers by ${results.raters.length} ${results.raters.length === 1 ? "rater" : "raters"} to ${results.pairs} pairs; ${tie} ties, ${bad} times both bad.` +
    (results.simulated ? ` ${results.simulated} answers are simulated.` : "");
  $("leaderboard").replaceChildren(...showLeaderboard(results.leaderboard));
  $("stopping").replaceChildren(...showStopping(results.stopping));
  $("rates").replaceChildren(...showRates(results.win_rates));
  $("learning-card").hidden = !results.learning;
  if (results.learning) $("rounds").replaceChildren(...showRounds(results.learning));
  $("reliability").replaceChildren(...showReliability(results));
  $("raters").replaceChildren(...showRaters(results.raters));
}

async function load() {
  const answer = await fetch("/api/results");
  const data = await answer.json();
  if (answer.ok) show(data);
  else $("main").replaceChildren(element("p", { class: "notice" }, data.error));
}

load();
setInterval(() => load().catch(() => {}), 15000);
