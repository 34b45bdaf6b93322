/* Copy buttons: without this script the text is selected by a click on it. */
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
    const shown = document.getElementById(button.dataset.copy);
    const status = button.parentElement.querySelector("[role=status]");
    button.hidden = false;
    button.addEventListener("click", async () => {
        try {
            await navigator.clipboard.writeText(shown.textContent);
            status.textContent = "Copied.";
        } catch {
            // No permission, or no secure connection: then the reader copies what is selected here.
            getSelection().selectAllChildren(shown);
            status.textContent = "It is selected: copy it with the keyboard.";
        }
    });
}

// A browser may keep the page as it was, for whoever goes back to it: not with what is shown this once.
addEventListener("pagehide", () => {
    for (const shown of document.querySelectorAll(".tg-secret code")) {
        shown.textContent = "";
    }
});
