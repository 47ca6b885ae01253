// Looks at the screen of a running agent as people do: `node look.mjs URL FOLDER`. Screenshots go to FOLDER.
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const TABS = 8; // more than the connections that a browser opens to one server
const WAIT = 60000; // milliseconds; for failures alone
const failed = [];
let count = 0;

function check(what, is, found = "") {
  count += 1;
  if (!is) failed.push(`${what}: ${found}`);
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

/** A page of its own browser profile, whose complaints count as failures. */
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => check("console", message.type() !== "error", message.text()));
  page.on("pageerror", (error) => check("script", false, error.message));
  page.on("dialog", (dialog) => {
    check("markup came alive", false, dialog.message());
    dialog.dismiss();
  });
  await page.goto(url);
  await page.waitForSelector("#last tr", { timeout: WAIT });
  return page;
}

async function accessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const said = violations.map((one) => `${one.id} ${one.nodes.map((node) => node.target).join(" ")}`).join("; ");
  check(`${what}: axe`, violations.length === 0, said);
}

async function fits(page, what) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(`${what}: nothing is wider than the page`, wide <= 0, `${wide} px`);
}

const views = [
  { name: "wall", locale: "en-GB", colorScheme: "light", viewport: { width: 1440, height: 1000 } },
  { name: "wall-dark", locale: "de-DE", colorScheme: "dark", viewport: { width: 1440, height: 1000 } },
  { name: "phone", locale: "zh-CN", colorScheme: "light", viewport: { width: 390, height: 844 } },
  { name: "phone-dark", locale: "de-DE", colorScheme: "dark", viewport: { width: 390, height: 844 } },
];
for (const { name, ...options } of views) {
  const page = await open(options);
  const language = options.locale.slice(0, 2);
  check(`${name}: language`, (await page.getAttribute("html", "lang")) === language, await page.getAttribute("html", "lang"));
  check(`${name}: four decisions`, (await page.locator("#last tr").count()) === 4);
  check(`${name}: the newest is large`, (await page.textContent("#big")).length > 0);
  await accessible(page, name);
  await fits(page, name);
  await page.screenshot({ path: `${folder}/line-${name}.png`, fullPage: true });
  await page.click("#last tr:last-child a");
  await page.waitForSelector("#decision .label button", { timeout: WAIT });
  await page.waitForFunction(() => document.querySelector("#decision img")?.naturalWidth > 0, null, { timeout: WAIT });
  await accessible(page, `${name}, a decision`);
  await fits(page, `${name}, a decision`);
  await page.screenshot({ path: `${folder}/decision-${name}.png`, fullPage: true });
  await page.context().close();
}

// Names are text, whatever they hold.
const page = await open({ locale: "en-GB" });
check("a name is text", (await page.textContent("#last")).includes("<img src=x onerror=alert(1)>"));
check("a name makes no element", (await page.locator("#last img").count()) === 0);

// With the keyboard alone: to the first decision, and to a label that another one is.
await page.focus("#last tr:first-child a");
await page.keyboard.press("Enter");
await page.waitForSelector("#decision .label button", { timeout: WAIT });
check("the place to read on is the decision", (await page.evaluate(() => document.activeElement.tagName)) === "H2");
const other = page.locator("#decision .label button").filter({ hasText: "xsdd/red iron" });
await other.focus();
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelector("#decision .label [role=status]")?.textContent !== "", null, { timeout: WAIT });
check("what was said is kept", (await page.textContent("#decision .label [role=status]")).includes("xsdd/red iron"));
await page.click("a.back");
await page.waitForFunction(() => document.querySelector("#last tr td small")?.textContent.includes("xsdd/red iron"), null, { timeout: WAIT });

// A reload shows the same, and so do more tabs than a browser has lines to one server.
const shown = () => page.locator("#last").textContent();
const before = await shown();
await page.reload();
await page.waitForSelector("#last tr", { timeout: WAIT });
check("a reload shows the same", (await shown()) === before);
const tabs = await Promise.all(Array.from({ length: TABS }, () => page.context().newPage()));
await Promise.all(tabs.map((tab) => tab.goto(url)));
await Promise.all(tabs.map((tab) => tab.waitForSelector("#last tr", { timeout: WAIT })));
for (const [at, tab] of tabs.entries()) check(`tab ${at}`, (await tab.textContent("#last")) === before);
await browser.close();

for (const line of failed) console.log(`FAILED ${line}`);
console.log(`${count} checks, ${failed.length} failed`);
