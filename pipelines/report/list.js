// The list of errors and segments, what is said of one, and what is decided on it.

function tellItem(item) {
  const word = item.side === 'truth' ? (item.verdict === MISS ? 'miss' : 'truth') : WORDS[item.verdict];
  return `${word}: ${className(item.label)}, ${clock(item.start)} to ${clock(item.stop)}`;
}

function describe(item) {
  const fact = (name, value) => make('div', {}, make('dt', {}, name), make('dd', {}, value));
  const verdict =
    item.side === 'truth' ? (item.verdict === HIT ? 'truth, found' : 'miss: not found') : WORDS[item.verdict];
  const facts = [fact('time', item.box ? clock(item.second, 2) : `${clock(item.start, 2)} – ${clock(item.stop, 2)}`)];
  if (!item.box) facts.push(fact('length', lasting(item.stop - item.start)));
  if (item.score !== null) facts.push(fact('score', item.score.toFixed(3)));
  if (item.partner) facts.push(fact(item.box ? 'IoU' : 'tIoU', item.overlap.toFixed(2)));
  if (item.verdict === WRONG) facts.push(fact('truth', className(item.partner.label)));
  return [
    make('p', {class: 'tip-title'}, sign(item.verdict), className(item.label)),
    make('p', {class: 'quiet'}, verdict),
    make('dl', {}, ...facts),
  ];
}

// ---- the list of errors and segments

const LISTS = {
  errors: ['Errors, worst first', (video) => errorsOf(video)],
  time: ['Errors, in order of time', (video) => errorsOf(video).sort((a, b) => a.start - b.start)],
  score: ['Predictions, highest score first', (video) => [...video.shown].sort((a, b) => b.score - a.score)],
  all: [
    'Everything, in order of time',
    (video) => itemsOf(video).sort((a, b) => a.start - b.start || (a.side < b.side ? 1 : -1)),
  ],
};

// A video without truth has no errors: its predictions are listed.
function listKind() {
  return state.video.truth || state.list === 'all' ? state.list : 'score';
}

function listed() {
  return LISTS[listKind()][1](state.video).filter(isShown);
}

function showList() {
  const items = (state.listed = listed()),
    rows = items.slice(0, state.rows);
  const kind = listKind(),
    errors = kind === 'errors' || kind === 'time';
  $('list-title').textContent = many(items.length, errors ? 'error' : kind === 'score' ? 'prediction' : 'segment');
  const more =
    items.length > rows.length
      ? make(
          'li',
          {class: 'more'},
          make(
            'button',
            {type: 'button', class: 'button', click: showMore},
            `Show more of ${items.length.toLocaleString('en')}`,
          ),
        )
      : null;
  const none = items.length
    ? null
    : make('li', {class: 'none quiet'}, errors ? 'No errors at this threshold.' : 'Nothing reaches this threshold.');
  const focused = $('list').contains(document.activeElement) && document.activeElement.dataset.focus;
  $('list').replaceChildren(...[...rows.map(listRow), more, none].filter(Boolean));
  const again = focused && $('list').querySelector(`[data-focus="${CSS.escape(focused)}"]`);
  if (again) again.focus({preventScroll: true}); // the list is made anew, the focus stays
  showReviewState();
}

function showMore() {
  state.rows += MOST_ROWS;
  showList();
}

function listRow(item) {
  const decision = review.of(state.video, item),
    kind = item.side === 'truth' && item.verdict === HIT ? 'truth' : WORDS[item.verdict];
  const thumb = nearestThumb((item.start + item.stop) / 2, item.start, item.stop);
  const picture = thumb
    ? make('img', {src: thumb.image, alt: '', loading: 'lazy'})
    : make('span', {class: `blank ${item.verdict}`}, sign(item.verdict));
  const told = item.verdict === WRONG ? `${kind}, truth is ${className(item.partner.label)}` : kind;
  const {start, stop} = decision || item;
  const time = item.box ? clock(item.second, 2) : `${clock(start)} – ${clock(stop)}`;
  const button = make(
    'button',
    {
      type: 'button',
      class: 'row-main',
      click: () => select(item),
      'data-focus': item.key,
      'aria-current': state.selected === item ? 'true' : null,
    },
    make('span', {class: 'thumb'}, picture),
    make(
      'span',
      {class: 'words'},
      make('span', {class: 'label'}, className(item.label)),
      make('span', {class: 'kind'}, sign(item.verdict), told),
      make(
        'span',
        {class: 'quiet'},
        `${time}  ·  ${item.score === null ? lasting(stop - start) : `score ${item.score.toFixed(2)}`}`,
      ),
    ),
  );
  const marks = item.box
    ? []
    : [
        judgeButton(item, decision, 'accepted', 'Accept', 'M4 10.5 8.2 15 16 5.5'),
        judgeButton(item, decision, 'rejected', 'Reject', 'M5 5 15 15M15 5 5 15'),
      ];
  return make(
    'li',
    {class: `${decision ? decision.state : ''} ${state.selected === item ? 'current' : ''}`},
    button,
    make('span', {class: 'marks'}, ...marks),
  );
}

function judgeButton(item, decision, value, name, path) {
  const pressed = Boolean(decision && decision.state === value);
  return make(
    'button',
    {
      type: 'button',
      class: `icon ${value}`,
      'aria-pressed': String(pressed),
      'aria-label': `${name} ${tellItem(item)}`,
      title: name,
      'data-focus': `${value} ${item.key}`,
      click: () => decide(item, pressed ? null : value),
    },
    draw('svg', {viewBox: '0 0 20 20', 'aria-hidden': 'true'}, draw('path', {d: path, class: 'stroke'})),
  );
}

function select(item, focus = false) {
  state.selected = item;
  player.seek(item.box ? item.second : (review.of(state.video, item) || item).start);
  lanes.revealRow(item.label);
  lanes.reveal(item.start, item.stop);
  const place = state.listed.indexOf(item);
  if (place >= state.rows) state.rows = place + 1;
  showList();
  lanes.draw();
  const row = $('list').querySelector(`[data-focus="${CSS.escape(item.key)}"]`);
  if (row) {
    const top = row.parentElement.offsetTop - $('list').offsetTop;
    if (top < $('list').scrollTop || top + row.offsetHeight > $('list').scrollTop + $('list').clientHeight)
      $('list').scrollTop = top - 40;
    if (focus) row.focus({preventScroll: true});
  }
  say(tellItem(item));
}

function selectNext(by) {
  const items = state.listed || [];
  if (!items.length) return;
  const at = items.indexOf(state.selected);
  select(
    items[at < 0 ? (by > 0 ? 0 : items.length - 1) : clamp(at + by, 0, items.length - 1)],
    $('list').contains(document.activeElement),
  );
}

// ---- review

function decide(item, value) {
  if (!item || item.box)
    return say(
      item ? 'Boxes can be looked at here, not reviewed.' : 'Select a segment first: click it, or press J.',
      true,
    );
  review.decide(state.video, item, value);
  say(`${value || 'undecided'}: ${className(item.label)}, ${clock(item.start)}. Z undoes.`);
}

function trim(end) {
  const item = state.selected;
  if (!item || item.box) return say('Select a segment first: click it, or press J.', true);
  const done = review.trim(state.video, item, end, player.second);
  say(
    done
      ? `${end} is now ${clock(player.second, 2)}: ${className(item.label)}, accepted. Z undoes.`
      : `The ${end} cannot be at ${clock(player.second, 2)}: nothing would be left.`,
    !done,
  );
}

function undo() {
  say(review.undo() ? 'Undone.' : 'There is nothing to undo.');
}

function afterReview() {
  if (!state.video) return;
  showList();
  lanes.draw();
}

function showReviewState() {
  const {accepted, rejected} = review.counts();
  const told =
    accepted + rejected
      ? `${accepted} accepted, ${rejected} rejected.`
      : 'Accept or reject with Y and N, trim with [ and ].';
  $('review-state').textContent =
    told + (review.lasts ? '' : ' This browser keeps nothing for this page: download before you close it.');
}

function reviewed(form) {
  const chosen = FORMS[form].whole ? VIDEOS : [state.video];
  return FORMS[form].write(
    chosen.map((video) => ({id: video.id, durationS: video.durationS, segments: review.segments(video, className)})),
  );
}

function saveReviewed() {
  const form = $('format').value,
    {ending, type, whole} = FORMS[form];
  const stem = whole ? 'reviewed' : state.video.id.split('/').pop() || 'video';
  const url = URL.createObjectURL(new Blob([reviewed(form)], {type}));
  make('a', {href: url, download: stem + ending}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  say(`${stem}${ending} is saved.`);
}

function say(text, long = false) {
  $('said').textContent = text;
  $('said').classList.add('seen');
  later(hush, long ? 7000 : 2200);
}

function hush() {
  $('said').classList.remove('seen');
}
