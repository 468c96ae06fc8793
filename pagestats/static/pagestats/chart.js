/* Replaces the chart of the page "Page stats" with an interactive one that shows the numbers under the pointer. Without
 * JavaScript or uPlot, the chart that the server rendered stays. All colours and words are those of the page. */
(() => {
  'use strict';

  if (!window.uPlot) return;

  const LINES = ['views_before', 'visitors_before', 'views', 'visitors']; // drawn in this order, so the last is on top
  const HEIGHT = 220; // used until the style sheet has loaded

  for (const figure of document.querySelectorAll('[data-pagestats-chart]')) {
    draw(figure);
  }

  function draw(figure) {
    const series = JSON.parse(document.getElementById(figure.dataset.pagestatsChart).textContent);
    const place = figure.querySelector('.pagestats-canvas');
    const svg = place.querySelector('svg');
    const length = Math.max(series.labels.length, series.labels_before.length);
    const places = [...Array(length).keys()];
    const lines = LINES.filter((name) => series[name].length);
    const tip = document.createElement('div');
    tip.className = 'pagestats-tip';
    tip.hidden = true;
    let plot = null;

    function style(name) {
      const [what, before] = name.split('_');
      return getComputedStyle(svg.querySelector(`polyline.pagestats-${what}${before ? '.pagestats-before' : ':not(.pagestats-before)'}`));
    }

    function line(name) {
      const { stroke, strokeWidth, strokeDasharray } = style(name);
      return {
        stroke,
        width: parseFloat(strokeWidth),
        dash: strokeDasharray === 'none' ? undefined : strokeDasharray.split(/[ ,]+/).map(parseFloat),
        fill: name === 'views' ? getComputedStyle(svg.querySelector('.pagestats-area')).fill : undefined,
        points: { show: series[name].length === 1, size: 6 },
      };
    }

    function options() {
      return {
        width: place.clientWidth,
        height: place.clientHeight || HEIGHT,
        padding: [0, 0, 0, 0],
        legend: { show: false },
        axes: [{ show: false }, { show: false }],
        scales: { x: { time: false, range: [0, Math.max(length - 1, 1)] }, y: { range: [0, series.top] } },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        series: [{}, ...lines.map(line)],
        hooks: { setCursor: [show], drawClear: [grid] },
      };
    }

    function grid({ ctx, bbox }) {
      ctx.save();
      ctx.strokeStyle = getComputedStyle(svg.querySelector('.pagestats-grid')).stroke;
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      for (const part of [0, 0.5, 1]) {
        ctx.moveTo(bbox.left, bbox.top + part * bbox.height);
        ctx.lineTo(bbox.left + bbox.width, bbox.top + part * bbox.height);
      }
      ctx.stroke();
      ctx.restore();
    }

    function row(text, key, value) {
      const made = document.createElement('div');
      made.textContent = text;
      if (key) {
        made.className = `pagestats-key pagestats-${key}`;
        const figure = document.createElement('b');
        figure.textContent = String(value).replace(/\B(?=(\d{3})+$)/g, series.thousands);
        made.append(figure);
      }
      return made;
    }

    function word(key) {
      return figure.querySelector(`figcaption .pagestats-${key}`).textContent;
    }

    function show({ cursor }) {
      const index = cursor.idx;
      const rows = [];
      for (const before of ['', '_before']) {
        if (index === null || index === undefined || series[`views${before}`][index] === undefined) continue;
        rows.push(row(series[`labels${before}`][index]));
        for (const key of ['views', 'visitors']) rows.push(row(word(key), key, series[key + before][index]));
      }
      tip.replaceChildren(...rows);
      tip.hidden = rows.length === 0 || cursor.left < 0;
      if (tip.hidden) return;
      const isRight = cursor.left > place.clientWidth / 2;
      tip.style.transform = `translateX(${Math.round(isRight ? cursor.left - tip.offsetWidth - 12 : cursor.left + 12)}px)`;
    }

    function build() {
      plot?.destroy();
      const data = [places, ...lines.map((name) => places.map((index) => series[name][index] ?? null))];
      plot = new uPlot(options(), data, place);
    }

    place.setAttribute('role', 'img');
    place.setAttribute('aria-label', svg.getAttribute('aria-label'));
    svg.setAttribute('hidden', '');
    build();
    place.append(tip);
    new ResizeObserver(() => plot.setSize({ width: place.clientWidth, height: place.clientHeight || HEIGHT })).observe(place);
    // The colours change when the reader switches between light and dark.
    new MutationObserver(build).observe(document.documentElement, { attributeFilter: ['data-theme', 'class'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', build);
  }
})();
