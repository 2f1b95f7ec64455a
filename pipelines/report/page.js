// The page: what is chosen, what follows from it, and what keys and buttons do.

const DATA_TEXT = $('data').textContent,
  DATA = JSON.parse(DATA_TEXT);
const VIDEOS = DATA.videos.map(readVideo);
const HAS_TRUTH = VIDEOS.some((video) => video.truth);
const MOST_ROWS = 100; // of the list at once

const state = {
  threshold: DATA.threshold,
  tiou: DATA.tiou,
  only: -1,
  allClasses: false,
  video: null,
  selected: null,
  list: HAS_TRUTH ? 'errors' : 'score',
  rows: MOST_ROWS,
  videoRows: MOST_VIDEOS,
  order: HAS_TRUTH || DATA.pages ? 'worst' : 'name',
};

const className = (label) => DATA.classes[label] ?? 'no label';
const isShown = (item) => state.only < 0 || item.label === state.only;
const review = new Review(DATA_TEXT, () => afterReview());

const player = VIDEOS.length
  ? new Player({
      moved,
      className,
      threshold: () => state.threshold,
      reason: (text) => showNotes($('video-notes'), [...(state.video.raw.notes || []), text]),
    })
  : null;
const lanes = VIDEOS.length
  ? new Lanes({
      seek: (second) => player.seek(second),
      select,
      describe,
      className,
      reviewOf: (item) => review.of(state.video, item),
      kept: (video) => review.kept(video),
      time: () => player.second,
      threshold: () => state.threshold,
      selected: () => state.selected,
    })
  : null;

// ---- head

const FIGURES = {
  average_map_activitynet: 'ActivityNet mAP',
  average_map: 'Average mAP',
  map: 'mAP',
  accuracy: 'Accuracy',
  mean_class_accuracy: 'Mean class accuracy',
  auc: 'AUC',
  edit: 'Edit',
};
const IN_PERCENT = /^(auc|edit|f1_\d+)$/;

function figureName(key) {
  const [, kind, number] = /^(ar_at|top|f1|gap)_(\d+)$/.exec(key) || [];
  return (
    FIGURES[key] ||
    {ar_at: `AR@${number}`, top: `Top ${number}`, f1: `F1@${number}`, gap: `GAP@${number}`}[kind] ||
    key.replaceAll('_', ' ')
  );
}

function figure(key, value) {
  if (value === null) return '–';
  if (typeof value !== 'number') return String(value);
  return percent(IN_PERCENT.test(key) || value > 1 ? value / 100 : value);
}

function showHead() {
  const kinds = {
    localize: 'Localization',
    label: 'Labels, step by step',
    classify: 'Classification',
    detect: 'Detection',
  };
  $('title').textContent = DATA.title;
  $('kind').textContent = kinds[DATA.task] || 'Report';
  if (safeLink(DATA.index)) Object.assign($('home'), {href: DATA.index, hidden: false});
  const videos = DATA.pages || VIDEOS,
    hours = videos.reduce((sum, {durationS, duration_s}) => sum + (durationS ?? duration_s ?? 0), 0);
  const parts = [
    many(videos.length, 'video'),
    clock(hours, 0),
    many(DATA.classes.length, 'class', 'classes'),
    `made ${DATA.made}`,
  ];
  $('subtitle').textContent = parts.join('  ·  ');
  const figures = Object.entries(DATA.metrics || {}).slice(0, 6);
  $('metrics').replaceChildren(
    ...figures.map(([key, value]) =>
      make('div', {}, make('dt', {}, figureName(key)), make('dd', {}, figure(key, value))),
    ),
  );
  if (DATA.protocol) $('metrics').setAttribute('title', `Protocol: ${DATA.protocol}`);
  showNotes($('notes'), DATA.notes);
  const facts = [...(DATA.protocol ? [['protocol', DATA.protocol]] : []), ...(DATA.provenance || [])];
  $('provenance').hidden = !facts.length;
  $('facts').replaceChildren(
    ...facts.map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value))),
  );
}

function showNotes(host, notes) {
  host.hidden = !notes || !notes.length;
  host.replaceChildren(...(notes || []).map((note) => make('li', {}, note)));
}

// ---- what follows from the threshold, the overlap and the class

function recount() {
  for (const video of VIDEOS) {
    video.shown = judge(video, predictedAt(video, state.threshold), state.tiou);
    video.counts = tally(video, state.only);
  }
  if (state.selected) state.selected = itemsOf(state.video).find((item) => item.key === state.selected.key) || null;
}

function itemsOf(video) {
  return [...(video.truth || []), ...video.shown];
}

function refresh() {
  recount();
  showCounts();
  showVideo(() => later(showList, 60)); // the lists come after, so that the slider moves smoothly
  later(showVideos, 60);
  later(showPlots);
}

const pending = new Map();
function later(task, wait = 120) {
  clearTimeout(pending.get(task));
  pending.set(task, setTimeout(task, wait));
}

function countEntries(counts, truth) {
  if (!truth) return [[SHOWN, counts.shown, counts.shown === 1 ? 'prediction' : 'predictions']];
  const name = (number, one, more = `${one}s`) => (number === 1 ? one : more);
  return [
    [HIT, counts.hits, name(counts.hits, 'hit')],
    [MISS, counts.misses, name(counts.misses, 'miss', 'misses')],
    [FALSE_ALARM, counts.false_alarms, name(counts.false_alarms, 'false alarm')],
    [WRONG, counts.wrong_class, 'wrong class'],
  ];
}

function showCounts() {
  const rows = DATA.pages ? overviewRows() : VIDEOS.map((video) => video.counts),
    truth = HAS_TRUTH || rows.some((row) => row.truth);
  const sum = summed(rows);
  const signs = countEntries(sum, truth).map(([verdict, number, name]) =>
    make('div', {}, make('dt', {}, sign(verdict), name), make('dd', {}, number.toLocaleString('en'))),
  );
  const figures = truth
    ? [
        ['precision', sum.precision],
        ['recall', sum.recall],
        ['F1', sum.f1],
      ]
    : [];
  $('counts').replaceChildren(
    ...signs,
    ...figures.map(([name, part]) => make('div', {class: 'rate'}, make('dt', {}, name), make('dd', {}, percent(part)))),
  );
  $('threshold-value').textContent = state.threshold.toFixed(2);
}

function showVideo(list = showList) {
  const {video} = state;
  if (!video) return;
  const {precision, recall} = rates(video.counts.hits, video.counts.judged, video.counts.truths);
  const words = countEntries(video.counts, video.truth).map(
    ([, number, name]) => `${number.toLocaleString('en')} ${name}`,
  );
  if (video.truth) words.push(`precision ${percent(precision)}`, `recall ${percent(recall)}`);
  $('video-counts').textContent = words.join('  ·  ');
  lanes.arrange(labelsOf(video));
  lanes.draw();
  $('lanes').setAttribute(
    'aria-label',
    `Timeline of ${video.id}: ${words.join(', ')}. Arrows move it, plus and minus zoom. The list beside the player says the same in words.`,
  );
  state.listed = listed();
  list();
  showActive();
  player.drawBoxes();
}

// Classes of the lanes: those of the truth and of what was shown at first or is shown now.
function labelsOf(video) {
  if (state.only >= 0) return [state.only];
  if (state.allClasses) return DATA.classes.map((_, label) => label);
  const labels = [
    ...(video.truth || []),
    ...video.shown,
    ...(video.atFirst ||= predictedAt(video, DATA.threshold)),
  ].map(({label}) => label);
  return [...new Set(labels)].sort((a, b) => a - b);
}

function showPlots() {
  $('plots').hidden = !HAS_TRUTH;
  if (!HAS_TRUTH) return;
  if (state.swept !== state.tiou) [state.points, state.swept] = [precisionRecall(VIDEOS, state.tiou), state.tiou];
  plotPrecisionRecall(
    $('plot-curve'),
    state.points,
    state.only,
    summed(VIDEOS.map((video) => video.counts)),
    className,
  );
  plotConfusion($('plot-confusion'), confusion(VIDEOS, state.tiou), className);
  const buckets = recallByDuration(VIDEOS, state.only);
  $('durations').hidden = !buckets.length;
  plotDurations($('plot-durations'), buckets);
}

// ---- one video

function openVideo(video) {
  if (!video || video === state.video) return;
  [state.video, state.selected, state.rows] = [video, null, MOST_ROWS];
  $('video-name').textContent = video.id;
  $('length').textContent = clock(video.durationS);
  $('seek').max = video.durationS;
  $('boxes-control').hidden = !video.moments.length;
  showNotes($('video-notes'), video.raw.notes);
  lanes.show(video);
  player.open(video);
  if (video.raw.src === null && video.raw.notes && video.raw.notes.length)
    $('missing-reason').textContent = video.raw.notes[0];
  showVideos();
  showVideo();
}

function route() {
  const [, name] = /^#\/(.*)$/.exec(location.hash) || [];
  const wanted = name === undefined ? null : VIDEOS.find((video) => video.id === decodeURIComponentSafely(name));
  if (wanted) openVideo(wanted);
  else if (!state.video && VIDEOS.length) openVideo(overviewRows().find((row) => row.video).video);
}

function moved(second) {
  $('now').textContent = clock(second, 2);
  if (document.activeElement !== $('seek') || player.usable) $('seek').value = second;
  $('seek').setAttribute('aria-valuetext', clock(second));
  if (!state.video) return;
  lanes.follow(second);
  showActive();
  showStill(second);
}

// What goes on in the frame that is shown, as chips: truth first.
function showActive() {
  const {second} = player,
    end = second + state.video.frameS; // of the frame that is shown
  const now = itemsOf(state.video).filter((item) => isShown(item) && item.start < end && item.stop > second);
  const key = now.map((item) => `${item.key}${item.verdict}`).join();
  if (key === state.active && key !== '') return;
  state.active = key;
  const chip = (item) =>
    make(
      'button',
      {type: 'button', class: `chip ${item.side}`, click: () => select(item), title: tellItem(item)},
      sign(item.verdict),
      make('span', {class: 'label'}, className(item.label)),
      make('span', {class: 'quiet'}, item.side === 'truth' ? 'truth' : item.score.toFixed(2)),
    );
  $('active').replaceChildren(
    ...(now.length ? now.slice(0, 24).map(chip) : [make('span', {class: 'quiet small'}, 'Nothing at this moment')]),
  );
}

function showStill(second) {
  const thumb = player.usable ? null : nearestThumb(second, 0, Infinity);
  $('still').hidden = !thumb;
  if (thumb && $('still').src !== thumb.image) $('still').src = thumb.image;
}

function nearestThumb(second, from, to) {
  const within = (state.video.raw.thumbs || []).filter(
    (thumb) => thumb.second >= from && thumb.second <= to && /^data:image\//.test(thumb.image),
  );
  return within.reduce(
    (best, thumb) => (!best || Math.abs(thumb.second - second) < Math.abs(best.second - second) ? thumb : best),
    null,
  );
}

// ---- keys

const KEYS = [
  ['Space', 'play, pause'],
  ['J  K', 'next, previous of the list'],
  ['Y  N', 'accept, reject what is selected'],
  ['[  ]', 'trim its start, stop to the playhead'],
  ['Z', 'undo'],
  [',  .', 'one frame back, on'],
  ['←  →', 'one second back, on; with Shift ten (on the timeline: move it)'],
  ['+  −  0', 'zoom the timeline in, out, whole'],
  ['?', 'this list'],
];

const ACTIONS = {
  ' ': () => player.toggle(),
  j: () => selectNext(1),
  k: () => selectNext(-1),
  y: () => decide(state.selected, 'accepted'),
  n: () => decide(state.selected, 'rejected'),
  '[': () => trim('start'),
  ']': () => trim('stop'),
  z: undo,
  ',': () => player.step(-1),
  '.': () => player.step(1),
  ArrowLeft: (event) => sideways(event, -1),
  ArrowRight: (event) => sideways(event, 1),
  '+': () => lanes.zoom(0.5, player.second),
  '=': () => lanes.zoom(0.5, player.second),
  '-': () => lanes.zoom(2),
  0: () => lanes.move(0, state.video.durationS),
  '?': () => $('help').showModal(),
};

function sideways(event, way) {
  if (document.activeElement === $('lanes')) lanes.pan(0.15 * way);
  else player.seek(player.second + way * (event.shiftKey ? 10 : 1));
}

function onKey(event) {
  const {target, key} = event;
  if (!state.video || event.altKey || target.closest('select, dialog, [type="search"]')) return;
  if (target.closest('[type="range"], [type="radio"]') && /^(Arrow|Page|Home|End)/.test(key)) return;
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() !== 'z') return;
  if (key === ' ' && target.closest('button, summary, a, label, input:not([type="range"])')) return; // it presses what has the focus
  const action = ACTIONS[key.length === 1 ? key.toLowerCase() : key];
  if (!action) return;
  event.preventDefault();
  action(event);
}

// ---- wiring

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, name]) => make('option', {value, selected: value === chosen}, name)));
}

function fillControls() {
  for (const control of document.querySelectorAll('#settings .control')) control.hidden = !VIDEOS.length;
  $('threshold').value = state.threshold;
  const overlaps = [...new Set([0.3, 0.5, 0.7, state.tiou])].sort();
  $('tiou').replaceChildren(
    ...overlaps.map((value) =>
      make(
        'label',
        {},
        make('input', {
          type: 'radio',
          name: 'tiou',
          value,
          checked: value === state.tiou,
          change: () => set({tiou: value}),
        }),
        make('span', {}, String(value)),
      ),
    ),
  );
  if (!HAS_TRUTH) $('tiou-control').hidden = true;
  options($('only'), [['-1', 'All classes'], ...DATA.classes.map((name, label) => [String(label), name])], '-1');
  const orders =
    HAS_TRUTH || DATA.pages
      ? [
          ['worst', 'most errors'],
          ['name', 'name'],
          ['longest', 'length'],
        ]
      : [
          ['name', 'name'],
          ['most', 'most predictions'],
          ['longest', 'length'],
        ];
  options($('videos-order'), orders, state.order);
  options(
    $('list-kind'),
    Object.entries(LISTS)
      .filter(([key]) => HAS_TRUTH || key === 'score' || key === 'all')
      .map(([key, [name]]) => [key, name]),
    state.list,
  );
  options(
    $('speed'),
    ['0.25', '0.5', '1', '1.5', '2', '4'].map((rate) => [rate, `${rate} ×`]),
    '1',
  );
  const forms = (DATA.formats || Object.keys(FORMS)).filter((form) => Object.hasOwn(FORMS, form));
  options(
    $('format'),
    forms.map((form) => [form, FORMS[form].name + (FORMS[form].whole || VIDEOS.length < 2 ? '' : ', this video')]),
    forms[0],
  );
  $('download').hidden = !forms.length;
  const verdicts = HAS_TRUTH
    ? [
        [HIT, 'hit'],
        [MISS, 'miss'],
        [FALSE_ALARM, 'false alarm'],
        [WRONG, 'wrong class'],
      ]
    : [[SHOWN, 'prediction']];
  $('legend').replaceChildren(
    ...verdicts.map(([verdict, name]) => make('span', {}, sign(verdict), name)),
    make('span', {}, make('span', {class: 'sign kept', 'aria-hidden': 'true'}), 'accepted'),
  );
  $('keys').replaceChildren(
    ...KEYS.map(([keys, what]) =>
      make('div', {}, make('dt', {}, ...keys.split('  ').map((key) => make('kbd', {}, key))), make('dd', {}, what)),
    ),
  );
}

function set(change) {
  Object.assign(state, change);
  refresh();
}

function on(id, event, act) {
  $(id).addEventListener(event, act);
}

function listen() {
  on('threshold', 'input', () => set({threshold: Number($('threshold').value)}));
  on('only', 'change', () => set({only: Number($('only').value)}));
  on('list-kind', 'change', () => (([state.list, state.rows] = [$('list-kind').value, MOST_ROWS]), showList()));
  on('all-classes', 'change', () => ((state.allClasses = $('all-classes').checked), showVideo()));
  on('seek', 'input', () => player.seek(Number($('seek').value)));
  on('play', 'click', () => player.toggle());
  on('back', 'click', () => player.step(-1));
  on('forth', 'click', () => player.step(1));
  on('speed', 'change', () => ($('video').playbackRate = Number($('speed').value)));
  on('sound', 'change', () => ($('video').muted = !$('sound').checked));
  on('boxes-on', 'change', () => player.drawBoxes());
  on('zoom-in', 'click', () => lanes.zoom(0.5, player.second));
  on('zoom-out', 'click', () => lanes.zoom(2));
  on('zoom-all', 'click', () => lanes.move(0, state.video.durationS));
  on('help-open', 'click', () => $('help').showModal());
  on('save', 'click', saveReviewed);
  for (const id of ['pick', 'pick-other']) on(id, 'change', () => $(id).files[0] && player.choose($(id).files[0]));
  on('video', 'click', () => player.toggle());
  document.addEventListener('keydown', onKey);
  window.addEventListener('hashchange', route);
  new ResizeObserver(() => state.video && (lanes.layOut(), lanes.draw())).observe($('lanes'));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
  matchMedia('print').addEventListener('change', ({matches}) => onPaper(matches));
}

function repaint() {
  readPalette();
  if (lanes) lanes.pens = null;
  if (state.video) [lanes.layOut(), lanes.draw(), player.drawBoxes()];
  showVideos();
}

// On paper all lanes stand below each other, in the colours of paper.
function onPaper(paper) {
  if (lanes) lanes.paper = paper;
  repaint();
}

function start() {
  readPalette();
  showHead();
  fillControls();
  $('video').muted = true;
  document.body.classList.toggle('index', !VIDEOS.length);
  for (const id of ['watch', 'plots']) $(id).hidden = !VIDEOS.length;
  recount();
  on('videos-order', 'change', () => ((state.order = $('videos-order').value), showVideos()));
  on('videos-find', 'input', showVideos);
  on('videos-more', 'click', () => ((state.videoRows += MOST_VIDEOS), showVideos()));
  if (VIDEOS.length) listen();
  showCounts();
  showVideos();
  route();
  later(showPlots, 30);
}

start();

// For tests.
window.untrimmed = {
  counts: (number) => summed(number === undefined ? VIDEOS.map((video) => video.counts) : [VIDEOS[number].counts]),
  setThreshold: (threshold) => {
    $('threshold').value = threshold;
    set({threshold});
  },
  redrawMs: () => {
    const begin = performance.now(),
      pixel = document.createElement('canvas').getContext('2d');
    lanes.draw();
    for (const canvas of [lanes.canvas, lanes.overview]) pixel.drawImage(canvas, 0, 0);
    pixel.getImageData(0, 0, 1, 1); // waits for the drawing
    return performance.now() - begin;
  },
  boxesShown: () => player.shown,
  state: () => ({
    threshold: state.threshold,
    tiou: state.tiou,
    video: state.video.id,
    selected: state.selected && state.selected.key,
    second: player.second,
    usable: player.usable,
    view: {...lanes.view},
  }),
  segmentAt: (key) => {
    const item = itemsOf(state.video).find((each) => each.key === key),
      row = lanes.rows.findIndex(({label}) => label === item.label);
    return {
      x: (lanes.x(item.start) + lanes.x(item.stop)) / 2,
      y: lanes.rowY(row) + lanes.barY(item.side) + partOf(item).top + partOf(item).height / 2,
    };
  },
  shown: () =>
    state.video.shown.map(({key, label, start, stop, score, verdict}) => ({key, label, start, stop, score, verdict})),
  reviewed,
};
