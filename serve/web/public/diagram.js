// Draws one Mermaid diagram in a sandboxed frame: the page sends its source, and gets its height.
addEventListener("message", async ({ source, data }) => {
  if (source !== parent || typeof data?.source !== "string") return;
  const answer = (message) => parent.postMessage(message, "*");
  try {
    // Of another scheme than the page's, the frame would have a ground of its own.
    document.documentElement.style.colorScheme = data.dark ? "dark" : "light";
    mermaid.initialize({
      startOnLoad: false,
      securityLevel: "strict",
      theme: data.dark ? "dark" : "default",
      maxTextSize: 20_000,
    });
    const { svg } = await mermaid.render("drawing", data.source);
    document.body.innerHTML = svg;
    document.body.style.margin = "0";
    const drawing = document.querySelector("svg");
    drawing.style.display = "block";
    drawing.style.margin = "0 auto";
    answer({ height: Math.ceil(drawing.getBoundingClientRect().height) });
  } catch {
    answer({ failed: true });
  }
});
parent.postMessage({ ready: true }, "*");
