// A prebuilt JupyterLab extension, written by hand in the container format that JupyterLab loads (webpack's module
// federation: `init` receives the shared modules, `get` returns a module's factory), so it needs no build step.
(() => {
  "use strict";

  const WORDS = {
    en: {
      label: "Terminal",
      caption: "Terminals are off here. Click to read why.",
      title: "Terminals are off",
      body:
        "A terminal runs commands that nothing here can explain to you before they run. " +
        "Terminals come back when the watcher, which sees what really runs, is in place. " +
        "Until then, start a line of a cell with ! to run a command: !ls -la",
      policy: "What is allowed here",
      close: "Close",
    },
    pt: {
      label: "Terminal",
      caption: "Os terminais estão desligados aqui. Clique para saber por quê.",
      title: "Os terminais estão desligados",
      body:
        "Um terminal executa comandos que nada aqui consegue explicar a você antes de rodarem. " +
        "Os terminais voltam quando o vigia, que vê o que de fato roda, estiver pronto. " +
        "Até lá, comece uma linha da célula com ! para executar um comando: !ls -la",
      policy: "O que é permitido aqui",
      close: "Fechar",
    },
  };

  let shared = {};

  // The shared copy of a module that JupyterLab itself uses.
  async function load(name) {
    const versions = shared[name];
    if (!versions) throw new Error(`JupyterLab shares no ${name}`);
    return (await versions[Object.keys(versions)[0]].get())();
  }

  function activate(app, { apputils, lumino }, launcher, palette, translator) {
    // JupyterLab's own word for the group where its terminal would be.
    const category = translator ? translator.load("jupyterlab").__("Other") : "Other";
    const words = WORDS[(document.documentElement.lang || navigator.language || "en").slice(0, 2)] || WORDS.en;
    const { commands } = app;
    const hub = app.serviceManager.serverSettings.baseUrl.replace(/user\/[^/]+\/.*$/, "");
    commands.addCommand("mutirao:terminals-off", {
      label: words.label,
      caption: words.caption,
      iconClass: "jp-MaterialIcon jp-TerminalIcon",
      execute: async () => {
        const node = document.createElement("div");
        const text = document.createElement("p");
        text.textContent = words.body;
        text.style.maxWidth = "36em";
        node.appendChild(text);
        const body = new lumino.Widget({ node });
        const buttons = [apputils.Dialog.cancelButton({ label: words.close }), apputils.Dialog.okButton({ label: words.policy })];
        const result = await apputils.showDialog({ title: words.title, body, buttons });
        if (result.button.accept) window.open(`${hub}services/mutirao/policy`, "_blank", "noopener");
      },
    });
    if (launcher) launcher.add({ command: "mutirao:terminals-off", category, rank: 0 });
    if (palette) palette.addItem({ command: "mutirao:terminals-off", category });
  }

  async function extension() {
    const [apputils, launcher, lumino, translation] = await Promise.all(
      ["@jupyterlab/apputils", "@jupyterlab/launcher", "@lumino/widgets", "@jupyterlab/translation"].map(load),
    );
    const plugin = {
      id: "mutirao:terminals-off",
      description: "Says why terminals are off, where a member looks for them.",
      autoStart: true,
      optional: [launcher.ILauncher, apputils.ICommandPalette, translation.ITranslator],
      activate: (app, ...rest) => activate(app, { apputils, lumino }, ...rest),
    };
    return () => ({ __esModule: true, default: plugin });
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB.mutirao = {
    init: (scope) => {
      shared = scope;
    },
    get: (name) => (name === "./extension" ? extension() : Promise.reject(new Error(`mutirao has no ${name}`))),
  };
})();
