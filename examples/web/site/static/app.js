// Says so when the server has been replaced by another version while the page was open.
const shown = document.getElementById("version").textContent;
setInterval(async () => {
    try {
        const { version } = await (await fetch("/version.json", { cache: "no-store" })).json();
        const note = document.getElementById("newer");
        note.querySelector("b").textContent = version;
        note.hidden = version === shown;
    } catch {
        // Between two versions nobody answers; the next question will be answered.
    }
}, 5000);
