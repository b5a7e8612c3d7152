/* The explorer in a notebook: its page in a frame of its own, which can touch nothing outside it. */

function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.title = "Latebloom explorer";
  frame.setAttribute("sandbox", "allow-scripts");
  frame.style.cssText = "width: 100%; border: 0";
  let url = null;
  const load = () => {
    if (url) URL.revokeObjectURL(url);
    frame.src = url = URL.createObjectURL(new Blob([model.get("page")], { type: "text/html" }));
  };
  const size = () => (frame.style.height = `${model.get("height")}px`);
  const listen = ({ source, data }) => {
    if (source !== frame.contentWindow || !data?.latebloom) return;
    model.set("settings", data.latebloom.settings);
    model.set("answer", data.latebloom.head);
    model.save_changes();
  };
  model.on("change:page", load);
  model.on("change:height", size);
  addEventListener("message", listen);
  el.append(frame);
  size();
  load();
  return () => {
    removeEventListener("message", listen);
    URL.revokeObjectURL(url);
  };
}

export default { render };
