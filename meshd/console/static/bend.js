// Runs a form and says where it ran and why.

import { byId, make, seconds } from "./dom.js";
import { ask } from "./http.js";

const EXAMPLES = {
  "cuda-shake-fanout": `(bend (cuda-shake-fanout '("00" "deadbeef") 32))`,
  "cuda-blake3-tree": `(bend (cuda-blake3-tree '("00" "deadbeef") 32))`,
  "cuda-radix-sort": `(bend (cuda-radix-sort '(3 1 2)))`,
  "cuda-bignum-cgbn": `(bend (cuda-bignum-cgbn mod-mul 64 "61" '("7" "8") '("9" "a")))`,
  "cuda-secp256k1-batched-mul": `(bend (cuda-secp256k1-batched-mul '("1" "2") "g"))`,
};

async function run(call) {
  const response = await ask("/api/bend", { method: "POST", body: call });
  const where = response.headers.get("x-meshd-node");
  const why = response.headers.get("x-meshd-why");
  return { reply: (await response.text()).trim(), where: [where && `ran on ${where}`, why].filter(Boolean).join(": ") };
}

export async function listForms() {
  const { reply } = await run("(forms)").catch(() => ({ reply: "" }));
  const names = [...reply.matchAll(/\(name "([^"]+)"\)/g)].map((match) => match[1]);
  byId("bend-form-name").append(...names.filter((name) => EXAMPLES[name]).map((name) => make("option", {}, name)));
}

export function listenForBend() {
  byId("bend-form-name").addEventListener("change", (event) => {
    byId("bend-call").value = EXAMPLES[event.target.value] ?? byId("bend-call").value;
  });
  byId("bend-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const place = byId("bend-result");
    place.textContent = "…";
    const began = performance.now();
    try {
      const { reply, where } = await run(byId("bend-call").value);
      const took = seconds((performance.now() - began) / 1000);
      place.replaceChildren(reply, make("p", { class: "why" }, [took, where].filter(Boolean).join(" · ")));
    } catch (error) {
      place.textContent = error.message;
    }
  });
}
