/* Copy buttons. Without this script, a click on the text selects it. */
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
            // No permission, or no secure connection: the text is selected, for the reader to copy.
            getSelection().selectAllChildren(shown);
            status.textContent = "It is selected: copy it with the keyboard.";
        }
    });
}

// The page that a browser keeps for its back button must not hold the text, which is shown only once.
addEventListener("pagehide", () => {
    for (const shown of document.querySelectorAll(".tg-secret code")) {
        shown.textContent = "";
    }
});
