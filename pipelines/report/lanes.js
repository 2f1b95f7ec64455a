// The timeline: a lane for each class with truth above, prediction below and the curve of scores; an axis, an overview.
// What stands still is drawn on one canvas, the playhead and the pointer's line on another above it.

const AXIS = 26,
  BAR = 13,
  CURVE = 22,
  PAD = 7,
  GUTTER = 176,
  OVERVIEW = 34,
  RIGHT = 10;
const TICKS_S = [0.04, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

class Lanes {
  // `acts`: what the page does and knows: seek, select, describe, reviewOf, kept, className, time, threshold, selected.
  constructor(acts) {
    this.acts = acts;
    this.scroller = $('lanes');
    this.canvas = $('lanes-drawing');
    this.heads = $('lanes-heads');
    this.overview = $('overview-strip');
    this.tip = $('tip');
    this.view = {from: 0, to: 1};
    this.rows = [];
    this.pointerX = null;
    this.listen();
  }

  show(video) {
    this.video = video;
    this.view = {from: 0, to: video.durationS};
    this.envelopes = new Map();
    this.peak = peakOf(video);
  }

  // Which lanes there are; call after each change of what is shown.
  arrange(labels) {
    const {video} = this,
      curves = video.curves || video.fixed.length > 0;
    this.shape = {truth: Boolean(video.truth), curve: Boolean(curves)};
    this.shape.height = 2 * PAD + BAR + (this.shape.truth ? BAR + 3 : 0) + (this.shape.curve ? CURVE + 4 : 0);
    const mine = (items, label) =>
      shareOut(items.filter((item) => item.label === label).sort((a, b) => a.start - b.start));
    this.rows = labels.map((label) => ({
      label,
      truth: mine(video.truth || [], label),
      shown: mine(video.shown, label),
      curve: video.curves && video.curves.rows.get(label),
    }));
    this.layOut();
  }

  layOut() {
    const content = AXIS + Math.max(this.rows.length * this.shape.height, 40);
    this.width = Math.max(this.scroller.clientWidth, 200);
    this.height = Math.min(content, clamp(Math.round(window.innerHeight * 0.62), 260, 720));
    if (this.paper) this.height = content;
    this.scroller.style.height = `${this.height}px`;
    $('lanes-extent').style.height = `${content - this.height}px`;
    $('lanes-window').style.height = `${this.height}px`;
  }

  // ---- seconds and pixels

  x(second) {
    const {from, to} = this.view;
    return GUTTER + ((second - from) / (to - from)) * (this.width - GUTTER - RIGHT);
  }

  second(x) {
    const {from, to} = this.view;
    return from + ((x - GUTTER) / (this.width - GUTTER - RIGHT)) * (to - from);
  }

  rowY(number) {
    return AXIS + number * this.shape.height - this.scroller.scrollTop;
  }

  barY(side) {
    return PAD + (side === 'predicted' && this.shape.truth ? BAR + 3 : 0);
  }

  // ---- moving

  move(from, to) {
    const whole = this.video.durationS,
      least = Math.min(whole, Math.max(4 * this.video.frameS, 0.2));
    const length = clamp(to - from, least, whole),
      begin = clamp(from, 0, whole - length);
    this.view = {from: begin, to: begin + length};
    this.draw();
  }

  zoom(factor, around = (this.view.from + this.view.to) / 2) {
    const {from, to} = this.view;
    this.move(around - (around - from) * factor, around + (to - around) * factor);
  }

  pan(part) {
    const {from, to} = this.view;
    this.move(from + part * (to - from), to + part * (to - from));
  }

  // Brings a span into view, with something on both sides where it is long.
  reveal(start, stop) {
    const {from, to} = this.view,
      length = to - from;
    if (start < from || start > to - 0.02 * length) this.move(start - 0.2 * length, start + 0.8 * length);
    else if (stop - start > length) this.move(start - 0.1 * (stop - start), stop + 0.1 * (stop - start));
  }

  revealRow(label) {
    const number = this.rows.findIndex((row) => row.label === label);
    if (number < 0) return;
    const top = number * this.shape.height,
      room = this.height - AXIS,
      at = this.scroller.scrollTop;
    if (top < at || top + this.shape.height > at + room) this.scroller.scrollTop = top - room / 3;
  }

  // ---- drawing

  draw() {
    if (!this.video) return;
    const context = sharp(this.canvas, this.width, this.height);
    context.font = `12px ${PALETTE.font}`;
    context.textBaseline = 'middle';
    const pens = (this.pens ||= patterns(context));
    const step = tickStep(this.view.to - this.view.from, (this.width - GUTTER) / 90);
    this.rows.forEach((_, number) => this.drawBand(context, number));
    this.drawGrid(context, step);
    for (let number = 0; number < this.rows.length; number++) {
      const y = this.rowY(number);
      if (y > this.height || y + this.shape.height < AXIS) continue;
      this.drawRow(context, pens, this.rows[number], y);
    }
    if (!this.rows.length) {
      context.fillStyle = PALETTE.quiet;
      context.fillText('Nothing reaches this threshold', GUTTER + 12, AXIS + 22);
    }
    this.drawAxis(context, step);
    this.drawOverview();
    this.drawHeads();
  }

  drawBand(context, number) {
    if (number % 2 === 0) return;
    context.fillStyle = PALETTE.band;
    context.fillRect(0, this.rowY(number), this.width, this.shape.height);
  }

  drawGrid(context, step) {
    context.fillStyle = PALETTE.line;
    for (let k = Math.ceil(this.view.from / step); k * step <= this.view.to; k++) {
      context.fillRect(Math.round(this.x(k * step)), AXIS, 1, this.height);
    }
  }

  drawRow(context, pens, row, y) {
    const {shape, width} = this;
    context.fillStyle = PALETTE.ink;
    context.fillText(
      fitted(context, this.acts.className(row.label), GUTTER - (shape.truth ? 58 : 24)),
      12,
      y + PAD + BAR / 2 + (shape.truth ? 8 : 0),
    );
    this.drawSmallPrint(context, row, y);
    context.save();
    context.beginPath();
    context.rect(GUTTER, y, width - GUTTER - RIGHT, shape.height);
    context.clip();
    if (shape.curve) this.drawCurve(context, row, y + shape.height - CURVE - 4);
    if (shape.truth) this.drawBars(context, pens, row.truth, y + this.barY('truth'));
    this.drawBars(context, pens, row.shown, y + this.barY('predicted'));
    this.drawKept(context, row, y);
    context.restore();
  }

  drawSmallPrint(context, row, y) {
    if (!this.shape.truth) return;
    context.fillStyle = PALETTE.quiet;
    context.font = `10.5px ${PALETTE.font}`;
    context.fillText('truth', GUTTER - 38, y + this.barY('truth') + BAR / 2 - 0.5);
    context.fillText('found', GUTTER - 38, y + this.barY('predicted') + BAR / 2 + 0.5);
    context.font = `12px ${PALETTE.font}`;
  }

  drawBars(context, pens, items, y) {
    const {from, to} = this.view,
      thin = new Columns();
    for (const item of items) {
      if (item.stop < from || item.start > to) continue;
      const left = this.x(item.start),
        width = this.x(item.stop) - left - 0.5;
      if (width >= 4 || item === this.acts.selected()) this.drawBar(context, pens, item, left, y, Math.max(width, 2));
      else thin.add(item.verdict, left, Math.max(width, item.verdict === MISS ? 1 : 1.5));
    }
    thin.fill(context, y, BAR);
  }

  drawBar(context, pens, item, left, rowTop, width) {
    const review = this.acts.reviewOf(item),
      rejected = review && review.state === 'rejected',
      {top, height} = partOf(item),
      y = rowTop + top;
    context.globalAlpha = rejected ? 0.35 : 1;
    paintBar(context, pens, item.verdict, left, y, width, height);
    const filled = item.verdict === HIT || item.verdict === SHOWN;
    if (filled && width > 40 && height > 10 && item.side === 'predicted') {
      context.fillStyle = PALETTE.card;
      context.font = `600 10px ${PALETTE.font}`;
      context.fillText(item.score.toFixed(2), Math.max(left, GUTTER) + 5, y + height / 2 + 0.5);
      context.font = `12px ${PALETTE.font}`;
    }
    context.globalAlpha = 1;
    if (rejected) {
      context.fillStyle = PALETTE.ink;
      context.fillRect(left - 2, y + height / 2 - 0.75, width + 4, 1.5);
    }
    if (this.acts.selected() === item) {
      context.strokeStyle = PALETTE.ink;
      context.lineWidth = 2;
      context.strokeRect(left - 2, y - 2, width + 4, height + 4);
    }
  }

  // What the reviewer accepted or trimmed: a line below the bars, from start to stop.
  drawKept(context, row, y) {
    const below = y + this.barY('predicted') + BAR + 1.5;
    context.fillStyle = PALETTE.kept;
    for (const {label, start, stop} of this.acts.kept(this.video)) {
      if (label !== row.label) continue;
      const left = this.x(start),
        right = this.x(stop);
      context.fillRect(left, below, Math.max(right - left, 2), 3);
      context.fillRect(left - 1, below - 4, 2, 7);
      context.fillRect(right - 1, below - 4, 2, 7);
    }
  }

  // The curve of a class by columns of pixels: the most of each, so that no peak is lost.
  drawCurve(context, row, y) {
    const columns = this.columnsOf(row),
      level = (value) => y + CURVE - (value / this.peak) * (CURVE - 1);
    context.fillStyle = context.strokeStyle = PALETTE.curve;
    if (this.isDense()) this.fillColumns(context, columns, y, level);
    else this.traceColumns(context, columns, y, level);
    context.fillStyle = PALETTE.quiet;
    const at = Math.round(level(this.acts.threshold() * 255));
    if (at < y) return;
    for (let x = GUTTER; x < this.width; x += 6) context.fillRect(x, at, 2, 1);
  }

  // Whether many steps share a pixel: then a line would be a thicket, and slow.
  isDense() {
    const {curves, durationS} = this.video,
      {from, to} = this.view;
    return Boolean(curves) && (curves.edges.length * (to - from)) / durationS > this.width;
  }

  fillColumns(context, columns, y, level) {
    context.globalAlpha = 0.55;
    let from = 0;
    for (let i = 1; i <= columns.length; i++) {
      // columns of equal height together
      const top = Math.round(level(columns[from]));
      if (i < columns.length && Math.round(level(columns[i])) === top) continue;
      context.fillRect(GUTTER + from, top, i - from, y + CURVE - top);
      from = i;
    }
    context.globalAlpha = 1;
  }

  traceColumns(context, columns, y, level) {
    context.beginPath();
    context.moveTo(GUTTER, y + CURVE);
    columns.forEach((value, i) => {
      if (value !== columns[i - 1] || value !== columns[i + 1]) context.lineTo(GUTTER + i, level(value));
    });
    context.lineTo(GUTTER + columns.length, level(columns[columns.length - 1]));
    context.lineTo(GUTTER + columns.length, y + CURVE);
    context.globalAlpha = 0.22;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.2;
    context.stroke();
  }

  columnsOf(row) {
    const columns = new Float32Array(Math.max(1, Math.round(this.width - GUTTER - RIGHT)));
    if (this.video.curves) {
      if (row.curve) this.fillFromCurve(columns, row.curve.values);
      return columns;
    }
    for (const item of this.fixedOf(row.label)) {
      const first = Math.max(0, Math.floor(this.x(item.start) - GUTTER));
      const last = Math.min(columns.length - 1, Math.ceil(this.x(item.stop) - GUTTER) - 1);
      for (let i = first; i <= Math.max(first, last) && i < columns.length; i++) {
        columns[i] = Math.max(columns[i], item.score * 255);
      }
    }
    return columns;
  }

  fillFromCurve(columns, values) {
    const {edges} = this.video.curves;
    let step = Math.max(0, firstAtLeast(edges, this.second(GUTTER)) - 1);
    for (let i = 0; i < columns.length; i++) {
      const until = this.second(GUTTER + i + 1);
      let most = step < values.length ? values[step] : 0;
      while (step + 1 < values.length && edges[step + 1] < until) most = Math.max(most, values[++step]);
      columns[i] = most;
    }
  }

  fixedOf(label) {
    if (!this.envelopes.has(label))
      this.envelopes.set(
        label,
        this.video.fixed.filter((item) => item.label === label),
      );
    return this.envelopes.get(label);
  }

  drawAxis(context, step) {
    const {from, to} = this.view;
    context.fillStyle = PALETTE.card;
    context.fillRect(0, 0, this.width, AXIS);
    context.fillStyle = PALETTE.line;
    context.fillRect(0, AXIS - 1, this.width, 1);
    context.font = `11px ${PALETTE.font}`;
    context.textAlign = 'center';
    for (let k = Math.ceil(from / step); k * step <= to; k++) {
      const x = this.x(k * step);
      context.fillStyle = PALETTE.line;
      context.fillRect(Math.round(x), AXIS - 6, 1, 6);
      context.fillStyle = PALETTE.quiet;
      if (x < this.width - 24) context.fillText(clock(k * step, step < 0.1 ? 2 : step < 1 ? 1 : 0), x, AXIS / 2 - 1);
    }
    context.textAlign = 'left';
  }

  // The whole video on a small strip: where the scores are high, where errors are, and what is in view.
  drawOverview() {
    const context = sharp(this.overview, this.width, OVERVIEW);
    const span = this.width - GUTTER - RIGHT,
      x = (second) => GUTTER + (second / this.video.durationS) * span;
    context.font = `11px ${PALETTE.font}`;
    context.textBaseline = 'middle';
    context.fillStyle = PALETTE.quiet;
    context.fillText('whole video', 12, OVERVIEW / 2);
    context.fillStyle = PALETTE.band;
    context.fillRect(GUTTER, 6, span, OVERVIEW - 12);
    const errors = new Columns(),
      right = new Columns();
    for (const row of this.rows) {
      for (const item of row.truth)
        if (item.verdict === MISS) errors.add(MISS, x(item.start), x(item.stop) - x(item.start));
      for (const item of row.shown) {
        const columns = item.verdict === HIT || item.verdict === SHOWN ? right : errors;
        columns.add(item.verdict, x(item.start), x(item.stop) - x(item.start));
      }
    }
    errors.fill(context, 8, 8);
    right.fill(context, 18, 8);
    const {from, to} = this.view,
      left = x(from),
      end = x(to);
    context.fillStyle = PALETTE.page;
    context.globalAlpha = 0.65;
    context.fillRect(GUTTER, 4, left - GUTTER, OVERVIEW - 8);
    context.fillRect(end, 4, GUTTER + span - end, OVERVIEW - 8);
    context.globalAlpha = 1;
    context.strokeStyle = PALETTE.quiet;
    context.lineWidth = 1.5;
    context.strokeRect(left + 0.5, 4.5, Math.max(end - left - 1, 3), OVERVIEW - 9);
  }

  // The playhead and the pointer's line.
  drawHeads() {
    if (!this.video) return;
    const context = sharp(this.heads, this.width, this.height);
    if (this.pointerX !== null && this.pointerX > GUTTER) {
      context.fillStyle = PALETTE.quiet;
      context.fillRect(Math.round(this.pointerX), AXIS, 1, this.height);
    }
    const x = this.x(this.acts.time());
    if (x < GUTTER - 1 || x > this.width - RIGHT + 1) return;
    context.fillStyle = PALETTE.head;
    context.fillRect(x - 0.75, AXIS - 8, 1.5, this.height);
    context.beginPath();
    context.moveTo(x - 6, AXIS - 14);
    context.lineTo(x + 6, AXIS - 14);
    context.lineTo(x, AXIS - 5);
    context.fill();
  }

  // Follows the playhead while it moves on its own.
  follow(second) {
    const {from, to} = this.view;
    if (second < from || second > to) this.move(second, second + (to - from));
    else this.drawHeads();
  }

  // ---- the pointer

  itemAt(x, y) {
    if (x < GUTTER || y < AXIS) return null;
    const number = Math.floor((y - AXIS + this.scroller.scrollTop) / this.shape.height),
      row = this.rows[number];
    if (!row) return null;
    const within = y - this.rowY(number),
      truth = this.shape.truth && within < this.barY('predicted') - 1,
      below = within - this.barY(truth ? 'truth' : 'predicted');
    const hit = (truth ? row.truth : row.shown).filter((item) => {
      const {top, height} = partOf(item),
        level = item.parts === 1 || (below >= top && below <= top + height + 0.5);
      return level && x >= this.x(item.start) - 2 && x <= Math.max(this.x(item.stop), this.x(item.start) + 2) + 1;
    });
    return hit.sort((a, b) => a.stop - a.start - (b.stop - b.start))[0] || null;
  }

  listen() {
    const {scroller, overview} = this;
    scroller.addEventListener('scroll', () => this.draw());
    scroller.addEventListener('wheel', (event) => this.onWheel(event), {passive: false});
    scroller.addEventListener('pointerdown', (event) => this.onDown(event));
    scroller.addEventListener('pointermove', (event) => this.onMove(event));
    scroller.addEventListener('pointerup', (event) => this.onUp(event));
    scroller.addEventListener('pointerleave', () => this.onLeave());
    overview.addEventListener('pointerdown', (event) => {
      overview.setPointerCapture(event.pointerId);
      this.jump(event);
    });
    overview.addEventListener(
      'pointermove',
      (event) => overview.hasPointerCapture(event.pointerId) && this.jump(event),
    );
    overview.addEventListener('wheel', (event) => this.onWheel(event, true), {passive: false});
  }

  place(event) {
    const box = this.scroller.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
  }

  onWheel(event, always = false) {
    const {x, y} = this.place(event);
    if (event.ctrlKey || event.metaKey || always || (y < AXIS && !event.shiftKey)) {
      event.preventDefault();
      this.zoom(
        Math.exp(clamp(event.deltaY, -200, 200) * 0.004),
        always ? undefined : clamp(this.second(x), this.view.from, this.view.to),
      );
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.pan((event.deltaX || event.deltaY) / this.width);
    }
  }

  onDown(event) {
    if (event.button !== 0) return;
    const {x, y} = this.place(event);
    if (x > this.scroller.clientWidth) return; // the scroll bar
    this.drag = {x, from: this.view.from, to: this.view.to, moved: false, scrub: y < AXIS};
    this.scroller.setPointerCapture(event.pointerId);
    if (this.drag.scrub) this.acts.seek(this.second(Math.max(x, GUTTER)));
  }

  onMove(event) {
    const {x, y} = this.place(event);
    this.pointerX = x;
    if (this.drag) {
      const away = x - this.drag.x,
        {from, to} = this.drag;
      this.drag.moved ||= Math.abs(away) > 4;
      if (this.drag.scrub) this.acts.seek(this.second(Math.max(x, GUTTER)));
      else if (this.drag.moved) {
        const seconds = (away / (this.width - GUTTER - RIGHT)) * (to - from);
        this.move(from - seconds, to - seconds);
      }
    }
    this.showTip(this.drag && this.drag.moved ? null : this.itemAt(x, y), event);
    this.drawHeads();
  }

  onUp(event) {
    const {x, y} = this.place(event),
      drag = this.drag;
    this.drag = null;
    if (!drag || drag.moved || drag.scrub) return;
    const item = this.itemAt(x, y);
    if (item) this.acts.select(item);
    else if (x > GUTTER) this.acts.seek(this.second(x));
  }

  onLeave() {
    this.pointerX = null;
    this.showTip(null);
    this.drawHeads();
  }

  jump(event) {
    const box = this.overview.getBoundingClientRect(),
      {from, to} = this.view;
    const part = (event.clientX - box.left - GUTTER) / (this.width - GUTTER - RIGHT);
    const middle = part * this.video.durationS;
    if (to - from < this.video.durationS * 0.999) this.move(middle - (to - from) / 2, middle + (to - from) / 2);
    else this.acts.seek(clamp(middle, 0, this.video.durationS));
  }

  showTip(item, event) {
    this.tip.hidden = !item;
    this.scroller.classList.toggle('over', Boolean(item));
    if (!item) return;
    this.tip.replaceChildren(...this.acts.describe(item));
    const {offsetWidth, offsetHeight} = this.tip;
    this.tip.style.left = `${clamp(event.clientX + 14, 8, window.innerWidth - offsetWidth - 8)}px`;
    const below = event.clientY + 18;
    this.tip.style.top = `${below + offsetHeight > window.innerHeight ? event.clientY - offsetHeight - 12 : below}px`;
  }
}

// Items that overlap in time share the height of their bar, up to three; more lie on each other.
function shareOut(items) {
  let group = [],
    ends = [],
    until = -Infinity;
  const close = () => {
    for (const item of group) item.parts = ends.length;
  };
  for (const item of items) {
    if (item.start >= until - 1e-6) {
      close();
      [group, ends] = [[], []];
    }
    const free = ends.findIndex((end) => end <= item.start + 1e-6);
    item.part = free >= 0 ? free : Math.min(ends.length, 2);
    ends[item.part] = Math.max(item.stop, free >= 0 ? 0 : ends[item.part] || 0);
    until = Math.max(until, item.stop);
    group.push(item);
  }
  close();
  return items;
}

function partOf({part, parts}) {
  const height = BAR / parts;
  return {top: part * height, height: parts > 1 ? height - 0.5 : height};
}

// The height of the curves: the highest score of the video, 0 to 255, so that low ones can be told apart.
function peakOf(video) {
  let peak = 1;
  for (const {values} of video.curves ? video.curves.rows.values() : [])
    for (const value of values) if (value > peak) peak = value;
  if (!video.curves) for (const {score} of video.fixed) if (score * 255 > peak) peak = score * 255;
  return peak;
}

// Columns of pixels that have something of a verdict: thousands of thin bars become few, and each pixel is drawn once.
class Columns {
  constructor() {
    this.verdicts = new Map();
  }

  add(verdict, left, width) {
    if (!this.verdicts.has(verdict)) this.verdicts.set(verdict, new Uint8Array(8192));
    const first = Math.max(0, Math.round(left));
    this.verdicts.get(verdict).fill(1, first, Math.max(first + 1, Math.round(left + width)));
  }

  fill(context, y, height) {
    for (const [verdict, columns] of this.verdicts) {
      context.fillStyle = PALETTE[verdict];
      for (let from = columns.indexOf(1); from >= 0;) {
        const end = columns.indexOf(0, from),
          to = end < 0 ? columns.length : end;
        context.fillRect(from, y, to - from, height);
        from = columns.indexOf(1, to);
      }
    }
  }
}

function tickStep(length, most) {
  return TICKS_S.find((step) => length / step <= most) || 14400;
}

function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let letters = Array.from(text).slice(0, 60);
  while (letters.length > 1 && context.measureText(letters.join('') + '…').width > width)
    letters = letters.slice(0, -1);
  return letters.join('') + '…';
}

// ---- bars: hit filled, miss hollow, false alarm hatched, wrong class dotted with a notch

function patterns(context) {
  const tile = (size, paint) => {
    const ratio = 2,
      canvas = document.createElement('canvas');
    canvas.width = canvas.height = size * ratio;
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    paint(pen);
    const pattern = context.createPattern(canvas, 'repeat');
    pattern.setTransform(new DOMMatrix([1 / ratio, 0, 0, 1 / ratio, 0, 0]));
    return pattern;
  };
  const hatch = tile(6, (pen) => {
    pen.strokeStyle = PALETTE.false;
    pen.lineWidth = 2;
    for (const at of [-6, 0, 6]) {
      pen.beginPath();
      pen.moveTo(at - 1, 7);
      pen.lineTo(at + 7, -1);
      pen.stroke();
    }
  });
  const dots = tile(5, (pen) => {
    pen.fillStyle = PALETTE.wrong;
    pen.beginPath();
    pen.arc(2.5, 2.5, 1.5, 0, 7);
    pen.fill();
  });
  return {[FALSE_ALARM]: hatch, [WRONG]: dots};
}

function paintBar(context, pens, verdict, left, y, width, height) {
  const colour = PALETTE[verdict];
  if (verdict === HIT || verdict === SHOWN || width < 4) {
    context.fillStyle = colour;
    context.fillRect(left, y, width, height);
    return;
  }
  context.beginPath();
  if (verdict === WRONG && width > 10) notched(context, left, y, width, height);
  else context.rect(left + 0.75, y + 0.75, width - 1.5, height - 1.5);
  context.fillStyle = PALETTE.card;
  context.fill();
  if (pens[verdict]) {
    context.fillStyle = pens[verdict];
    context.fill();
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.stroke();
}

function notched(context, left, y, width, height) {
  const [l, t, r, b] = [left + 0.75, y + 0.75, left + width - 0.75, y + height - 0.75];
  context.moveTo(l, t);
  context.lineTo(r, t);
  context.lineTo(r - 5, (t + b) / 2);
  context.lineTo(r, b);
  context.lineTo(l, b);
  context.lineTo(l + 5, (t + b) / 2);
  context.closePath();
}
