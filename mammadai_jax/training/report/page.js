"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const players = all("audio");
  const stops = all(".stop");
  const status = document.getElementById("status");
  const button = document.getElementById("journey");

  // Piano rolls, large and small, each with the notes and the audio they belong to.
  const rolls = all(".roll").map((element) => {
    const svg = element.querySelector("svg");
    const width = svg.viewBox.baseVal.width;
    const playhead = document.createElement("div");
    playhead.className = "playhead";
    playhead.hidden = true;
    element.append(playhead);
    const notes = [...svg.querySelectorAll(".melody rect, .voice rect, .line rect")].map((shape) => {
      const from = shape.x.baseVal.value / width;
      return { shape, from, to: from + shape.width.baseVal.value / width };
    });
    return {
      element, playhead, notes,
      audio: document.getElementById(element.dataset.audio),
      left: Number(element.dataset.left),
      right: Number(element.dataset.right),
    };
  }).filter((roll) => roll.audio);

  const draw = (roll) => {
    const { audio, left, right } = roll;
    const at = left + (right - left) * Math.min(1, audio.currentTime / Number(audio.dataset.seconds));
    const begun = audio.currentTime > 0 && !audio.ended;
    roll.playhead.hidden = !begun;
    roll.playhead.style.left = `${100 * at}%`;
    for (const { shape, from, to } of roll.notes) {
      shape.classList.toggle("sounding", begun && !audio.paused && from <= at && at < to);
    }
  };
  const drawAll = (audio) => rolls.filter((roll) => roll.audio === audio).forEach(draw);

  let frame = 0;
  const animate = () => {
    const playing = players.filter((audio) => !audio.paused);
    playing.forEach(drawAll);
    frame = playing.length ? requestAnimationFrame(animate) : 0;
  };

  const listens = all("[data-plays]").map((element) => (
    { element, audio: document.getElementById(element.dataset.plays), label: element.getAttribute("aria-label") }
  ));
  const drawListens = () => {
    for (const { element, audio, label } of listens) {
      const playing = Boolean(audio) && !audio.paused;
      element.classList.toggle("playing", playing);
      element.textContent = playing ? "Pause" : "Listen";
      element.setAttribute("aria-label", playing ? "Pause" : label);
    }
  };

  const stageOf = (audio) => audio.closest("section");
  const titleOf = (audio) => stageOf(audio).querySelector("h2").dataset.title;
  const highlight = (audio) => {
    const id = audio && stageOf(audio).id;
    all("section.stage").forEach((section) => section.classList.toggle("now", section.id === id));
    for (const stop of stops) {
      stop.classList.toggle("now", stop.dataset.stage === id);
      if (stop.dataset.stage === id) stop.setAttribute("aria-current", "step");
      else stop.removeAttribute("aria-current");
    }
  };

  const start = (audio) => {
    audio.currentTime = 0;
    audio.play().catch(() => {
      endJourney();
      status.textContent = "The browser did not start the audio: press play on a melody below.";
    });
  };

  // The journey: the first melody of every stage, one after another.
  const route = stops.filter((stop) => !stop.classList.contains("corpus"))
    .map((stop) => document.getElementById(`${stop.dataset.stage}-0`)).filter(Boolean);
  let step = -1;
  const endJourney = () => {
    step = -1;
    if (button) button.textContent = "Play the journey";
  };
  const goTo = (index) => {
    step = index;
    button.textContent = "Stop";
    start(route[step]);
  };
  if (button) {
    button.disabled = route.length === 0;
    button.addEventListener("click", () => {
      if (step < 0) return goTo(0);
      const audio = route[step];
      endJourney();
      audio.pause();
    });
  }

  for (const audio of players) {
    audio.addEventListener("play", () => {
      if (step >= 0 && audio !== route[step]) endJourney();
      drawListens();
      players.filter((other) => other !== audio).forEach((other) => other.pause());
      highlight(audio);
      const place = step >= 0 ? `${step + 1} of ${route.length}: ` : "";
      status.textContent = `${place}${titleOf(audio)}, ${audio.getAttribute("aria-label")}`;
      if (!frame) frame = requestAnimationFrame(animate);
    });
    audio.addEventListener("pause", () => {
      drawAll(audio);
      drawListens();
      if (audio.ended || players.some((other) => !other.paused)) return;
      if (audio === route[step]) endJourney();
      highlight(null);
      status.textContent = "";
    });
    audio.addEventListener("ended", () => {
      drawAll(audio);
      if (audio === route[step] && step + 1 < route.length) return goTo(step + 1);
      endJourney();
      highlight(null);
      status.textContent = "";
    });
    audio.addEventListener("seeked", () => drawAll(audio));
  }

  for (const { element, audio } of listens) {
    element.disabled = !audio;
    element.addEventListener("click", () => {
      if (!audio.paused) return audio.pause();
      if (step >= 0 && route.includes(audio)) goTo(route.indexOf(audio));
      else start(audio);
    });
  }
  // A click into a piano roll plays from there; the keyboard has the players' own controls.
  for (const { element, audio, left, right } of rolls) {
    element.addEventListener("click", (event) => {
      const box = element.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - left) / (right - left);
      audio.currentTime = Math.max(0, Math.min(0.999, share)) * Number(audio.dataset.seconds);
      audio.play().catch(() => {});
    });
  }

  // While the training goes on the page is loaded again: ten seconds after it was used last, never while something
  // plays, and less often the longer nothing was written. What was open or paused stays so.
  const folds = () => all("details").map((details, index, every) => {
    const section = details.closest("section, footer").id;
    const before = every.slice(0, index).filter((other) => other.closest("section, footer").id === section);
    return { details, key: `${section}/${before.length}` };
  });
  const reload = () => {
    const open = folds().filter(({ details }) => details.open).map(({ key }) => key);
    const paused = players.filter((audio) => audio.currentTime > 0 && !audio.ended);
    history.replaceState({ open, paused: paused.map((audio) => [audio.id, audio.currentTime]) }, "");
    location.reload();
  };
  const restore = ({ open, paused }) => {
    folds().forEach(({ details, key }) => { details.open = open.includes(key); });
    for (const [id, seconds] of paused) {
      const audio = document.getElementById(id);
      if (audio) audio.currentTime = seconds;
    }
  };
  const progress = document.querySelector(".progress");
  if (history.state) restore(history.state);
  history.replaceState(null, "");
  if (progress && !progress.dataset.stopped) {
    let used = Date.now();
    const use = () => { used = Date.now(); };
    for (const kind of ["pointerdown", "keydown", "scroll"]) addEventListener(kind, use, { passive: true });
    for (const audio of players) audio.addEventListener("pause", use);
    setInterval(() => {
      const age = Date.now() - Date.parse(progress.dataset.written);
      const playing = players.some((audio) => !audio.paused);
      if (!playing && Date.now() - used > Math.max(10_000, age / 10)) reload();
    }, 1000);
  }
  addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));
  document.documentElement.classList.add("scripted");
})();
