// Keeps the page up to date. Put into it by 'flask wsrun --live'.
(() => {
  "use strict";

  const name = "flask wsrun --live";

  if (name in window || !document.currentScript) return;

  window[name] = true;

  // The page was made by this version of the app and its files.
  const address = new URL(document.currentScript.src);
  let version = address.search.slice(1);

  let socket = null;
  let timer = 0;
  let delay = 0; // in milliseconds
  let away = false;

  function connect() {
    socket = new WebSocket(address.origin.replace(/^http/, "ws") + address.pathname);
    socket.onmessage = (event) => {
      delay = 0;
      take(JSON.parse(event.data));
    };
    socket.onclose = lost;
  }

  function take(current) {
    // A page that works stays until there is another that does, and shows why there is
    // none.
    if (current.problem !== null && !version.startsWith("error")) {
      show("The app could not be loaded", current.problem);
      return;
    }

    hide();

    if (current.styles.length && current.before === version) {
      const links = linksOf(current.styles);

      if (links.length) {
        links.forEach((link) => renew(link, current.version));
        version = current.version;
        return;
      }
    }

    compare(current.version);
  }

  function compare(current) {
    // Reloading does not help where a service worker has the page. So it is done once
    // for each version.
    const key = `${name} ${location.href}`;
    const tried = read(key);

    write(key, current === version ? null : current);

    if (current !== version && current !== tried) {
      write(`${name} state`, JSON.stringify(state()));
      forgetPages();
      location.reload();
    }
  }

  // What the page stores

  function read(key) {
    try {
      return sessionStorage.getItem(key);
    } catch {
      return null; // The page may not store anything.
    }
  }

  function write(key, text) {
    try {
      if (text === null) sessionStorage.removeItem(key);
      else sessionStorage.setItem(key, text);
    } catch {
      // As above, or there is no room.
    }
  }

  // htmx keeps pages for the way back, as they were before the change.
  function forgetPages() {
    for (const place of ["localStorage", "sessionStorage"]) {
      try {
        window[place].removeItem("htmx-history-cache");
      } catch {
        // As above.
      }
    }
  }

  // Stylesheets

  // The elements that link to these files, or to a stylesheet that imports one.
  function linksOf(names) {
    const isNamed = (url) => names.some((each) => url.endsWith(`/${encodeURI(each)}`));

    const uses = (sheet) => {
      if (sheet.href && isNamed(sheet.href.replace(/[?#].*/, ""))) return true;

      try {
        return [...sheet.cssRules].some(
          (rule) => rule.styleSheet && uses(rule.styleSheet),
        );
      } catch {
        return false; // It is another site's.
      }
    };

    const sheets = [...document.styleSheets].filter(uses);
    const links = sheets.map((sheet) => sheet.ownerNode).filter((node) => node?.href);
    // What is written in the page itself comes with the page only.
    return links.length === sheets.length ? links : [];
  }

  function renew(link, current) {
    const next = link.cloneNode();
    const url = new URL(link.href);
    url.searchParams.set("flask-wsrun-live", current);
    next.href = url.href;
    // The page is never without either.
    next.onload = () => link.remove();
    next.onerror = () => next.remove();
    link.after(next);
  }

  // What the person has done with the page

  const fields = "input, textarea, select";
  const secret = ["password", "file", "hidden", "submit", "button", "reset", "image"];

  function pathOf(element) {
    const id = element.id && `#${CSS.escape(element.id)}`;

    if (id && document.querySelectorAll(id).length === 1) return id;

    const parent = element.parentElement;

    if (!parent) return ":root";

    const kind = element.localName;
    const same = [...parent.children].filter((other) => other.localName === kind);
    return `${pathOf(parent)} > ${kind}:nth-of-type(${same.indexOf(element) + 1})`;
  }

  function find(saved) {
    const element = document.querySelector(saved.path);
    const isSame = element?.name === saved.name && element?.type === saved.type;
    return isSame ? element : null;
  }

  function identify(element) {
    return { path: pathOf(element), name: element.name, type: element.type };
  }

  function hasChanged(field) {
    if (field.localName !== "select") {
      const { value, defaultValue, checked, defaultChecked } = field;
      return value !== defaultValue || checked !== defaultChecked;
    }

    return [...field.options].some((each) => each.selected !== each.defaultSelected);
  }

  function stateOf(field) {
    const selected = field.selectedOptions;
    return {
      ...identify(field),
      value: field.value,
      checked: field.checked,
      selected: selected && [...selected].map((option) => option.value),
    };
  }

  function state() {
    const all = [...document.querySelectorAll("*")];
    const active = document.activeElement;
    return {
      href: location.href,
      fields: all
        .filter((each) => each.matches(fields) && !secret.includes(each.type))
        .filter(hasChanged)
        .map(stateOf),
      scrolled: all
        .filter((each) => each.scrollTop || each.scrollLeft)
        .map((each) => ({
          ...identify(each),
          top: each.scrollTop,
          left: each.scrollLeft,
        })),
      focus: active?.matches(fields) && {
        ...identify(active),
        start: active.selectionStart,
        end: active.selectionEnd,
      },
    };
  }

  function restore() {
    const key = `${name} state`;
    const saved = JSON.parse(read(key));
    write(key, null);

    if (saved?.href !== location.href) return;

    for (const field of saved.fields) {
      const element = find(field);

      if (!element) continue;

      if (field.selected) {
        for (const option of element.options) {
          option.selected = field.selected.includes(option.value);
        }
      } else if (field.type === "checkbox" || field.type === "radio") {
        element.checked = field.checked;
      } else {
        element.value = field.value;
      }
    }

    const focused = saved.focus && find(saved.focus);

    if (focused) {
      focused.focus({ preventScroll: true });

      if (typeof saved.focus.start === "number") {
        focused.setSelectionRange(saved.focus.start, saved.focus.end);
      }
    }

    for (const place of saved.scrolled) {
      find(place)?.scrollTo({ ...place, behavior: "instant" });
    }
  }

  // What has gone wrong

  let shown = null;

  // Not in the body, which scripts may replace. No style is in an attribute, and no
  // markup in a text, since the page may have a policy that forbids them.
  function show(title, text, link) {
    hide();
    shown = document.createElement("flask-wsrun-problem");
    const root = shown.attachShadow({ mode: "open" });
    const box = document.createElement("div");
    const heading = document.createElement("strong");
    const close = document.createElement("button");
    const body = document.createElement("pre");

    box.setAttribute("role", "alert");
    heading.textContent = title;
    close.textContent = "Hide";
    close.onclick = hide;
    body.textContent = text;

    style(box, {
      position: "fixed",
      inset: "0 0 auto 0",
      "z-index": "2147483647",
      "max-height": "100vh",
      overflow: "auto",
      padding: "1em",
      color: "#fff",
      background: "#301015",
      "border-bottom": "4px solid #e5484d",
      font: "14px/1.4 monospace",
      "text-align": "left",
    });
    style(close, { float: "right" });
    style(body, { margin: "1em 0 0", "white-space": "pre-wrap", font: "inherit" });
    box.append(close, heading, body);

    if (link) {
      const open = document.createElement("a");
      open.href = link;
      open.textContent = "Open it";
      style(open, { color: "inherit" });
      box.append(open);
    }

    root.append(box);
    document.documentElement.append(shown);
  }

  function hide() {
    shown?.remove();
    shown = null;
  }

  function style(element, properties) {
    for (const [property, value] of Object.entries(properties)) {
      element.style.setProperty(property, value);
    }
  }

  // htmx leaves the page as it is where the one that was asked for is an error.
  document.addEventListener("htmx:responseError", (event) => {
    const { boosted, xhr, requestConfig } = event.detail;

    if (boosted && requestConfig.verb === "get" && xhr.status >= 500) {
      const answer = new DOMParser().parseFromString(xhr.responseText, "text/html");
      const title = `${xhr.status} from ${requestConfig.path}`;
      show(title, answer.title || xhr.statusText, requestConfig.path);
    }
  });

  // The connection

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

  if (document.readyState !== "loading") restore();
  else document.addEventListener("DOMContentLoaded", restore);

  connect();
})();
