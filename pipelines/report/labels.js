// Files of reviewed labels. A video is {id, durationS, segments: [{label: text, start, stop}]}, in order of time.
// The forms are those of pipelines/annotations, which reads every one but the table back.

const FORMS = {
  activitynet: {name: 'ActivityNet (JSON)', ending: '.json', type: 'application/json', whole: true, write: activitynet},
  webvtt: {name: 'WebVTT', ending: '.vtt', type: 'text/vtt', whole: false, write: webvtt},
  srt: {name: 'SubRip (SRT)', ending: '.srt', type: 'application/x-subrip', whole: false, write: srt},
  audacity: {name: 'Audacity labels', ending: '.txt', type: 'text/plain', whole: false, write: audacity},
  elan: {name: 'ELAN (.eaf)', ending: '.eaf', type: 'application/xml', whole: false, write: elan},
  csv: {name: 'Table (CSV)', ending: '.csv', type: 'text/csv', whole: true, write: table},
};

function activitynet(videos) {
  const database = {};
  for (const {id, durationS, segments} of videos) {
    const annotations = segments.map(({label, start, stop}) => ({segment: [start, stop], label}));
    // Not by assignment: an id may be "__proto__".
    const value = {duration: durationS, subset: 'reviewed', annotations};
    Object.defineProperty(database, id, {value, enumerable: true});
  }
  return JSON.stringify({version: 'untrimmed 1', taxonomy: [], database}, null, 1) + '\n';
}

// On one line, without control characters, which some formats cannot hold.
function plain(text) {
  return text
    .replace(/[\x00-\x08\x0e-\x1f\x7f\ufffe\uffff]/g, '')
    .split(/\s+/)
    .filter(Boolean)
    .join(' ');
}

function escaped(text) {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}

function thousandths(seconds) {
  return Math.round(seconds * 1000);
}

function cueClock(seconds, point) {
  const all = thousandths(seconds),
    pad = (number, digits = 2) => String(number).padStart(digits, '0');
  const whole = Math.floor(all / 1000);
  return `${pad(Math.floor(whole / 3600))}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}${point}${pad(all % 1000, 3)}`;
}

function cues(segments, point) {
  const lasting = segments.filter(({start, stop}) => thousandths(stop) > thousandths(start));
  return lasting.map(({label, start, stop}) => ({
    timing: `${cueClock(start, point)} --> ${cueClock(stop, point)}`,
    text: plain(label.replaceAll('-->', '→')),
  }));
}

function webvtt([{segments}]) {
  const text = (label) => label.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  return (
    'WEBVTT\n' +
    cues(segments, '.')
      .map((cue) => `\n${cue.timing}\n${text(cue.text)}\n`)
      .join('')
  );
}

function srt([{segments}]) {
  return cues(segments, ',')
    .map((cue, i) => `${i + 1}\n${cue.timing}\n${cue.text}\n`)
    .join('\n');
}

function audacity([{segments}]) {
  const line = ({label, start, stop}) => `${start.toFixed(6)}\t${stop.toFixed(6)}\t${plain(label)}\n`;
  return segments.map(line).join('');
}

// A tier for each label, and more where segments of one label overlap, which ELAN allows in no tier.
function elan([{id, segments}]) {
  const times = [...new Set(segments.flatMap(({start, stop}) => [thousandths(start), thousandths(stop)]))].sort(
    (a, b) => a - b,
  );
  const slot = new Map(times.map((time, i) => [time, `ts${i + 1}`]));
  const url = escaped('./' + plain(id).split('/').map(encodeURIComponent).join('/'));
  let number = 0;
  const annotation = ({label, start, stop}) =>
    `<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a${++number}"` +
    ` TIME_SLOT_REF1="${slot.get(thousandths(start))}" TIME_SLOT_REF2="${slot.get(thousandths(stop))}">` +
    `<ANNOTATION_VALUE>${escaped(plain(label))}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n`;
  const tiers = [...new Set(segments.map(({label}) => label))].flatMap((label) =>
    levels(segments.filter((segment) => segment.label === label)).map(
      (rows, level) =>
        `<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="${escaped(plain(label))}${level ? ` (${level + 1})` : ''}">\n` +
        rows.map(annotation).join('') +
        '</TIER>\n',
    ),
  );
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    '<ANNOTATION_DOCUMENT AUTHOR="" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"\n' +
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"\n' +
    ' xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n' +
    '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">' +
    `<MEDIA_DESCRIPTOR MEDIA_URL="${url}" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="${url}"/></HEADER>\n<TIME_ORDER>\n` +
    times.map((time) => `<TIME_SLOT TIME_SLOT_ID="${slot.get(time)}" TIME_VALUE="${time}"/>\n`).join('') +
    `</TIME_ORDER>\n${tiers.join('')}` +
    '<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>\n' +
    '</ANNOTATION_DOCUMENT>\n'
  );
}

// Segments that do not overlap each other, in as few lists as there have to be.
function levels(segments) {
  const found = [];
  for (const segment of segments) {
    const level = found.find((rows) => rows[rows.length - 1].stop <= segment.start);
    if (level) level.push(segment);
    else found.push([segment]);
  }
  return found;
}

function table(videos) {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = videos.flatMap(({id, segments}) =>
    segments.map(({label, start, stop}) => [start, stop, cell(label), cell(id)]),
  );
  return [['start', 'stop', 'label', 'video'], ...rows].map((row) => row.join(',') + '\r\n').join('');
}
