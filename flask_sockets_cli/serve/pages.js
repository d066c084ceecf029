// Reloads the page when it is out of date. Put into it by 'flask wsrun --live'.
(() => {
  "use strict";

  const name = "flask wsrun --live";

  if (name in window || !document.currentScript) return;

  window[name] = true;

  // The page was made by this version of the app and its files.
  const address = new URL(document.currentScript.src);
  const version = address.search.slice(1);

  let socket = null;
  let timer = 0;
  let delay = 0; // in milliseconds
  let away = false;

  function connect() {
    socket = new WebSocket(address.origin.replace(/^http/, "ws") + address.pathname);
    socket.onmessage = (event) => {
      delay = 0;
      compare(event.data);
    };
    socket.onclose = lost;
  }

  function compare(current) {
    // A page that works stays until there is another that does.
    if (current.startsWith("error") && !version.startsWith("error")) return;

    // Reloading does not help where a service worker has the page. So it is done once
    // for each version.
    const key = `${name} ${location.href}`;
    let tried = null;

    try {
      tried = sessionStorage.getItem(key);

      if (current === version) sessionStorage.removeItem(key);
      else sessionStorage.setItem(key, current);
    } catch {
      // The page may not store anything.
    }

    if (current !== version && current !== tried) location.reload();
  }

  function lost() {
    socket = null;

    if (delay === 0) {
      // As a rule the app is being loaded, and who connects now is let in right after.
      delay = 50;
      connect();
    } else {
      wait();
    }
  }

  function wait() {
    timer = setTimeout(look, delay);
    delay = Math.min(2 * delay, 1000);
  }

  // Browsers slow down WebSockets that fail often, and do not tell why they failed.
  async function look() {
    timer = 0;
    let response = null;

    try {
      response = await fetch(address.pathname, { cache: "no-store" });
    } catch {
      // The command is not running.
    }

    // The page may have been away and back meanwhile.
    if (away || socket || timer) return;

    if (response && /javascript/.test(response.headers.get("Content-Type"))) connect();
    else if (!response || response.status >= 500) wait();
    // else it runs without '--live' now
  }

  document.addEventListener("visibilitychange", () => {
    // The timers of a page that is not seen are slow.
    if (!document.hidden && timer) {
      clearTimeout(timer);
      look();
    }
  });

  // A page is kept for the way back only if it has no connection.
  addEventListener("pagehide", () => {
    away = true;
    clearTimeout(timer);
    timer = 0;

    if (socket) {
      socket.onclose = null;
      socket.close();
      socket = null;
    }
  });

  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      away = false;
      delay = 0;
      connect();
    }
  });

  connect();
})();
