// Opens one HTML page in headless Chromium, in light and dark, at a phone's and a desktop's width, and looks at it.
//
//   node tools/pages/look_at_page.mjs report.html screenshots
//
// Fails on any request for something outside the file, on any error in the page, on a page wider than its window, and
// on any finding of axe. Screenshots of the whole page are left in the folder. Needs Chromium (CHROMIUM names it) and,
// in a folder of their own, two packages: npm install axe-core puppeteer-core (LOOK_MODULES names that folder).
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const WIDTHS = { phone: 390, desktop: 1280 };
const HEIGHT = 900;
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

const [page, folder = "screenshots"] = process.argv.slice(2);
if (!page) {
  console.error("usage: node look_at_page.mjs PAGE.html [FOLDER FOR SCREENSHOTS]");
  process.exit(2);
}
const modules = createRequire(path.resolve(process.env.LOOK_MODULES ?? ".", "package.json"));
const puppeteer = modules("puppeteer-core");
const axe = modules.resolve("axe-core/axe.min.js");

async function look(browser, scheme, [name, width]) {
  const found = [];
  const tab = await browser.newPage();
  await tab.setViewport({ width, height: HEIGHT });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const address = pathToFileURL(path.resolve(page)).href;
  tab.on("request", (request) => {
    if (request.url() !== address && !request.url().startsWith("data:")) found.push(`request: ${request.url()}`);
  });
  tab.on("pageerror", (error) => found.push(`error: ${error.message}`));
  tab.on("console", (message) => message.type() === "error" && found.push(`console: ${message.text()}`));
  await tab.goto(address, { waitUntil: "networkidle0" });
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) found.push(`the page is ${wide} px wider than its window`);
  await tab.screenshot({ path: path.join(folder, `${name}-${scheme}.png`), fullPage: true });
  // axe comes from a file, after the requests of the page itself were counted.
  tab.removeAllListeners("request");
  await tab.addScriptTag({ path: axe });
  const result = await tab.evaluate((values) => window.axe.run({ runOnly: { type: "tag", values } }), RULES);
  for (const violation of result.violations) {
    for (const node of violation.nodes) {
      found.push(`axe ${violation.id} (${violation.impact}): ${violation.help}: ${node.target.join(" ")}`);
    }
  }
  await tab.close();
  const undecided = result.incomplete.flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.target.join(" ")}`));
  console.log(`${name} ${width} px, ${scheme}: ${result.passes.length} rules hold, ${found.length} findings`);
  for (const line of found) console.log(`  ${line}`);
  for (const line of new Set(undecided)) console.log(`  undecided by axe, to be looked at: ${line}`);
  return found.length;
}

mkdirSync(folder, { recursive: true });
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});
let findings = 0;
for (const scheme of ["light", "dark"]) {
  for (const width of Object.entries(WIDTHS)) findings += await look(browser, scheme, width);
}
await browser.close();
process.exit(findings ? 1 : 0);
