/* Reports that a page is still being read, and page views that the middleware can't see. `{% pagestats_tracker %}`
 * adds it.
 *
 * The middleware has already counted, or deliberately ignored, a page that Django rendered for this request. So the
 * first heartbeat reports when the page was rendered (by the server's clock) and how long ago this browser requested
 * it (by the browser's clock). If it was rendered earlier than that, it came out of a cache, and the site counts it.
 * Views that never reach the server are sent as page views: another page of a single-page site, a page restored by the
 * back button, a prerendered page that is now opened. If the site already has such a view, it ignores the second one
 * as a repeat.
 *
 * The only response header that a script can read is Server-Timing. In it the middleware gives a hint about a page
 * that it did not count: `view;dur=1` means count it (a prefetched page), `view;dur=0` means report nothing (an error
 * page, a secret path).
 *
 * Only one visible window of a browser sends heartbeats: the one that holds a lock. The browser releases the lock if
 * that window crashes. Without locks (no HTTPS, or storage blocked) a window delays its heartbeat when it hears of
 * another window's. */
(() => {
  let { views, beats, rendered, every, session, hash = '', gpc, dnt } = document.currentScript?.dataset ?? {};
  const hint = performance
    .getEntriesByType('navigation')[0]
    ?.serverTiming?.find(({ name }) => name === 'view')?.duration;
  if (
    !beats ||
    hint === 0 ||
    top !== self || // a frame is part of a page, not a page
    history.pagestats || // already running: scripts that swap pages may run this one again
    (gpc && navigator.globalPrivacyControl) ||
    (dnt && navigator.doNotTrack > 0)
  )
    return;
  history.pagestats = 1;
  if (session || hint) rendered = 1; // the year 1970, so that the site counts the page as if from a cache

  let id = session && crypto.getRandomValues(new Uint32Array(5)).join('.'),
    path = here(),
    due,
    release,
    channel;

  try {
    id &&= localStorage.pagestats ||= id;
  } catch {} // storage is blocked: the id lasts as long as the page

  function here() {
    return location.pathname + (hash && location.hash);
  }

  async function send(url, more) {
    const body = JSON.stringify({ path, session_id: id, ...more });
    url = location.origin + url; // ignores a <base> element
    try {
      if (navigator.sendBeacon(url, body)) return;
    } catch {}
    try {
      await fetch(url, { method: 'POST', body, keepalive: true });
    } catch {}
  }

  function beat() {
    // The first heartbeat reports the page as it was requested, so without the hash.
    send(beats, rendered && { path: location.pathname, rendered: +rendered, elapsed: performance.now() >>> 0 });
    rendered = 0;
    channel?.postMessage(0);
  }

  function wait(heard) {
    clearTimeout(due);
    due = setTimeout(take, every * ((heard ? 1350 : 900) + 200 * Math.random()));
  }

  // Ask for the lock only when a beat is due. If two pages ask during a navigation, the browser drops the old one.
  async function take() {
    wait();
    if (document.hidden) release = release?.(); // the lock came too late, or a script replaced the page
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
