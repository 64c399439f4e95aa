import { greeting } from "./greeting.js"

const heading = document.querySelector("h1")
heading.textContent = greeting

let clicks = 0
const count = document.querySelector("span")
count.textContent = clicks
document.querySelector("button").onclick = () => { count.textContent = ++clicks }

// Change greeting.js or style.css while this runs: the page follows, and the count of clicks stays.
import.meta.hot?.accept("./greeting.js", changed => { heading.textContent = changed.greeting })
