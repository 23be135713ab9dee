// What the page does for our nodes beside what it does for all.
import { api } from "../../scripts/api.js"
import { app } from "../../scripts/app.js"

const WIDGET = "$$node-text-preview" // the page's own, for the text of a node that runs

// A notice comes with its node's result (nodes/host/notice.py): also from the cache, and into a new tab. A node that ran
// without a word loses the notice of an earlier run.
function showNotice({ detail }) {
  const notices = detail?.output?.mova_notice
  if (!notices) return
  const text = notices.filter(Boolean).join("\n")
  if (text) return api.dispatchCustomEvent("progress_text", { nodeId: detail.node, text })
  const node = app.graph.getNodeById(detail.node)
  const at = node?.widgets?.findIndex((widget) => widget.name === WIDGET) ?? -1
  if (at < 0) return
  node.widgets[at].onRemove?.()
  node.widgets.splice(at, 1)
  node.setDirtyCanvas?.(true, true)
}

// What is optional comes last; the second expert belongs beside the first.
function bringExpertsTogether(node) {
  const [high, low] = ["model_high", "model_low"].map((name) => node.inputs.findIndex((input) => input.name === name))
  if (high >= 0 && low > high + 1) node.inputs.splice(high + 1, 0, ...node.inputs.splice(low, 1))
}

app.registerExtension({
  name: "MOVA.Page",
  setup: () => api.addEventListener("executed", showNotice),
  nodeCreated: (node) => node.comfyClass === "MOVAJointSampler" && bringExpertsTogether(node),
})
