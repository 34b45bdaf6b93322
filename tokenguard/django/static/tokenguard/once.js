/* A double click sends a form once. Without this script, the answer to the first click, with a new token's text, is lost. */
"use strict";

let sent = -Infinity;
addEventListener("submit", (event) => {
    // Only for a moment: who stops waiting for an answer may send the form again.
    if (event.timeStamp - sent < 1000) {
        event.preventDefault();
    } else {
        sent = event.timeStamp;
    }
});
