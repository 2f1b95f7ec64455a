// The list of videos: those of this page, or those that have pages of their own.

const MOST_VIDEOS = 200, // at once
  FEW_VIDEOS = 12; // that need no search

function overviewRows() {
  const mine = VIDEOS.map((video) => ({
    id: video.id,
    href: `#/${encodeURIComponent(video.id)}`,
    durationS: video.durationS,
    truth: Boolean(video.truth),
    video,
    strip: (video.strip ||= stripOf(video)),
    ...video.counts,
  }));
  const pages = (DATA.pages || []).map((page) => (page.row ||= pageRow(page)));
  const errors = (row) => (row.misses || 0) + (row.false_alarms || 0) + (row.wrong_class || 0);
  const orders = {
    worst: (a, b) => errors(b) - errors(a),
    longest: (a, b) => b.durationS - a.durationS,
    name: (a, b) => a.id.localeCompare(b.id, 'en', {numeric: true}),
    most: (a, b) => b.shown - a.shown,
  };
  return [...mine, ...pages].sort(orders[state.order] || orders.name);
}

// A video with a page of its own, whose counts are those that the report was made with.
function pageRow({id, href, duration_s: durationS, strip, hits, misses, false_alarms, wrong, shown}) {
  const truth = Number.isFinite(misses),
    all = shown ?? (hits || 0) + (wrong || 0) + (false_alarms || 0);
  const counts = {
    hits,
    misses,
    false_alarms,
    wrong_class: wrong,
    shown: all,
    judged: truth ? all : 0,
    truths: truth ? hits + misses : 0,
  };
  return {id, href: safeLink(href), durationS, strip: bytesOf(strip || ''), truth, ...counts};
}

function showVideos() {
  const all = overviewRows(),
    wanted = $('videos-find').value.trim().toLowerCase();
  $('videos').hidden = all.length < 2 && !DATA.pages;
  if ($('videos').hidden) return;
  $('videos-find').hidden = all.length <= FEW_VIDEOS;
  const found = all.filter((row) => row.id.toLowerCase().includes(wanted));
  $('videos-title').textContent = wanted
    ? `${found.length} of ${many(all.length, 'video')}`
    : many(all.length, 'video');
  $('videos-more').hidden = found.length <= state.videoRows;
  fillTable(found.slice(0, state.videoRows));
}

function fillTable(rows) {
  const truth = rows.some((row) => row.truth);
  const names = truth
    ? [
        [HIT, 'hits'],
        [MISS, 'misses'],
        [FALSE_ALARM, 'false alarms'],
        [WRONG, 'wrong class'],
      ]
    : [[SHOWN, 'predictions']];
  $('videos-head').replaceChildren(
    make(
      'tr',
      {},
      make('th', {scope: 'col'}, 'Video'),
      make('th', {scope: 'col'}, 'Scores over time'),
      make('th', {scope: 'col', class: 'number'}, 'Length'),
      ...names.map(([verdict, name]) => make('th', {scope: 'col', class: 'number'}, sign(verdict), name)),
    ),
  );
  const lines = rows.map((row) => {
    const canvas = make('canvas', {class: 'strip', 'aria-hidden': 'true'});
    const line = make(
      'tr',
      {
        class: row.video && row.video === state.video ? 'current' : '',
        click: (event) => event.target.closest('a') || go(row.href),
      },
      make(
        'th',
        {scope: 'row'},
        make('a', {href: row.href, 'aria-current': row.video && row.video === state.video ? 'true' : null}, row.id),
      ),
      make('td', {}, canvas),
      make('td', {class: 'number'}, clock(row.durationS, 0)),
      ...countEntries(row, truth).map(([, number]) =>
        make('td', {class: 'number'}, row.truth === truth ? (number ?? 0).toLocaleString('en') : '–'),
      ),
    );
    return {line, canvas, row};
  });
  $('videos-rows').replaceChildren(...lines.map(({line}) => line));
  const most = rows.reduce((peak, {strip}) => strip.reduce((a, b) => Math.max(a, b), peak), 1);
  for (const {canvas, row} of lines) if (row.strip.length) heatStrip(canvas, row.strip, most);
}

function go(href) {
  if (href) location.href = href;
}
