/* Tells the site that a page is still being read, and of views that it cannot see: `{% pagestats_tracker %}` puts it in.
 *
 * A page that was rendered for this very request was counted by the middleware, or left out by it with a reason. So the
 * first heartbeat says when the page was rendered, by the site's clock, and how long ago this browser began to ask for
 * it, by its own: where more time has passed, the page was kept somewhere, and the site counts it. What the site cannot
 * have seen is sent as a page view: another page of a single-page site, a page that came back by the back button out of
 * the browser's memory, one that was prerendered and is opened now. A view that the site has already is a repeat there.
 *
 * A page can read one header of its own, Server-Timing. By it the middleware says what it left out: `view;dur=1` is for
 * this script to count, as what was asked for ahead; of `view;dur=0` it tells nothing, as of an error or a secret path.
 *
 * Of all visible windows of a browser one sends heartbeats: the one that holds a lock, which the browser takes away from
 * a window that crashes. Where there are no locks, as without HTTPS or where storage is blocked, each puts its own off
 * when it hears of another's. */
(() => {
  let { views, beats, rendered, every, session, hash = '', gpc, dnt } = document.currentScript?.dataset ?? {};
  const told = performance
    .getEntriesByType('navigation')[0]
    ?.serverTiming?.find(({ name }) => name === 'view')?.duration;
  if (
    !beats ||
    told === 0 ||
    top !== self || // a part of a page is none
    history.pagestats || // here already: a script that swaps pages may run this one again
    (gpc && navigator.globalPrivacyControl) ||
    (dnt && navigator.doNotTrack > 0)
  )
    return;
  history.pagestats = 1;
  if (session || told) rendered = 1; // in 1970: whatever it is, it was kept

  let id = session && crypto.getRandomValues(new Uint32Array(5)).join('.'),
    path = here(),
    due,
    release,
    channel;

  try {
    id &&= localStorage.pagestats ||= id;
  } catch {} // blocked: it lives as long as the page

  function here() {
    return location.pathname + (hash && location.hash);
  }

  async function send(url, more) {
    const body = JSON.stringify({ path, session_id: id, ...more });
    url = location.origin + url; // whatever the base of the page is
    try {
      if (navigator.sendBeacon(url, body)) return;
    } catch {}
    try {
      await fetch(url, { method: 'POST', body, keepalive: true });
    } catch {}
  }

  function beat() {
    // With the first one: that page, of which the site knows no hash.
    send(beats, rendered && { path: location.pathname, rendered: +rendered, elapsed: performance.now() >>> 0 });
    rendered = 0;
    channel?.postMessage(0);
  }

  function wait(heard) {
    clearTimeout(due);
    due = setTimeout(take, every * ((heard ? 1350 : 900) + 200 * Math.random()));
  }

  // Not before a beat is due: of two pages that want a lock, the browser forgets the one that was left.
  async function take() {
    wait();
    if (document.hidden) release = release?.(); // a lock that came too late, or a page that a script wrote anew
    else if (release) beat();
    else try {
      await navigator.locks.request(beats, { ifAvailable: true }, lock => lock && new Promise(hold));
    } catch {
      try {
        channel ||= new BroadcastChannel(beats);
        channel.onmessage = wait;
      } catch {}
      beat();
    }
  }

  function hold(done) {
    release = done;
    take();
  }

  function stop() {
    clearTimeout(due);
    release = release?.();
    channel = channel?.close();
  }

  function look() {
    stop();
    if (document.hidden || document.prerendering) return;
    wait();
    beat();
  }

  function move(event) {
    if (here() === path && !event?.persisted) return;
    path = here();
    if (document.prerendering) return;
    send(views);
    look();
  }

  for (const name of ['pushState', 'replaceState']) {
    const native = history[name];
    history[name] = (...all) => {
      native.apply(history, all);
      move();
    };
  }
  addEventListener('popstate', move);
  addEventListener('hashchange', move);
  addEventListener('pageshow', move);
  addEventListener('pagehide', stop);
  document.addEventListener('visibilitychange', look);
  document.addEventListener('prerenderingchange', () => {
    rendered = 1;
    look();
  });
  look();
})();
