// Small helpers for the page. Text from the data becomes text nodes and attributes, never markup.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return dress(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const round3 = (value) => Math.round(value * 1000) / 1000;

// 75.25 -> 1:15.3
function clock(seconds, digits = 1) {
  const ticks = Math.round(Math.max(0, seconds) * 10 ** digits),
    unit = 10 ** digits;
  const whole = Math.floor(ticks / unit),
    pad = (number) => String(number).padStart(2, '0');
  const hours = Math.floor(whole / 3600),
    minutes = Math.floor(whole / 60) % 60;
  const rest = digits ? '.' + String(ticks % unit).padStart(digits, '0') : '';
  return (hours ? `${hours}:${pad(minutes)}` : `${minutes}`) + `:${pad(whole % 60)}${rest}`;
}

function lasting(seconds) {
  return seconds < 60 ? `${seconds.toFixed(1)} s` : clock(seconds, 0);
}

const percent = (part) => (part === null ? '–' : `${(100 * part).toFixed(1)} %`);
const many = (number, one, more = `${one}s`) => `${number.toLocaleString('en')} ${number === 1 ? one : more}`;

const WORDS = {
  [HIT]: 'hit',
  [MISS]: 'miss',
  [FALSE_ALARM]: 'false alarm',
  [WRONG]: 'wrong class',
  [SHOWN]: 'prediction',
};

// The sign of a verdict: its colour and its form.
function sign(verdict) {
  return make('span', {class: `sign ${verdict}`, 'aria-hidden': 'true'});
}

// ---- colours, as the style sheet has them for light, dark and paper

let PALETTE = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    'ink',
    'quiet',
    'line',
    'card',
    'page',
    'accent',
    'curve',
    'head',
    'hit',
    'miss',
    'false',
    'wrong',
    'shown',
    'band',
    'kept',
  ];
  PALETTE = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  PALETTE.font = style.getPropertyValue('--font').trim();
}

// Colour-blind safe (after Okabe and Ito), for who is who in boxes.
const TRACKS = ['#56b4e9', '#e69f00', '#2fc497', '#f0e442', '#e58ab8', '#ff8a4c', '#9db4ff'];

// A canvas as sharp as the screen: its context, in CSS pixels, cleared.
function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
