// loader.js: the only code in the saved state of a leaf. It asks Python for the leaf's own module, once a page and
// kind of leaf, and hands over to it: a notebook that keeps its widgets' state stays small.
const modules = (globalThis.ctrlModules ??= new Map()); // by fingerprint

const LOST = "This panel is not connected: run this cell again.";

// The module { default } and its styles. `initialize` must not wait for them: before it returns no message arrives.
function fetchModule(model, print, signal) {
  if (modules.has(print)) return Promise.resolve(modules.get(print));
  return new Promise((resolve, reject) => {
    let again = 0;
    const ask = (pause) => {
      model.send({ kind: "module" });
      again = setTimeout(ask, pause, 2 * pause); // a front end that is still connecting may lose it
    };
    const stop = () => {
      clearTimeout(again);
      model.off("msg:custom", listen);
    };
    const listen = async (content) => {
      if (content?.kind !== "module") return;
      stop();
      const url = URL.createObjectURL(new Blob([content.script], { type: "text/javascript" }));
      try {
        const found = { module: await import(url), styles: content.styles };
        modules.set(print, found);
        resolve(found);
      } catch (error) {
        reject(error);
      } finally {
        URL.revokeObjectURL(url);
      }
    };
    model.on("msg:custom", listen);
    signal?.addEventListener("abort", stop);
    ask(5000);
  });
}

export default () => {
  let leaf;
  async function begin({ model, signal, experimental }) {
    const { module, styles } = await fetchModule(model, model.get("_fingerprint"), signal);
    const made = typeof module.default === "function" ? await module.default() : module.default;
    const end = await made.initialize?.({ model, signal, experimental });
    if (typeof end === "function") signal?.addEventListener("abort", end);
    return { made, styles };
  }
  return {
    initialize(context) {
      leaf = begin(context);
      leaf.catch(() => {}); // `render` says so
    },
    async render(context) {
      const words = document.createElement("p");
      words.setAttribute("role", "status");
      context.el.append(words);
      const late = setTimeout(() => (words.textContent = LOST), 4000);
      const { made, styles } = await leaf.finally(() => clearTimeout(late));
      words.remove();
      if (context.signal?.aborted) return;
      const look = document.createElement("style");
      look.textContent = styles;
      context.el.append(look);
      return made.render(context);
    },
  };
};
