// What a hostile page tries, as one object of functions; each gives "blocked: …" or "GOT: …".
// The same functions aimed at their own origin are the positive control.
globalThis.hostile = (() => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const outcome = async (act) => {
    try {
      return await act();
    } catch (error) {
      return `blocked: ${error.name}`;
    }
  };
  const loaded = (element, ms = 8000) =>
    Promise.race([
      new Promise((done) => element.addEventListener("load", () => done("load"))),
      new Promise((done) => element.addEventListener("error", () => done("error"))),
      wait(ms).then(() => "nothing"),
    ]);

  return {
    fetch: (url) =>
      outcome(async () => {
        const answer = await fetch(url, { credentials: "include" });
        return `GOT: ${answer.status} ${(await answer.text()).slice(0, 80)}`;
      }),
    opaque: (url) =>
      outcome(async () => {
        const answer = await fetch(url, { credentials: "include", mode: "no-cors" });
        const text = await answer.text();
        return text || answer.type !== "opaque" ? `GOT: ${answer.type} ${text.slice(0, 80)}` : "blocked: opaque";
      }),
    xhr: (url) =>
      new Promise((done) => {
        const request = new XMLHttpRequest();
        request.withCredentials = true;
        request.onload = () => done(`GOT: ${request.status} ${request.responseText.slice(0, 80)}`);
        request.onerror = () => done("blocked: error");
        request.open("GET", url);
        request.send();
      }),
    // Whether these did something is asked on the other side.
    post: (url, body, type = "text/plain", method = "POST") =>
      outcome(async () => {
        const answer = await fetch(url, { method, credentials: "include", mode: "no-cors", body, headers: { "content-type": type } });
        return answer.type === "opaque" ? "blocked: opaque" : `GOT: ${answer.status}`;
      }),
    form: async (url, fields) => {
      const frame = document.createElement("iframe");
      frame.name = `frame${Math.random()}`;
      document.body.append(frame);
      const form = document.createElement("form");
      Object.assign(form, { method: "post", action: url, target: frame.name });
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
      }
      document.body.append(form);
      const done = loaded(frame);
      form.submit();
      await done;
      try {
        return `GOT: ${frame.contentDocument.body.innerText.slice(0, 80)}`;
      } catch (error) {
        return `blocked: ${error.name}`;
      }
    },
    frame: async (url) => {
      const frame = document.createElement("iframe");
      const done = loaded(frame);
      frame.src = url;
      document.body.append(frame);
      await done;
      try {
        return frame.contentDocument && frame.contentDocument.location.href !== "about:blank"
          ? `GOT: ${frame.contentDocument.body.innerText.slice(0, 80)}`
          : "blocked: null";
      } catch (error) {
        return `blocked: ${error.name}`;
      }
    },
    open: async (url) => {
      const opened = window.open(url, "_blank");
      if (!opened) return "no window";
      for (let tries = 0; tries < 80; tries++) {
        if (opened.closed) return "blocked: cut off";
        try {
          if (opened.location.href !== "about:blank" && opened.document.readyState === "complete") {
            return `GOT: ${opened.document.body.innerText.slice(0, 80)}`;
          }
        } catch (error) {
          return `blocked: ${error.name}`;
        }
        await wait(100);
      }
      return "blocked: nothing";
    },
    message: async (url) => {
      const opened = window.open(url, "_blank");
      const answers = [];
      addEventListener("message", (event) => answers.push(String(event.data)));
      for (let tries = 0; tries < 30; tries++) {
        opened?.postMessage({ type: "ping", command: "terminal:create-new", action: "mutirao" }, "*");
        if (answers.length) return `GOT: ${answers[0]}`;
        await wait(100);
      }
      return "blocked: no answer";
    },
    cookies: () => document.cookie,
    plant: (text) => {
      document.cookie = text;
      const name = text.split("=")[0];
      return document.cookie.includes(`${name}=`) ? `GOT: ${name}` : "blocked: refused";
    },
    worker: (url, scope) =>
      outcome(async () => `GOT: ${(await navigator.serviceWorker.register(url, { scope })).scope}`),
    socket: (url) =>
      new Promise((done) => {
        try {
          const socket = new WebSocket(url);
          socket.onopen = () => done("GOT: open");
          socket.onerror = () => done("blocked: error");
        } catch (error) {
          done(`blocked: ${error.name}`);
        }
      }),
  };
})();
