// Reads the series that it shows from /metrics once a second and draws what moved; and /debug.json,
// which only the daemon's own machine is shown. Nothing is fetched from elsewhere, and text from the
// server only ever becomes text nodes.
'use strict';

const KEPT_S = 120;    // of history in the line charts
const WINDOW_S = 30;   // that the distributions cover
// What is read: a server of many tenants has hundreds of kilobytes of series, which are not shown here.
const SHOWN = [
  'based_batch_size', 'based_build_info', 'based_generated_tokens_total',
  'based_inter_token_latency_seconds', 'based_live_requests', 'based_parked_sequences',
  'based_predicted_wait_seconds', 'based_prompt_tokens_total', 'based_queued_requests',
  'based_rejections_total', 'based_requests_total', 'based_state_slot_bytes', 'based_state_slots',
  'based_step_seconds', 'based_step_tokens', 'based_sustainable_tokens_per_second',
  'based_time_to_first_token_seconds',
];
const METRICS = `/metrics?${SHOWN.map((name) => `name[]=${name}`).join('&')}`;
const samples = [];    // {time, series: Map, clock: server's own seconds}, oldest first

const element = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// One line of the text format: name, labels with escapes, value.
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

function parseMetrics(text) {
  const series = new Map();
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || '').matchAll(LABEL)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c));
    }
    if (!series.has(match[1])) series.set(match[1], []);
    series.get(match[1]).push({labels, value: Number(match[3])});
  }
  return series;
}

function find(sample, name, labels = {}) {
  const all = (sample && sample.series.get(name)) || [];
  return all.filter((s) => Object.entries(labels).every(([k, v]) => s.labels[k] === v));
}

function sum(sample, name, labels) {
  return find(sample, name, labels).reduce((total, s) => total + s.value, 0);
}

// Growth per second between two samples; a restart of the daemon counts from 0.
function rate(from, to, name, labels) {
  if (!from || to.time <= from.time) return 0;
  const grown = sum(to, name, labels) - sum(from, name, labels);
  return Math.max(grown, 0) / (to.time - from.time);
}

const last = () => samples[samples.length - 1];
const ago = (seconds) => samples.find((s) => last().time - s.time <= seconds) || last();

// Counts per bucket over the window: [{le, count}], le in seconds, the last Infinity.
function histogram(name, labels) {
  const from = ago(WINDOW_S);
  const fresh = new Map(find(from, `${name}_bucket`, labels).map((s) => [s.labels.le, s.value]));
  let below = 0;
  return find(last(), `${name}_bucket`, labels).map((s) => {
    const seen = from === last() ? 0 : s.value - (fresh.get(s.labels.le) || 0);
    const count = Math.max(seen - below, 0);
    below = Math.max(seen, below);
    return {le: s.labels.le === '+Inf' ? Infinity : Number(s.labels.le), count};
  });
}

function quantile(buckets, q) {
  const total = buckets.reduce((n, b) => n + b.count, 0);
  if (total === 0) return NaN;
  let below = 0;
  let lower = 0;
  for (const {le, count} of buckets) {
    if (below + count >= q * total) {
      if (le === Infinity) return lower;
      return lower + (le - lower) * (q * total - below) / count;
    }
    below += count;
    lower = le;
  }
  return lower;
}

function seconds(value) {
  if (!Number.isFinite(value)) return '–';
  if (value >= 1) return `${value.toPrecision(3)} s`;
  return value >= 1e-3 ? `${(value * 1e3).toPrecision(3)} ms` : `${(value * 1e6).toFixed(0)} µs`;
}

const age = (value) => (value < 0.5 ? 'now' : `-${Math.round(value)} s`);
const number = (value) => Math.round(value).toLocaleString('en');
const show = (id, text) => { element(id).textContent = text; };

Chart.defaults.animation = false;
Chart.defaults.font.family = 'system-ui, sans-serif';
Chart.defaults.maintainAspectRatio = false;

function lineChart(id, names, stacked = false, tick = number) {
  return new Chart(element(id), {
    type: 'line',
    data: {labels: [], datasets: names.map(([label, variable], i) => (
      {label, data: [], borderWidth: 1.5, pointRadius: 0,
       fill: stacked && (i === 0 ? 'origin' : '-1'),
       borderColor: () => color(variable), backgroundColor: () => `${color(variable)}55`}))},
    options: {
      interaction: {mode: 'index', intersect: false},
      scales: {
        x: {ticks: {maxTicksLimit: 7, maxRotation: 0}},
        y: {beginAtZero: true, stacked, ticks: {callback: tick, maxTicksLimit: 6}},
      },
      plugins: {legend: {display: names.length > 1, labels: {boxWidth: 12}}},
    },
  });
}

function barChart(id) {
  return new Chart(element(id), {
    type: 'bar',
    data: {labels: [], datasets: [{label: 'seen', data: [],
                                   backgroundColor: () => color('--decode')}]},
    options: {
      scales: {x: {ticks: {maxRotation: 0, autoSkipPadding: 12}}, y: {beginAtZero: true}},
      plugins: {legend: {display: false}},
    },
  });
}

const charts = {
  rate: lineChart('rate_chart', [['generated', '--decode'], ['prompt', '--prefill']]),
  load: lineChart('load_chart', [['slots in use', '--decode'], ['queued', '--prefill']]),
  batch: lineChart('batch_chart', [['decode', '--decode'], ['prefill', '--prefill']], true),
  sequences: lineChart('sequences_chart', [['mean', '--decode']]),
  step: lineChart('step_chart', [['mean', '--decode']], false, seconds),
  ttft: barChart('ttft_chart'),
  itl: barChart('itl_chart'),
};

function paint(chart) {
  for (const scale of Object.values(chart.options.scales)) {
    scale.ticks.color = color('--faint');
    scale.grid = {color: color('--line')};
  }
  chart.options.plugins.legend.labels = {boxWidth: 12, color: color('--faint')};
  chart.update();
}

function drawLines(chart, values) {
  const pairs = samples.slice(1).map((to, i) => [samples[i], to]);
  chart.data.labels = pairs.map(([, to]) => age(last().time - to.time));
  chart.data.datasets.forEach((set, i) => { set.data = pairs.map((p) => values(...p)[i]); });
  paint(chart);
}

function drawBars(chart, buckets) {
  const used = buckets.map((b, i) => (b.count > 0 ? i : -1)).filter((i) => i >= 0);
  const shown = used.length ? buckets.slice(Math.max(used[0] - 1, 0), used[used.length - 1] + 2) : [];
  chart.data.labels = shown.map((b) => (b.le === Infinity ? 'more' : `≤ ${seconds(b.le)}`));
  chart.data.datasets[0].data = shown.map((b) => b.count);
  paint(chart);
}

// One cell a slot, as large as fits; thousands still show as a field that fills up. Parked
// sequences hold no slot: their cells come after.
function drawSlots(runs) {
  const canvas = element('slots');
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const total = runs.reduce((n, [, count]) => n + count, 0);
  if (total === 0 || canvas.width === 0) return;
  let columns = Math.ceil(Math.sqrt(total * canvas.width / canvas.height));
  let size = canvas.width / columns;
  while (Math.ceil(total / columns) * size > canvas.height) size = canvas.width / ++columns;
  const gap = size > 6 ? Math.min(size * 0.15, 4) : size > 2 ? 0.5 : 0;
  const context = canvas.getContext('2d');
  let cell = 0;
  for (const [variable, count] of runs) {
    context.fillStyle = color(variable);
    for (const end = cell + count; cell < end; ++cell) {
      const x = (cell % columns) * size;
      const y = Math.floor(cell / columns) * size;
      context.fillRect(x, y, size - gap, size - gap);
    }
  }
}

// A request for several completions holds several slots: what does not prefill decodes.
function drawPhases(now, active, total) {
  const prefill = Math.min(sum(now, 'based_live_requests', {phase: 'prefill'}), active);
  const parked = sum(now, 'based_parked_sequences');
  show('in_decode', number(active - prefill));
  show('in_prefill', number(prefill));
  show('in_free', number(total - active));
  show('in_parked', number(parked));
  drawSlots([['--decode', active - prefill], ['--prefill', prefill], ['--free', total - active],
             ['--parked', parked]]);
}

function meanPer(from, to, name, labels) {
  const count = rate(from, to, `${name}_count`, labels);
  return count > 0 ? rate(from, to, `${name}_sum`, labels) / count : 0;
}

function drawEndings() {
  const rows = find(last(), 'based_requests_total').concat(find(last(), 'based_rejections_total'))
    .filter((s) => s.value > 0)
    .map((s) => {
      const what = s.labels.finish_reason === undefined ? `refused: ${s.labels.code}`
        : s.labels.code === 'OK' ? s.labels.finish_reason : s.labels.code;
      const name = s.labels.finish_reason === undefined ? 'based_rejections_total'
        : 'based_requests_total';
      return [what, number(s.value), rate(ago(5), last(), name, s.labels).toFixed(1)];
    });
  fill('endings', rows);
}

function fill(id, rows) {
  element(id).replaceChildren(...rows.map((cells) => {
    const row = document.createElement('tr');
    for (const text of cells) row.insertCell().textContent = text;
    return row;
  }));
}

const MOST_LIVE = 16;
let debugIsRefused = false;

// What runs, newest first, then what has ended.
function drawRequests(view) {
  const live = view.requests.slice().reverse().map((r) => [
    r.request_id, r.tenant || '–', r.phase, number(r.prompt_tokens), number(r.generated_tokens),
    '', seconds(r.age_s)]);
  const ended = view.ended.map((r) => [
    r.request_id, r.tenant || '–', r.outcome, number(r.prompt_tokens), number(r.generated_tokens),
    r.first_token_s > 0 ? seconds(r.first_token_s) : '–', seconds(r.total_s)]);
  fill('requests', live.concat(ended));
  show('requests_text', `${number(view.live)} live`);
}

async function pollRequests() {
  if (debugIsRefused || document.hidden) return;
  const reply = await fetch(`/debug.json?steps=0&requests=${MOST_LIVE}`,
                            {cache: 'no-store', signal: AbortSignal.timeout(5000)});
  if (reply.status === 403 || reply.status === 404) {
    debugIsRefused = true;
    show('requests_text', "shown on the daemon's own machine alone");
    return;
  }
  if (!reply.ok) throw new Error(`/debug.json answers ${reply.status}`);
  drawRequests(await reply.json());
}

function draw() {
  const now = last();
  const active = sum(now, 'based_state_slots', {state: 'active'});
  const total = sum(now, 'based_state_slots');
  const slotBytes = sum(now, 'based_state_slot_bytes');
  const info = find(now, 'based_build_info')[0];
  if (info) {
    show('model', info.labels.model);
    show('build', `based-server ${info.labels.version}, ${info.labels.backend}`);
  }
  // Of requests that somebody waits for: batch work takes what these leave.
  const ttft = histogram('based_time_to_first_token_seconds', {priority: 'interactive'});
  const itl = histogram('based_inter_token_latency_seconds', {priority: 'interactive'});
  show('tokens_rate', number(rate(ago(3), now, 'based_generated_tokens_total')));
  show('slots_free', number(total - active));
  show('queued', number(sum(now, 'based_queued_requests')));
  const wait = find(now, 'based_predicted_wait_seconds')[0];
  show('wait', wait ? (wait.value === 0 ? 'none' : seconds(wait.value)) : '–');
  show('ttft', seconds(quantile(ttft, 0.5)));
  show('ttft_p99', seconds(quantile(ttft, 0.99)));
  show('itl', seconds(quantile(itl, 0.5)));
  show('itl_p99', seconds(quantile(itl, 0.99)));
  show('slots_text', `${number(active)} of ${number(total)} in use, ` +
    `${(slotBytes / 1e6).toPrecision(3)} MB each, whatever the length`);
  drawPhases(now, active, total);
  const full = sum(now, 'based_sustainable_tokens_per_second');
  const rateNow = rate(ago(3), now, 'based_generated_tokens_total');
  show('headroom', full > 0 ? `${Math.max(0, 100 - 100 * rateNow / full).toFixed(0)} %` : '–');
  show('full_speed', full > 0 ? number(full) : '–');
  drawLines(charts.rate, (a, b) => [rate(a, b, 'based_generated_tokens_total'),
                                    rate(a, b, 'based_prompt_tokens_total')]);
  drawLines(charts.load, (_, b) => [sum(b, 'based_state_slots', {state: 'active'}),
                                    sum(b, 'based_queued_requests')]);
  drawLines(charts.batch, (a, b) => [meanPer(a, b, 'based_step_tokens', {phase: 'decode'}),
                                     meanPer(a, b, 'based_step_tokens', {phase: 'prefill'})]);
  drawLines(charts.sequences, (a, b) => [meanPer(a, b, 'based_batch_size')]);
  drawLines(charts.step, (a, b) => [meanPer(a, b, 'based_step_seconds')]);
  drawBars(charts.ttft, ttft);
  drawBars(charts.itl, itl);
  drawEndings();
}

// Time is the browser's monotonic clock: a wrong clock on either side changes nothing.
async function poll() {
  try {
    const reply = await fetch(METRICS, {cache: 'no-store', signal: AbortSignal.timeout(5000)});
    if (!reply.ok) throw new Error(`/metrics answers ${reply.status}`);
    samples.push({time: performance.now() / 1000, series: parseMetrics(await reply.text())});
    while (last().time - samples[0].time > KEPT_S) samples.shift();
    if (!document.hidden) draw();
    await pollRequests();
    show('state', 'live');
    element('state').className = '';
  } catch (error) {
    show('state', `no answer (${error.message}); trying on`);
    element('state').className = 'bad';
  }
  setTimeout(poll, 1000);
}

poll();
