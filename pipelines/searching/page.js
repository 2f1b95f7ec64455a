"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cards = document.getElementById("cards");
  const said = document.getElementById("said");
  let playing = null; // {card, video, moment, frame}

  function element(name, classes, text) {
    const made = document.createElement(name);
    if (classes) made.className = classes;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function clock(seconds) {
    const tenths = Math.round(seconds * 10), whole = Math.floor(tenths / 10);
    const pad = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
    return `${hours ? `${hours}:${pad(minutes)}` : minutes}:${pad(whole % 60)}.${tenths % 10}`;
  }

  function stop() {
    if (!playing) return;
    const { card, video, frame } = playing;
    playing = null;
    cancelAnimationFrame(frame);
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.remove();
    card.classList.remove("playing");
    card.querySelector(".play").setAttribute("aria-pressed", "false");
    card.querySelector(".bar i").style.width = "";
  }

  function refused(card) {
    if (!playing || playing.card !== card) return;
    stop();
    const note = card.querySelector(".note");
    note.textContent = "This browser does not play the video, or it is not where it was.";
    note.hidden = false;
    said.textContent = note.textContent;
  }

  function play(card, moment) {
    stop();
    const video = element("video");
    video.muted = true;
    video.playsInline = true;
    video.preload = "auto";
    playing = { card, video, moment, frame: 0 };
    video.addEventListener("error", () => refused(card));
    video.addEventListener("loadedmetadata", () => { video.currentTime = moment.start; });
    video.addEventListener("ended", () => { again(video, moment); });
    video.src = moment.src;
    card.querySelector(".play").insertBefore(video, card.querySelector(".sign"));
    card.querySelector(".play").setAttribute("aria-pressed", "true");
    card.classList.add("playing");
    video.addEventListener("seeked", () => {
      if (playing && playing.video === video) video.play().catch(() => refused(card));
    });
    watch();
  }

  function again(video, moment) {
    video.pause();
    video.currentTime = moment.start;
  }

  function watch() {
    if (!playing) return;
    const { card, video, moment } = playing;
    const length = Math.max(0.001, moment.stop - moment.start);
    // Frames are drawn once in some 17 ms: what would be drawn next may lie behind the end already.
    if (!video.seeking && !video.paused && video.currentTime >= moment.stop - 0.035) again(video, moment);
    const share = Math.min(1, Math.max(0, (video.currentTime - moment.start) / length));
    card.querySelector(".bar i").style.width = `${(100 * share).toFixed(1)}%`;
    playing.frame = requestAnimationFrame(watch);
  }

  function card(moment, rank) {
    const made = element("li", moment.self ? "card self" : "card");
    const name = moment.self ? "The query" : `${rank}`;
    const span = `${clock(moment.start)} – ${clock(moment.stop)}`;
    const button = element("button", "play");
    button.type = "button";
    button.setAttribute("aria-label", `${moment.self ? name : `Moment ${rank}`}, ${moment.video}, ${span}`);
    button.setAttribute("aria-pressed", "false");
    if (moment.thumb && moment.thumb.startsWith("data:image/jpeg;base64,")) {
      const picture = element("img");
      picture.src = moment.thumb;
      picture.alt = "";
      button.append(picture);
    } else button.append(element("span", "none", "no picture"));
    if (moment.src) {
      button.append(element("span", "sign"));
      button.addEventListener("click", () => (playing && playing.card === made ? stop() : play(made, moment)));
    } else {
      button.setAttribute("aria-disabled", "true");
    }
    button.append(element("span", "length", `${(moment.stop - moment.start).toFixed(1)} s`));
    const bar = element("div", "bar");
    bar.append(element("i"));
    const text = element("div", "text"), top = element("div", "top");
    top.append(element("span", "rank", name), element("span", "quiet", moment.score.toFixed(3)));
    const video = element("div", "video", moment.video);
    video.title = moment.video;
    const notes = [moment.damaged ? "holds damaged frames" : "", moment.note || ""].filter(Boolean);
    const note = element("div", "note", notes.join(" · "));
    note.hidden = !notes.length;
    text.append(top, element("div", "", span), video, note);
    made.append(button, bar, text);
    return made;
  }

  function move(key) {
    const buttons = [...cards.querySelectorAll(".play")];
    const at = buttons.indexOf(document.activeElement);
    const columns = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
    const next = at < 0 ? 0 : at + step;
    if (buttons[next]) buttons[next].focus();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") stop();
    else if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      move(event.key);
    }
  });

  document.getElementById("queries").append(...data.queries.map((query) => element("li", "", query)));
  const others = data.results.filter((moment) => !moment.self).length;
  document.getElementById("summary").textContent =
    `${others} moments out of ${data.clips.toLocaleString("en")} clips of ${data.videos.toLocaleString("en")} videos,` +
    ` compared in ${data.seconds.toFixed(2)} s. The number is their cosine with the query.`;
  document.getElementById("store").textContent = data.store;
  document.getElementById("empty").hidden = others > 0;
  let rank = 0;
  cards.append(...data.results.map((moment) => card(moment, moment.self ? 0 : (rank += 1))));
})();
