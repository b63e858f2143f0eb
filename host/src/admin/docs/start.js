// Swagger UI is dark where the root element has this class; it does not ask the system by itself.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// A request is shown when its answer is complete, and a stream of events has no end.
const withoutStreams = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: (original) => (state, path, method) =>
          path !== "/v1/events" && original(state, path, method),
      },
    },
  },
});

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  plugins: [withoutStreams],
  // By default descriptions are sent to a validator elsewhere.
  validatorUrl: null,
});
