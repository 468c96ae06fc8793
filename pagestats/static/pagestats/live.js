/* Keeps "who is here now" of a page up to date: it asks every 10 to 15 seconds, and not while nobody looks.
 *
 * A page without JavaScript is complete: the server has written the same figures. The markup:
 *
 *   <div data-pagestats-live="/api/stats/active/">    where to ask: an answer as of `GET stats/active/`, with an ETag;
 *                                                     data-pagestats-every="12" for another number of seconds,
 *                                                     data-pagestats-thousands="," for what sets thousands apart
 *     <span data-pagestats="visitors">3</span>        how many are here
 *     <table>
 *       <tbody data-pagestats="by_path"> ... </tbody> where they are: its rows are written anew from
 *     </table>
 *     <template data-pagestats="row">                 the row of a path, with any of these in it:
 *       <tr><th data-pagestats="path"></th>           its path; data-pagestats="title" is its title
 *           <td data-pagestats="count"></td></tr>     how many are there
 *     </template>
 *     <p data-pagestats="nobody">...</p>              shown while no row is
 *     <p data-pagestats="somebody">...</p>            shown while there is a row
 *     <p data-pagestats="elsewhere">On other pages:   shown while more are here than the rows tell of
 *       <span data-pagestats="others">2</span></p>    ... and how many
 *     <p data-pagestats="stale">...</p>               shown while the site does not answer
 *   </div>
 *
 * An element that is missing is not needed. Without that last attribute, numbers are written as the language of the page
 * does. Nothing is announced to who listens to the page: a figure that changes every few seconds would talk all the
 * time. */
(() => {
  'use strict';

  const LONGEST_PAUSE = 120; // seconds between two questions, however often the site did not answer
  const PATIENCE = 30; // seconds, until an answer is one that never comes

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
      const patience = setTimeout(() => {
        isLate = true;
        asking.abort();
      }, PATIENCE * 1000);
      try {
        const answer = await fetch(place.dataset.pagestatsLive, {
          headers: { Accept: 'application/json', ...(tag && { 'If-None-Match': tag }) },
          cache: 'no-store', // the tag is kept here
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
        if (isLate || !asking.signal.aborted) failures += 1; // else nobody looks any more
      }
      clearTimeout(patience);
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
        // A page without a title has its path for one, which need not be there twice.
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

    // A page that comes back, from another tab or by the back button, has old figures.
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
