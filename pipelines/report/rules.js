'use strict';
// The rules: what there is at a threshold, and which verdict it gets. Nothing here touches the page.
// pipelines/report/verdicts.py says the same in Python; the tests hold the two together.

const HIT = 'hit',
  MISS = 'miss',
  FALSE_ALARM = 'false',
  WRONG = 'wrong',
  SHOWN = 'shown';
const SAME_MOMENT = 1e6; // moments of boxes are equal to a millionth of a second

// An item is one segment or one box: {key, side: 'truth'|'predicted', row, label, start, stop, score, box, track}, and
// once judged {verdict, partner: the item on the other side, overlap}. A box lasts for the time between two moments.

function readVideo(raw, index) {
  const video = {index, id: raw.id, raw, durationS: raw.duration_s || 0, frameS: 1 / (raw.fps || 25)};
  const boxes = raw.boxes || {};
  video.moments = momentsOf([boxes.truth, boxes.predicted]);
  video.spacingS = spacingOf(video.moments);
  video.boxRows = {truth: rowsByMoment(boxes.truth), predicted: rowsByMoment(boxes.predicted)};
  const known = raw.truth || boxes.truth;
  video.truth = known ? [...segmentItems(raw.truth, 'truth'), ...boxItems(boxes.truth, 'truth', video.spacingS)] : null;
  video.curves = raw.curves ? readCurves(raw.curves, video.durationS) : null;
  video.fixed = boxItems(boxes.predicted, 'predicted', video.spacingS);
  if (!video.curves) video.fixed = [...segmentItems(raw.predicted, 'predicted'), ...video.fixed];
  if (!video.durationS)
    video.durationS = [...(video.truth || []), ...video.fixed].reduce((last, {stop}) => Math.max(last, stop), 0) || 1;
  video.near = nearOf(video.truth || []);
  return video;
}

function segmentItems(rows, side) {
  if (!rows) return [];
  return rows.label.map((label, row) => ({
    key: `${side[0]}${row}`,
    side,
    row,
    label,
    start: rows.start[row],
    stop: rows.stop[row],
    score: side === 'truth' ? null : (rows.score[row] ?? 1),
    box: null,
    track: -1,
  }));
}

function boxItems(rows, side, spacingS) {
  if (!rows) return [];
  return rows.label.map((label, row) => ({
    key: `${side[0]}b${row}`,
    side,
    row,
    label,
    second: rows.second[row],
    start: Math.max(0, rows.second[row] - spacingS / 2),
    stop: rows.second[row] + spacingS / 2,
    score: side === 'truth' ? null : (rows.score[row] ?? 1),
    box: rows.box.slice(4 * row, 4 * row + 4),
    track: rows.track ? rows.track[row] : -1,
  }));
}

function momentsOf(tables) {
  const seconds = new Set(tables.flatMap((rows) => (rows ? rows.second : [])));
  return Float64Array.from(seconds).sort();
}

function rowsByMoment(table) {
  const rows = new Map();
  (table ? table.second : []).forEach((second, row) => {
    const moment = Math.round(second * SAME_MOMENT);
    if (rows.has(moment)) rows.get(moment).push(row);
    else rows.set(moment, [row]);
  });
  return rows;
}

function spacingOf(moments) {
  const steps = Array.from(moments.subarray(1), (second, i) => second - moments[i]).sort((a, b) => a - b);
  return steps.length ? steps[steps.length >> 1] : 1;
}

// ---- curves

function readCurves(raw, durationS) {
  const rows = new Map();
  for (const [label, text] of Object.entries(raw.rows)) {
    const values = bytesOf(text);
    const total = new Uint32Array(values.length + 1);
    for (let i = 0; i < values.length; i++) total[i + 1] = total[i] + values[i];
    rows.set(Number(label), {values, total});
  }
  const steps = raw.centre_s
    ? raw.centre_s.length
    : raw.steps || Math.max(0, ...[...rows.values()].map((row) => row.values.length));
  const centres = raw.centre_s || Array.from({length: steps}, (_, i) => raw.start_s + i * raw.step_s);
  return {rows, edges: stepEdges(centres, durationS)};
}

function bytesOf(text) {
  const letters = atob(text),
    bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// Where steps begin and end: halfway between two middles, from 0 to the end of the video.
function stepEdges(centres, stopS) {
  const n = centres.length;
  if (n < 2) return n ? Float64Array.of(0, stopS) : new Float64Array(1);
  const edges = new Float64Array(n + 1);
  edges[0] = centres[0] - (centres[1] - centres[0]) / 2;
  for (let i = 1; i < n; i++) edges[i] = (centres[i] + centres[i - 1]) / 2;
  edges[n] = centres[n - 1] + (centres[n - 1] - centres[n - 2]) / 2;
  return edges.map((edge) => Math.min(Math.max(edge, 0), stopS));
}

// Longest runs of steps of at least the threshold, as items whose score is the mean of the run.
function cut(curves, threshold) {
  const items = [],
    limit = threshold * 255;
  for (const [label, {values, total}] of curves.rows) {
    let first = -1;
    for (let i = 0; i <= values.length; i++) {
      const high = i < values.length && values[i] >= limit;
      if (high && first < 0) first = i;
      if (high || first < 0) continue;
      const start = curves.edges[first],
        stop = curves.edges[i];
      items.push({
        key: `p${label}@${start.toFixed(3)}-${stop.toFixed(3)}`,
        side: 'predicted',
        row: items.length,
        label,
        start,
        stop,
        score: (total[i] - total[first]) / (i - first) / 255,
        box: null,
        track: -1,
      });
      first = -1;
    }
  }
  return items;
}

function predictedAt(video, threshold) {
  const fixed = video.fixed.filter((item) => item.score >= threshold);
  return video.curves ? cut(video.curves, threshold).concat(fixed) : fixed;
}

// ---- overlap

function spanOverlap(a, b) {
  const both = Math.max(0, Math.min(a.stop, b.stop) - Math.max(a.start, b.start));
  const either = a.stop - a.start + (b.stop - b.start) - both;
  return either > 0 ? both / either : 0;
}

function boxOverlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const both = width * height;
  const either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both;
  return either > 0 ? both / either : 0;
}

// A function that visits each truth that overlaps an item by at least tiou. Only truths near in time are looked at:
// one that overlaps enough is at most 1 / tiou times as long, so it cannot begin long before.
function nearOf(truth) {
  const spans = truth.filter((item) => !item.box).sort((a, b) => a.start - b.start);
  const starts = Float64Array.from(spans, (item) => item.start);
  const moments = new Map();
  for (const item of truth) {
    if (!item.box) continue;
    const moment = Math.round(item.second * SAME_MOMENT);
    if (!moments.has(moment)) moments.set(moment, []);
    moments.get(moment).push(item);
  }
  return (item, tiou, visit) => {
    if (item.box) {
      for (const other of moments.get(Math.round(item.second * SAME_MOMENT)) || []) {
        const overlap = boxOverlap(item.box, other.box);
        if (overlap >= tiou) visit(other, overlap);
      }
      return;
    }
    const from = item.start - (item.stop - item.start) / tiou - 1e-6;
    for (let i = firstAtLeast(starts, from); i < spans.length && starts[i] < item.stop; i++) {
      const overlap = spanOverlap(item, spans[i]);
      if (overlap >= tiou) visit(spans[i], overlap);
    }
  };
}

function firstAtLeast(rising, value) {
  let low = 0,
    high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

// ---- verdicts

// What each predicted item takes, by falling score: [{taken, overlap, other}], in the order of the items.
function match(video, shown, tiou) {
  const order = Array.from(shown.keys()).sort((a, b) => shown[b].score - shown[a].score || a - b);
  const free = new Set(video.truth),
    outcome = new Array(shown.length);
  for (const i of order) {
    const item = shown[i];
    let taken = null,
      overlap = 0,
      other = null,
      best = 0;
    video.near(item, tiou, (truth, much) => {
      if (truth.label !== item.label) {
        if (much > best) [other, best] = [truth, much];
      } else if (free.has(truth) && (much > overlap || (much === overlap && truth.row < taken.row))) {
        [taken, overlap] = [truth, much];
      }
    });
    if (taken) free.delete(taken);
    outcome[i] = {taken, overlap, other, best};
  }
  return outcome;
}

// Gives every truth and every item of `shown` its verdict, and returns `shown`.
function judge(video, shown, tiou) {
  if (!video.truth) {
    for (const item of shown) [item.verdict, item.partner, item.overlap] = [SHOWN, null, 0];
    return shown;
  }
  for (const truth of video.truth) [truth.verdict, truth.partner, truth.overlap] = [MISS, null, 0];
  match(video, shown, tiou).forEach(({taken, overlap, other, best}, i) => {
    const item = shown[i];
    item.verdict = taken ? HIT : other ? WRONG : FALSE_ALARM;
    [item.partner, item.overlap] = taken ? [taken, overlap] : [other, best];
    if (taken) [taken.verdict, taken.partner, taken.overlap] = [HIT, item, overlap];
  });
  return shown;
}

// `judged`: what is shown in videos with truth, which is what precision is a part of.
const NOTHING = {shown: 0, judged: 0, truths: 0, hits: 0, misses: 0, false_alarms: 0, wrong_class: 0};

function tally(video, only = -1) {
  const counts = {...NOTHING};
  for (const item of video.shown) {
    if (only >= 0 && item.label !== only) continue;
    counts.shown++;
    if (video.truth) counts.judged++;
    if (item.verdict === HIT) counts.hits++;
    if (item.verdict === FALSE_ALARM) counts.false_alarms++;
    if (item.verdict === WRONG) counts.wrong_class++;
  }
  for (const item of video.truth || []) {
    if (only >= 0 && item.label !== only) continue;
    counts.truths++;
    if (item.verdict === MISS) counts.misses++;
  }
  return counts;
}

function summed(all) {
  const sum = {...NOTHING};
  for (const counts of all) for (const name of Object.keys(sum)) sum[name] += counts[name] || 0;
  return {...sum, ...rates(sum.hits, sum.judged, sum.truths)};
}

function rates(hits, judged, truths) {
  const precision = judged ? hits / judged : null,
    recall = truths ? hits / truths : null;
  const f1 = judged + truths ? (2 * hits) / (judged + truths) : null;
  return {precision, recall, f1};
}

// ---- figures

const SWEEP = Array.from({length: 39}, (_, i) => (i + 1) / 40);

// Points of precision and recall of each class at each of SWEEP's thresholds: Map label -> [{threshold, …rates}]; of all
// together under -1.
function precisionRecall(videos, tiou) {
  const points = new Map();
  const known = videos.filter((video) => video.truth);
  const truths = countBy(known.flatMap((video) => video.truth));
  for (const label of truths.keys()) points.set(label, []);
  const once = known.filter((video) => !video.curves).map((video) => matched(video, video.fixed, tiou));
  for (const threshold of SWEEP) {
    const cuts = known.filter((video) => video.curves).map((v) => matched(v, predictedAt(v, threshold), tiou));
    const rows = [...once.map((all) => all.filter(({item}) => item.score >= threshold)), ...cuts].flat();
    const shown = countBy(rows.map(({item}) => item));
    const hits = countBy(rows.filter(({hit}) => hit).map(({item}) => item));
    for (const [label, found] of points) {
      found.push({threshold, ...rates(hits.get(label) || 0, shown.get(label) || 0, truths.get(label))});
    }
  }
  return points;
}

function matched(video, shown, tiou) {
  return match(video, shown, tiou).map(({taken}, i) => ({item: shown[i], hit: taken !== null}));
}

function countBy(items) {
  const counts = new Map([[-1, items.length]]);
  for (const {label} of items) counts.set(label, (counts.get(label) || 0) + 1);
  return counts;
}

// Truth against prediction, one to one by falling overlap (of equal ones the right class first); -1 is "nothing".
function confusion(videos, tiou) {
  const cells = new Map();
  const add = (truth, predicted) => {
    const key = `${truth},${predicted}`;
    cells.set(key, (cells.get(key) || 0) + 1);
  };
  for (const video of videos.filter((each) => each.truth)) {
    const pairs = [];
    for (const item of video.shown) video.near(item, tiou, (truth, overlap) => pairs.push({item, truth, overlap}));
    const same = ({item, truth}) => Number(item.label === truth.label);
    pairs.sort((a, b) => b.overlap - a.overlap || same(b) - same(a));
    const used = new Set();
    for (const {item, truth} of pairs) {
      if (used.has(item) || used.has(truth)) continue;
      used.add(item).add(truth);
      add(truth.label, item.label);
    }
    for (const truth of video.truth) if (!used.has(truth)) add(truth.label, -1);
    for (const item of video.shown) if (!used.has(item)) add(-1, item.label);
  }
  return cells;
}

const BUCKETS_S = [2, 5, 10, 30, 60, Infinity];

function recallByDuration(videos, only) {
  const buckets = BUCKETS_S.map((below, i) => ({from: i ? BUCKETS_S[i - 1] : 0, below, truths: 0, hits: 0}));
  for (const truth of videos.flatMap((video) => video.truth || [])) {
    if (truth.box || (only >= 0 && truth.label !== only)) continue;
    const bucket = buckets.find(({below}) => truth.stop - truth.start < below);
    bucket.truths++;
    if (truth.verdict === HIT) bucket.hits++;
  }
  return buckets.filter(({truths}) => truths);
}

// The errors of a video and how bad each is, 0 to 1: false alarms and wrong classes by score, misses by their part of
// the longest miss.
function errorsOf(video) {
  const misses = (video.truth || []).filter(({verdict}) => verdict === MISS);
  const longest = misses.reduce((most, {start, stop}) => Math.max(most, stop - start), 1e-9);
  const wrong = video.shown.filter(({verdict}) => verdict === FALSE_ALARM || verdict === WRONG);
  const rated = [
    ...wrong.map((item) => [item, item.score]),
    ...misses.map((item) => [item, (item.stop - item.start) / longest]),
  ];
  return rated.sort((a, b) => b[1] - a[1] || a[0].start - b[0].start).map(([item]) => item);
}
