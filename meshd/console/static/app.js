// Puts the page together: what the node tells goes to the parts that show it.

import { showActivity } from "./activity.js";
import { listForms, listenForBend } from "./bend.js";
import { listenForChat } from "./chat.js";
import { byId } from "./dom.js";
import { follow, listenForKey } from "./http.js";
import { showDrafts } from "./drafts.js";
import { showMemory } from "./memory.js";
import { showMesh } from "./mesh.js";
import { listenForModels, showModels } from "./models.js";
import { listenForPlan } from "./plan.js";
import { showSessions } from "./sessions.js";
import { listenForTokens, showTokens } from "./tokens.js";

function showStatus(status) {
  document.title = `${status.node.name} · ${status.mesh.name}`;
  byId("mesh-name").textContent = status.mesh.name;
  byId("who").textContent = `${status.node.name} (${status.node.id.slice(0, 8)}), ${status.node.role}`;
  byId("total").textContent = `${status.vram_total_gb.toFixed(1)} GB for models, clients not counted`;
  byId("version").textContent = `meshd ${status.node.version}`;
  showMesh(status);
  showModels(status);
  showMemory(status);
  showDrafts(status);
  showSessions(status);
  showTokens(status);
  byId("pull-form").hidden = status.node.role === "client";
}

function showConnection(isThere) {
  const place = byId("connection");
  place.textContent = isThere ? "live" : "this node does not answer; trying again";
  place.classList.toggle("lost", !isThere);
}

const themes = window.matchMedia("(prefers-color-scheme: dark)");

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "light" : "dark";
  byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
}

function listenForTheme() {
  setTheme(localStorage.getItem("meshd-theme") ?? (themes.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("meshd-theme", theme);
    setTheme(theme);
  });
}

listenForTheme();
listenForKey();
listenForModels();
listenForChat();
listenForPlan();
listenForBend();
listenForTokens();
listForms();
follow({ status: showStatus, activity: showActivity }, showConnection);
