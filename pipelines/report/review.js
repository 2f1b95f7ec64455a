// What the reviewer decided: accepted, rejected or trimmed, with undo; kept by this browser for this very report.

class Review {
  constructor(text, changed) {
    this.place = `untrimmed-review-${digest(text)}`;
    this.decided = new Map(); // "video number|key of item" -> {state, video, side, label, start, stop}
    this.past = [];
    this.changed = changed;
    this.load();
    // Another tab of this report decided: go on from there, or this one would write over it.
    addEventListener('storage', ({key}) => {
      if (key !== this.place) return;
      this.load();
      this.past = [];
      this.changed();
    });
  }

  of(video, item) {
    return this.decided.get(`${video.index}|${item.key}`) || null;
  }

  // `state` is 'accepted', 'rejected' or null for undecided.
  decide(video, item, state, span = null) {
    const key = `${video.index}|${item.key}`,
      before = this.decided.get(key) || null;
    const {start, stop} = span || before || {start: round3(item.start), stop: round3(item.stop)};
    this.past.push({key, before});
    if (state === null) this.decided.delete(key);
    else this.decided.set(key, {state, video: video.index, side: item.side, label: item.label, start, stop});
    this.save();
  }

  // Trimming says that the segment stands: it is accepted with its new start or stop. False where that would be empty.
  trim(video, item, end, second) {
    const {start, stop} = this.of(video, item) || item;
    const span = {start: round3(start), stop: round3(stop), [end]: round3(second)};
    if (span.start >= span.stop) return false;
    this.decide(video, item, 'accepted', span);
    return true;
  }

  undo() {
    const last = this.past.pop();
    if (!last) return false;
    if (last.before) this.decided.set(last.key, last.before);
    else this.decided.delete(last.key);
    this.save();
    return true;
  }

  // Accepted predictions, and truth that was trimmed or accepted.
  kept(video) {
    return [...this.decided.values()].filter((each) => each.video === video.index && each.state === 'accepted');
  }

  // The truth that the reviewer stands for: truth that was not rejected and predictions that were accepted.
  segments(video, className) {
    const truth = (video.truth || [])
      .filter((item) => !item.box)
      .flatMap((item) => {
        const decision = this.of(video, item);
        return decision && decision.state === 'rejected' ? [] : [decision || item];
      });
    const accepted = this.kept(video).filter(({side}) => side === 'predicted');
    const rows = [...truth, ...accepted].map(({label, start, stop}) => ({
      label: className(label),
      start: round3(start),
      stop: round3(stop),
    }));
    return rows.sort((a, b) => a.start - b.start || a.stop - b.stop);
  }

  counts() {
    const states = [...this.decided.values()].map(({state}) => state);
    return {
      accepted: states.filter((s) => s === 'accepted').length,
      rejected: states.filter((s) => s === 'rejected').length,
    };
  }

  // Pages from files may be denied storage: then the review lasts as long as the page.
  save() {
    try {
      localStorage.setItem(this.place, JSON.stringify([...this.decided]));
      this.lasts = true;
    } catch {
      this.lasts = false;
    }
    this.changed();
  }

  load() {
    try {
      const rows = JSON.parse(localStorage.getItem(this.place) || '[]');
      this.decided = new Map(rows.filter(([, row]) => Number.isFinite(row.start) && Number.isFinite(row.stop)));
      this.lasts = true;
    } catch {
      this.lasts = false;
    }
  }
}

// 64 bits that differ where texts do (FNV-1a, two of them).
function digest(text) {
  let a = 0x811c9dc5,
    b = 0x1b873593;
  for (let i = 0; i < text.length; i++) {
    const letter = text.charCodeAt(i);
    a = Math.imul(a ^ letter, 0x01000193);
    b = Math.imul(b ^ (letter + i), 0x5bd1e995);
  }
  return [a, b].map((part) => (part >>> 0).toString(16).padStart(8, '0')).join('');
}
