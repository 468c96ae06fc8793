/* Keeps the number of active visitors on a page up to date: asks every 10 to 15 seconds while the page is visible.
 *
 * Without JavaScript the page is complete, because the server renders the same numbers. The markup:
 *
 *   <div data-pagestats-live="/api/stats/active/">    the URL to ask: answers like `GET stats/active/`, with an ETag;
 *                                                     data-pagestats-every="12" asks every 12 seconds or so,
 *                                                     data-pagestats-thousands="," is the thousands separator
 *     <span data-pagestats="visitors">3</span>        how many visitors are active
 *     <table>
 *       <tbody data-pagestats="by_path"> ... </tbody> on which pages: rows are replaced by copies of
 *     </table>
 *     <template data-pagestats="row">                 the row of a page, with any of these in it:
 *       <tr><th data-pagestats="path"></th>           its path; data-pagestats="title" for its title
 *           <td data-pagestats="count"></td></tr>     how many visitors are on it
 *     </template>
 *     <p data-pagestats="nobody">...</p>              shown while there are no rows
 *     <p data-pagestats="somebody">...</p>            shown while there are rows
 *     <p data-pagestats="elsewhere">On other pages:   shown while some visitors are on other pages
 *       <span data-pagestats="others">2</span></p>    ... and how many
 *     <p data-pagestats="stale">...</p>               shown while the site doesn't answer
 *   </div>
 *
 * Every element is optional. Without `data-pagestats-thousands`, numbers follow the language of the page. Changes are
 * not announced to screen readers: a number that changes every few seconds would talk all the time. */
(() => {
  'use strict';

  const LONGEST_PAUSE = 120; // seconds between two requests, however often the site failed to answer
  const TIMEOUT = 30; // seconds to wait for an answer

  for (const place of document.querySelectorAll('[data-pagestats-live]')) {
    watch(place);
  }

  function watch(place) {
    const every = Number(place.dataset.pagestatsEvery) || 12.5;
    const { pagestatsThousands: thousands } = place.dataset;
    const words = new Intl.NumberFormat(place.closest('[lang]')?.lang || undefined);
    const all = (name) => place.querySelectorAll(`[data-pagestats="${name}"]`);
    let tag = '';
    let failures = 0;
    let timer = 0;
    let asking = null;

    function later() {
      clearTimeout(timer);
      if (document.hidden) return;
      const pause = Math.min(every * 2 ** failures, Math.max(every, LONGEST_PAUSE));
      timer = setTimeout(ask, pause * (0.8 + 0.4 * Math.random()) * 1000);
    }

    async function ask() {
      clearTimeout(timer);
      if (asking || document.hidden) return;
      asking = new AbortController();
      let isLate = false;
      const timeout = setTimeout(() => {
        isLate = true;
        asking.abort();
      }, TIMEOUT * 1000);
      try {
        const answer = await fetch(place.dataset.pagestatsLive, {
          headers: { Accept: 'application/json', ...(tag && { 'If-None-Match': tag }) },
          cache: 'no-store', // this script keeps the ETag itself
          credentials: 'same-origin',
          signal: asking.signal,
        });
        if (answer.status !== 304) {
          if (!answer.ok) throw new Error(answer.statusText);
          show(await answer.json());
          tag = answer.headers.get('ETag') || '';
        }
        failures = 0;
      } catch {
        if (isLate || !asking.signal.aborted) failures += 1; // otherwise the page was hidden
      }
      clearTimeout(timeout);
      asking = null;
      only('stale', failures > 0);
      later();
    }

    function show(now) {
      const rows = now.by_path.map(row);
      write(place, 'visitors', number(now.visitors));
      for (const body of all('by_path')) body.replaceChildren(...rows.filter(Boolean));
      const others = now.visitors - now.by_path.reduce((sum, there) => sum + there.count, 0);
      write(place, 'others', number(others));
      only('elsewhere', others > 0);
      only('somebody', rows.length > 0);
      only('nobody', rows.length === 0);
    }

    function number(value) {
      return thousands === undefined ? words.format(value) : String(value).replace(/\B(?=(\d{3})+$)/g, thousands);
    }

    function row(there) {
      const [template] = all('row');
      const made = template?.content.firstElementChild.cloneNode(true);
      if (made) {
        write(made, 'path', there.path);
        write(made, 'title', there.title);
        // The title of an untitled page is its path. Don't show it twice.
        const isTwice = there.title === there.path && made.querySelector('[data-pagestats="title"]');
        for (const path of made.querySelectorAll('[data-pagestats="path"]')) path.hidden = Boolean(isTwice);
        write(made, 'count', number(there.count));
      }
      return made;
    }

    function write(within, name, text) {
      for (const element of within.querySelectorAll(`[data-pagestats="${name}"]`)) {
        if (element.textContent !== text) element.textContent = text;
      }
    }

    function only(name, shown) {
      for (const element of all(name)) element.hidden = !shown;
    }

    // When the reader returns from another tab or by the back button, the numbers are old.
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) {
        clearTimeout(timer);
        asking?.abort();
      } else {
        failures = 0;
        ask();
      }
    });
    window.addEventListener('pageshow', (event) => {
      if (event.persisted) ask();
    });
    later();
  }
})();
