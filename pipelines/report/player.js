// The video and what is drawn above it. The canvas never reads the video's pixels, which files do not allow.

class Player {
  // `acts`: moved(second), className(label), threshold(), reason(text).
  constructor(acts) {
    this.acts = acts;
    this.video = $('video');
    this.canvas = $('boxes');
    this.second = 0;
    this.shown = [];
    this.chosen = null;
    for (const name of ['play', 'pause', 'ended', 'ratechange']) this.video.addEventListener(name, () => this.state());
    this.video.addEventListener('error', () => this.failed());
    this.video.addEventListener('loadedmetadata', () => this.loaded());
    for (const name of ['seeked', 'timeupdate'])
      this.video.addEventListener(name, () => setTimeout(() => this.catchUp(), 80));
    this.frames = 'requestVideoFrameCallback' in this.video;
    if (this.frames) this.watch();
    new ResizeObserver(() => this.drawBoxes()).observe(this.video);
  }

  open(source) {
    this.source = source;
    if (this.chosen) URL.revokeObjectURL(this.chosen);
    this.chosen = null;
    this.second = this.wanted = 0;
    this.shown = [];
    const {src} = source.raw;
    this.usable = false;
    this.tellMissing(src === null ? 'The report was made without this video: it was not found.' : null);
    if (safeLink(src)) this.video.src = src;
    else this.video.removeAttribute('src');
    if (!safeLink(src)) this.video.load();
    this.arrived(0);
  }

  // A file that somebody picks; it stays on this computer.
  choose(file) {
    if (this.chosen) URL.revokeObjectURL(this.chosen);
    this.chosen = URL.createObjectURL(file);
    this.tellMissing(null);
    this.wanted = this.second;
    this.video.src = this.chosen;
  }

  loaded() {
    if (this.video.videoWidth === 0) {
      this.tellMissing(
        'The browser plays the sound of this video, but refuses its pictures. Make the report with --proxy for a copy that it plays.',
      );
      return;
    }
    this.usable = true;
    this.tellMissing(null);
    if (this.wanted) this.seek(this.wanted);
    this.wanted = 0;
    const {seekable, duration} = this.video;
    if (duration > 0 && (seekable.length === 0 || seekable.end(seekable.length - 1) === 0)) {
      this.acts.reason(
        'This server does not answer byte ranges, so the browser cannot seek. Open the report with untrimmed view.',
      );
    }
    this.state();
  }

  failed() {
    const {error} = this.video;
    if (!error || !this.video.getAttribute('src')) return;
    this.usable = false;
    const refused = error.code === 3 || /DEMUXER|DECODER|no supported streams/i.test(error.message);
    const file = decodeURIComponentSafely(this.source.raw.src || '');
    this.tellMissing(
      this.chosen || refused
        ? 'This browser refuses the codec of the video. Make the report with --proxy for a copy that it plays.'
        : `The video could not be loaded from ${file}: it may have moved, or the browser refuses its codec (then make the report with --proxy).`,
    );
  }

  tellMissing(reason) {
    $('missing').hidden = reason === null;
    $('missing-reason').textContent = reason || '';
    $('stage').classList.toggle('empty', reason !== null);
    this.state();
  }

  // ---- time

  seek(second) {
    const to = clamp(second, 0, this.source.durationS);
    if (!this.usable) {
      if (this.video.getAttribute('src')) this.wanted = to;
      this.arrived(to);
      return;
    }
    // A thousandth later, so that a start that was rounded down shows its own frame, not the one before.
    this.video.currentTime = Math.min(to + 0.001, Math.max(0, (this.video.duration || to) - 0.001));
    if (!this.frames) this.arrived(to);
  }

  step(frames) {
    this.video.pause();
    this.seek(Math.max(0, this.second + (frames + 0.5) * this.source.frameS));
  }

  toggle() {
    if (!this.usable) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.video.pause();
  }

  watch() {
    this.video.requestVideoFrameCallback((_, {mediaTime}) => {
      this.arrived(mediaTime);
      this.watch();
    });
  }

  // Browsers tell of no frames while the video is out of sight, and some never do: then the clock has to do.
  catchUp() {
    const {currentTime} = this.video;
    if (this.usable && Math.abs(currentTime - this.second) > (this.frames ? 1.5 * this.source.frameS : 0))
      this.arrived(currentTime);
  }

  arrived(second) {
    this.second = second;
    this.drawBoxes();
    this.acts.moved(second);
  }

  state() {
    const playing = !this.video.paused && !this.video.ended;
    $('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
    $('play').classList.toggle('playing', playing);
    for (const name of ['play', 'back', 'forth']) $(name).disabled = !this.usable;
  }

  // ---- boxes

  // Boxes of the moment that is shown: the nearest with boxes, if within half the time between two.
  boxesNow() {
    const {moments, spacingS, raw, boxRows} = this.source;
    if (!moments.length) return [];
    const after = firstAtLeast(moments, this.second);
    const near = [moments[after - 1], moments[after]].filter((moment) => moment !== undefined);
    const moment = near.sort((a, b) => Math.abs(a - this.second) - Math.abs(b - this.second))[0];
    if (Math.abs(moment - this.second) > spacingS / 2 + 1e-6) return [];
    return ['truth', 'predicted'].flatMap((side) => {
      const rows = boxRows[side].get(Math.round(moment * SAME_MOMENT)) || [];
      return grouped(raw.boxes[side], side, rows, side === 'truth' ? 0 : this.acts.threshold());
    });
  }

  // Where the picture is inside the element, in CSS pixels.
  picture() {
    const {clientWidth: width, clientHeight: height, videoWidth, videoHeight} = this.video;
    const aspect = (videoWidth || this.source.raw.width || 16) / (videoHeight || this.source.raw.height || 9);
    const w = Math.min(width, height * aspect),
      h = w / aspect;
    return {x: (width - w) / 2, y: (height - h) / 2, w, h};
  }

  drawBoxes() {
    if (!this.source) return;
    const context = sharp(this.canvas, this.video.clientWidth, this.video.clientHeight),
      {x, y, w, h} = this.picture();
    this.shown = $('boxes-on').checked ? this.boxesNow() : [];
    context.font = `600 12px ${PALETTE.font}`;
    context.textBaseline = 'middle';
    const paint = this.shown.map((group) => {
      const [x1, y1, x2, y2] = group.box;
      return {...group, pixels: [x + x1 * w, y + y1 * h, (x2 - x1) * w, (y2 - y1) * h]};
    });
    for (const group of paint) this.drawBox(context, group);
    this.shown = paint;
  }

  drawBox(context, {side, rows, track, pixels: [left, top, width, height]}) {
    const colour = side === 'truth' ? '#ffffff' : TRACKS[(track >= 0 ? track : rows[0].label) % TRACKS.length];
    context.setLineDash(side === 'truth' ? [6, 4] : []);
    for (const [line, style] of [
      [4, 'rgba(0, 0, 0, 0.55)'],
      [2, colour],
    ]) {
      context.lineWidth = line;
      context.strokeStyle = style;
      context.strokeRect(left, top, width, height);
    }
    context.setLineDash([]);
    rows.slice(0, 6).forEach(({label, score}, i) => {
      const text = [
        track >= 0 && i === 0 ? `#${track}` : '',
        this.acts.className(label),
        score === null ? '' : score.toFixed(2),
      ]
        .filter(Boolean)
        .join('  ');
      const room = context.measureText(text).width + 12,
        above = top >= 20 * rows.length && side === 'predicted';
      const at = side === 'truth' ? top + height + 2 + 19 * i : above ? top - 20 - 19 * i : top + 2 + 19 * i;
      const from = clamp(left - 1, 0, Math.max(0, this.video.clientWidth - room));
      context.fillStyle = side === 'truth' ? 'rgba(0, 0, 0, 0.7)' : colour;
      context.fillRect(from, at, room, 18);
      context.fillStyle = side === 'truth' ? '#ffffff' : '#111111';
      context.fillText(text, from + 6, at + 9.5);
    });
  }
}

// Rows of one moment, those of one box together: [{side, box, track, rows: [{label, score}]}].
function grouped(table, side, numbers, threshold) {
  const groups = new Map();
  for (const row of numbers) {
    const score = side === 'truth' ? null : (table.score[row] ?? 1);
    if (score !== null && score < threshold) continue;
    const box = table.box.slice(4 * row, 4 * row + 4),
      track = table.track ? table.track[row] : -1,
      key = `${box},${track}`;
    if (!groups.has(key)) groups.set(key, {side, box, track, rows: []});
    groups.get(key).rows.push({label: table.label[row], score});
  }
  for (const group of groups.values()) group.rows.sort((a, b) => b.score - a.score);
  return [...groups.values()];
}

// A relative address, or none: the data is not to be trusted.
function safeLink(link) {
  return typeof link === 'string' && link !== '' && !/^\s*[a-z][a-z0-9+.-]*:/i.test(link) && !/^\s*[\\/]{2}/.test(link)
    ? link
    : null;
}

function decodeURIComponentSafely(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
