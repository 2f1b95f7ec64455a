// Plots of what is shown, as SVG: precision and recall, confusion, recall by duration.

const MOST_CLASSES = 14; // of the confusion matrix; the rest are said to be left out

function plotPrecisionRecall(host, points, only, now, name) {
  const w = 360,
    h = 300,
    left = 44,
    bottom = 38,
    x = (v) => left + v * (w - left - 12),
    y = (v) => h - bottom - v * (h - bottom - 12);
  const svg = draw('svg', {
    viewBox: `0 0 ${w} ${h}`,
    role: 'img',
    'aria-label': 'Precision against recall, by threshold',
  });
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw('line', {x1: x(v), x2: x(v), y1: y(0), y2: y(1), class: 'grid'}),
      draw('line', {x1: x(0), x2: x(1), y1: y(v), y2: y(v), class: 'grid'}),
      draw('text', {x: x(v), y: h - 22, 'text-anchor': 'middle'}, String(v)),
      draw('text', {x: left - 7, y: y(v) + 4, 'text-anchor': 'end'}, String(v)),
    );
  }
  svg.append(
    draw('text', {x: x(0.5), y: h - 4, 'text-anchor': 'middle', class: 'axis'}, 'recall'),
    draw(
      'text',
      {transform: `translate(11 ${y(0.5)}) rotate(-90)`, 'text-anchor': 'middle', class: 'axis'},
      'precision',
    ),
  );
  const line = (curve, kind, title) => {
    const known = curve.filter(({precision}) => precision !== null);
    const at = known.map(({precision, recall}) => `${x(recall).toFixed(1)},${y(precision).toFixed(1)}`).join(' ');
    if (known.length) svg.append(draw('polyline', {points: at, class: kind}, draw('title', {}, title)));
  };
  for (const [label, curve] of points)
    if (label !== only) line(curve, 'class', label < 0 ? 'all together' : name(label));
  line(points.get(only) || [], 'chosen', only < 0 ? 'all together' : name(only));
  if (now.precision !== null && now.recall !== null)
    svg.append(
      draw(
        'circle',
        {cx: x(now.recall), cy: y(now.precision), r: 5.5, class: 'now'},
        draw('title', {}, 'at the threshold'),
      ),
    );
  host.replaceChildren(svg);
}

function plotConfusion(host, cells, name) {
  const count = (a, b) => cells.get(`${a},${b}`) || 0,
    total = new Map();
  for (const [key, n] of cells)
    for (const label of new Set(key.split(',').map(Number)))
      if (label >= 0) total.set(label, (total.get(label) || 0) + n);
  const by = [...total.keys()].sort((a, b) => total.get(b) - total.get(a));
  const labels = [...by.slice(0, MOST_CLASSES).sort((a, b) => a - b), -1],
    said = (label) => (label < 0 ? 'nothing' : name(label));
  const size = clamp(Math.floor(270 / labels.length), 17, 34),
    left = 104,
    top = 84,
    side = labels.length * size;
  const svg = draw('svg', {
    viewBox: `0 0 ${left + side + 30} ${top + side + 4}`,
    role: 'img',
    'aria-label': 'Confusion: truth in rows, prediction in columns',
  });
  svg.style.maxWidth = `${1.2 * (left + side + 30)}px`;
  svg.append(draw('text', {x: left - 8, y: 14, 'text-anchor': 'end', class: 'axis'}, 'truth ↓  found →'));
  labels.forEach((truth, i) => {
    const y = top + i * size,
      row = labels.reduce((sum, b) => sum + count(truth, b), 0) || 1;
    svg.append(
      draw(
        'text',
        {x: left - 8, y: y + size / 2 + 4, 'text-anchor': 'end', class: truth < 0 ? 'axis' : ''},
        short(said(truth), 15),
        draw('title', {}, said(truth)),
      ),
      draw(
        'text',
        {
          transform: `translate(${left + i * size + size / 2 + 3} ${top - 7}) rotate(-58)`,
          class: truth < 0 ? 'axis' : '',
        },
        short(said(truth), 12),
      ),
    );
    labels.forEach((found, j) => {
      const n = count(truth, found),
        x = left + j * size;
      const cell = draw('rect', {
        x,
        y,
        width: size - 1.5,
        height: size - 1.5,
        rx: 2,
        class: i === j ? 'cell right' : 'cell',
      });
      cell.style.fillOpacity = n ? 0.12 + 0.88 * Math.sqrt(n / row) : 0;
      svg.append(draw('rect', {x, y, width: size - 1.5, height: size - 1.5, rx: 2, class: 'ground'}), cell);
      const strong = n && Math.sqrt(n / row) > 0.55;
      if (n)
        svg.append(
          draw(
            'text',
            {x: x + size / 2 - 0.75, y: y + size / 2 + 3.5, 'text-anchor': 'middle', class: strong ? 'strong' : ''},
            n > 999 ? `${Math.round(n / 1000)}k` : String(n),
          ),
        );
      cell.append(draw('title', {}, `truth ${said(truth)}, found ${said(found)}: ${n}`));
    });
  });
  host.replaceChildren(svg);
  if (by.length > MOST_CLASSES)
    host.append(make('p', {class: 'quiet'}, `The ${MOST_CLASSES} most frequent of ${by.length} classes.`));
}

function plotDurations(host, buckets) {
  const w = 360,
    h = 300,
    left = 44,
    bottom = 52,
    y = (v) => h - bottom - v * (h - bottom - 26),
    step = (w - left - 8) / Math.max(buckets.length, 1);
  const svg = draw('svg', {viewBox: `0 0 ${w} ${h}`, role: 'img', 'aria-label': 'Recall by duration of the truth'});
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw('line', {x1: left, x2: w - 8, y1: y(v), y2: y(v), class: 'grid'}),
      draw('text', {x: left - 7, y: y(v) + 4, 'text-anchor': 'end'}, String(v)),
    );
  }
  buckets.forEach(({from, below, truths, hits}, i) => {
    const x = left + i * step,
      recall = hits / truths,
      wide = Math.min(step * 0.62, 60),
      middle = x + step / 2;
    const range = below === Infinity ? `≥ ${from} s` : from ? `${from}–${below} s` : `< ${below} s`;
    svg.append(
      draw('rect', {x: middle - wide / 2, y: y(1), width: wide, height: y(0) - y(1), rx: 3, class: 'ground'}),
      draw(
        'rect',
        {x: middle - wide / 2, y: y(recall), width: wide, height: y(0) - y(recall), rx: 3, class: 'bar'},
        draw('title', {}, `${hits} of ${truths}`),
      ),
      draw('text', {x: middle, y: y(1) - 7, 'text-anchor': 'middle', class: 'axis'}, `${Math.round(100 * recall)} %`),
      draw('text', {x: middle, y: h - 34, 'text-anchor': 'middle', class: 'axis'}, range),
      draw('text', {x: middle, y: h - 19, 'text-anchor': 'middle'}, `${hits} of ${truths}`),
    );
  });
  svg.append(
    draw('text', {x: left + (w - left) / 2, y: h - 2, 'text-anchor': 'middle', class: 'axis'}, 'duration of the truth'),
  );
  host.replaceChildren(svg);
}

function short(text, letters) {
  const all = Array.from(text);
  return all.length > letters ? all.slice(0, letters - 1).join('') + '…' : text;
}

// Heat of a video from left to right: its highest scores, as shades; `most` is the darkest. A pixel for each column, which
// the style sheet makes as wide as there is room.
function heatStrip(canvas, columns, most) {
  canvas.width = columns.length;
  canvas.height = 1;
  const context = canvas.getContext('2d'),
    image = context.createImageData(columns.length, 1);
  const colour = [1, 3, 5].map((at) => parseInt(PALETTE.curve.slice(at, at + 2), 16));
  columns.forEach((value, i) => image.data.set([...colour, 15 + (240 * value) / most], 4 * i));
  context.putImageData(image, 0, 0);
}

function stripOf(video, n = 240) {
  const columns = new Float32Array(n),
    column = (second) => clamp(Math.floor((second / video.durationS) * n), 0, n - 1);
  const raise = (from, to, value) => {
    for (let i = column(from); i <= column(to); i++) columns[i] = Math.max(columns[i], value);
  };
  for (const item of video.fixed) raise(item.start, item.stop, item.score * 255);
  for (const {values} of video.curves ? video.curves.rows.values() : []) {
    values.forEach((value, i) => raise(video.curves.edges[i], video.curves.edges[i], value));
  }
  return columns;
}
