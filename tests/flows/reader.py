"""What a keyboard and a screen reader find on a page: axe-core's rules, and what it leaves to people."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

STRUCTURE = """() => {
    const flaws = [];
    const seen = (element) => element.checkVisibility({checkVisibilityCSS: true});
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(seen).map((h) => Number(h.tagName[1]));
    if (headings.filter((level) => level === 1).length !== 1 || headings[0] !== 1) flaws.push(`headings begin ${headings}`);
    headings.forEach((level, i) => { if (i && level > headings[i - 1] + 1) flaws.push(`a heading is skipped: ${headings}`); });
    for (const landmark of ["header", "nav[aria-label]", "main", "footer"]) {
        if (document.querySelectorAll(landmark).length !== 1) flaws.push(`not one ${landmark}`);
    }
    for (const table of document.querySelectorAll("table")) {
        if (!table.querySelector("th")) flaws.push("a table without header cells");
    }
    for (const alarm of document.querySelectorAll(".mu-callout.mu-bad")) {
        if (!["alert", "status"].includes(alarm.getAttribute("role"))) flaws.push(`said to eyes only: ${alarm.textContent}`);
    }
    for (const clock of document.querySelectorAll("[role=status] [data-until], [role=alert] [data-until]")) {
        if (clock.getAttribute("role") !== "timer") flaws.push("a clock that is read aloud every second");
    }
    return flaws;
}"""
CONTROLS = """() => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    // The next Tab starts from the top, wherever the page has put the focus.
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
    const groups = new Set();
    window.controls = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
        .filter((element) => element.checkVisibility({checkVisibilityCSS: true}) && !element.disabled)
        .filter((element) => {
            // Tab comes to one button of a group; arrows go to the others.
            const group = element.type === "radio" && `${element.form?.action} ${element.name}`;
            return !group || (!groups.has(group) && groups.add(group));
        });
    return window.controls.length;
}"""
FOCUSED = """async () => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const inside = ({top, bottom, left, right}) => bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
    // Bootstrap's pages scroll smoothly to what has the focus.
    for (let frames = 0; frames < 90 && !inside(element.getBoundingClientRect()); frames++) {
        await new Promise(requestAnimationFrame);
    }
    const shown = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2
        && inside(element.getBoundingClientRect());
    return [window.controls.indexOf(element), shown, element.outerHTML.slice(0, 120)];
}"""


def flaws(page: Page, lang: str) -> list[str]:
    """What axe-core finds, what is wrong with language, headings, landmarks, tables and alarms, and on Tab's way."""
    found = [
        f"{one['id']}: {node['html'][:160]}" for one in Axe().run(page).response["violations"] for node in one["nodes"]
    ]
    said = page.evaluate("document.documentElement.lang")
    found += page.evaluate(STRUCTURE) + ([f"lang is {said}"] if said != lang else [])
    # Everything unfolded, each control must be met in the order of the text, and be seen.
    for expected in range(page.evaluate(CONTROLS)):
        page.keyboard.press("Tab")
        place, shown, html = page.evaluate(FOCUSED)
        if place != expected or not shown:
            found.append(f"Tab {expected} came to {place}, {'' if shown else 'not '}seen: {html}")
    return found
