// The API key: asked for when the server demands one, kept in this tab.

const NAME = "cai-playground-key";

export function storedKey() {
  return sessionStorage.getItem(NAME);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
}

let asking = null;

// A key other than `refused`, or null if the person gives none. Requests that wait at the same time
// share one question.
export function askForKey(refused, reason) {
  if (storedKey() !== refused) return Promise.resolve(storedKey());
  asking ??= ask(refused, reason).finally(() => {
    asking = null;
  });
  return asking;
}

function ask(refused, reason) {
  const dialog = document.getElementById("key-dialog");
  const input = document.getElementById("key-input");
  if (refused !== null) document.getElementById("key-reason").textContent = reason;
  input.value = "";
  return new Promise((resolve) => {
    const closed = () => {
      const key = dialog.returnValue === "use" ? input.value.trim() : "";
      input.value = "";
      if (key !== "") sessionStorage.setItem(NAME, key);
      resolve(key === "" ? null : key);
    };
    dialog.addEventListener("close", closed, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
}
