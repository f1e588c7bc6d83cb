// What the person is told about the server: the pill in the bar, the banner, the dialog for the key.

import { ApiError, Unreachable, configure, isThere } from "./api.js";
import { byId } from "./dom.js";

const FIRST_WAIT = 1; // seconds until the first try to reach a server that went away
const LONGEST_WAIT = 15;
const SLOW = 4; // seconds after which waiting is explained

/** Show or hide the line under the bar. */
function banner(text, tone = "bad", action = null) {
  const box = byId("banner");
  box.hidden = !text;
  box.dataset.tone = tone;
  byId("banner-text").textContent = text;
  const button = byId("banner-action");
  button.hidden = !action;
  button.textContent = action?.label ?? "";
  button.onclick = action?.run ?? null;
}

function askForKey(refused) {
  const dialog = byId("key-dialog");
  const error = byId("key-error");
  const input = byId("key");
  error.hidden = !refused;
  error.textContent = refused ? "The server refuses this key. Ask whoever runs it for the right one." : "";
  input.setAttribute("aria-invalid", String(refused));
  input.value = "";
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    byId("key-form").onsubmit = () => resolve(input.value.trim());
  });
}

/**
 * Sets up the hooks of `api.js` and returns the guard of requests.
 * @param {() => void} returned Called when a server that went away is back.
 */
export function createStatus(returned) {
  let isDown = false;
  let timer = 0;
  const waitingForReturn = new Set();

  // without a key there is nothing to show behind the dialog, so it cannot be dismissed
  byId("key-dialog").addEventListener("cancel", (event) => event.preventDefault());

  configure({
    askForKey,
    onBusy(seconds) {
      if (isDown) return;
      banner(seconds ? `The server is busy. Trying again in ${seconds} s.` : "", "busy");
    },
  });

  function pill(state, text) {
    byId("server").dataset.state = state;
    byId("server-text").textContent = text;
  }

  function cameBack() {
    isDown = false;
    banner("");
    const again = [...waitingForReturn];
    waitingForReturn.clear();
    returned();
    for (const run of again) run();
  }

  function wentDown() {
    if (isDown) return;
    isDown = true;
    pill("down", "No answer");
    let wait = FIRST_WAIT;
    const attempt = async () => {
      clearTimeout(timer);
      if (await isThere()) return cameBack();
      wait = Math.min(LONGEST_WAIT, 2 * wait);
      return plan();
    };
    const plan = () => {
      banner(`The server does not answer. Trying again in ${wait} s.`, "bad", {
        label: "Try now",
        run: attempt,
      });
      timer = setTimeout(attempt, 1000 * wait);
    };
    plan();
  }

  return {
    pill,
    /**
     * Run a request, and see to its failures.
     * @param {() => Promise<any>} task
     * @param {(error: ApiError) => void} onError What to do with an error of the server.
     * @param {(() => void) | null} onReturn What to do when a server that went away is back.
     * @returns {Promise<any>} The answer, or undefined after a failure.
     */
    async guard(task, onError, onReturn = null) {
      const slow = setTimeout(() => {
        if (!isDown && byId("banner").hidden) banner("Still waiting for the server. The first question takes longest.", "busy");
      }, 1000 * SLOW);
      const done = () => {
        clearTimeout(slow);
        if (!isDown) banner("");
      };
      try {
        const answer = await task();
        done();
        return answer;
      } catch (error) {
        done();
        if (error instanceof ApiError) {
          onError(error);
        } else if (error instanceof Unreachable) {
          if (onReturn) waitingForReturn.add(onReturn);
          wentDown();
        } else {
          throw error;
        }
        return undefined;
      }
    },
  };
}
