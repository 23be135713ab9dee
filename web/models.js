// When MOVA Get Models has brought files, the page's loaders list them, as if R had been pressed.
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

app.registerExtension({
  name: "mova.models",
  setup() {
    api.addEventListener("mova.models", () => app.extensionManager.command.execute("Comfy.RefreshNodeDefinitions"))
  },
})
