// The steps in the browser. A step that fails ends the program with its error.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";

import { small } from "./png.mjs";

const settings = JSON.parse(process.env.SETTINGS);
const { chromium } = await import(settings.playwright);

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  // Its sandbox needs another user than root.
  args: settings.root ? ["--no-sandbox"] : [],
});

const VIEWS = [
  ["/", "Networks"],
  ["/ports", "Ports"],
  ["/port/lab/rogue", "Port lab/rogue"],
  ["/fdb", "Addresses (FDB)"],
  ["/trunks", "Trunks"],
  ["/leases", "Leases"],
  ["/flows", "Flows"],
  ["/events", "Events"],
  ["/drops", "Why was this dropped?"],
  ["/capture", "Capture"],
  ["/config", "Configuration"],
];

const faults = [];
const vmlan = (...words) => execFileSync(settings.vmlan, ["--control", settings.control, ...words], { encoding: "utf8" });

const take = () => vmlan("port", "remove", "lab", "spare");
const give = () => vmlan("port", "add", "lab", "spare", "stream", `listen=${join(settings.control, "../spare.sock")}`);
const move = () => [take, give].forEach((act) => act());

/** A page of a browser that has nothing yet. */
async function fresh(options = {}) {
  const context = await browser.newContext({ viewport: { width: 960, height: 680 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  return page;
}

async function opened(link, options) {
  const page = await fresh(options);
  await page.goto(link);
  await page.getByRole("link", { name: "Networks", exact: true }).waitFor();
  return page;
}

async function view(page, path) {
  await page.evaluate((hash) => (location.hash = hash), path);
  const title = VIEWS.find(([known]) => known === path.split("?")[0])?.[1];
  if (title) await page.getByRole("heading", { name: title, exact: true }).waitFor();
}

const row = (page, text) => page.getByRole("row").filter({ hasText: text });

/** Waits until something holds, which is asked again and again. */
async function until(what, holds) {
  for (let left = 200; left > 0; left -= 1) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`${what} did not come`);
}

const steps = {
  async "without the token there is nothing"() {
    const { origin } = new URL(settings.reading);
    const page = await fresh();
    for (const path of ["/", "/main.js", "/v1/ports", "/v1/events", "/?token=00"]) {
      const response = await page.goto(origin + path);
      assert.equal(response.status(), 403, path);
      assert.match(await page.locator("body").innerText(), /^Open the link/, path);
    }
    assert.deepEqual(await page.context().cookies(), []);
    // The browser says of each that it was refused.
    faults.length = 0;
    await page.context().close();
  },

  async "another site on this machine gets nothing, not even with the cookie"() {
    const { origin } = new URL(settings.reading);
    let cookie = "";
    const evil = http.createServer((request, response) => {
      cookie = request.headers.cookie ?? cookie;
      response.setHeader("content-type", "text/html");
      response.end("<p>evil");
    });
    await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
    const page = await opened(settings.reading);
    await page.goto(`http://127.0.0.1:${evil.address().port}/`);
    const got = await page.evaluate(async (origin) => {
      const attempt = (path, options) =>
        fetch(origin + path, { credentials: "include", ...options }).then(
          (response) => `${response.type} ${response.status}`,
          () => "failed",
        );
      const loaded = (name, attributes) =>
        new Promise((resolve) => {
          const element = Object.assign(document.createElement(name), attributes);
          element.onload = () => resolve("loaded");
          element.onerror = () => resolve("failed");
          document.body.append(element);
        });
      return {
        read: await attempt("/v1/ports"),
        write: await attempt("/v1/capture", { method: "POST", body: "{}" }),
        headed: await attempt("/v1/ports", { headers: { "vmlan-key": "00" } }),
        script: await loaded("script", { src: `${origin}/main.js`, type: "module" }),
        classic: await loaded("script", { src: `${origin}/text.js` }),
      };
    }, origin);
    assert.deepEqual(got, { read: "failed", write: "failed", headed: "failed", script: "failed", classic: "failed" });
    // The browser tells its cookie to every port of the address: it must not open anything that matters.
    assert.match(cookie, /^vmlan-\d+=[0-9a-f]{64}$/);
    for (const path of ["/v1/ports", "/v1/config", "/v1/events", "/ui/about"]) {
      const response = await fetch(origin + path, { headers: { cookie, "sec-fetch-site": "same-origin" } });
      assert.equal(response.status, 403, path);
    }
    faults.length = 0;
    await page.context().close();
    evil.close();
  },

  async "the picture shows the ports and who talks to whom"() {
    const page = await opened(settings.reading);
    assert.equal(new URL(page.url()).hash, "", "the key stays out of sight");
    const picture = page.getByRole("group", { name: /^Network lab with 7 ports/ });
    await picture.waitFor();
    await picture.getByRole("link", { name: /^web, stream, up, [\d.]+ [kM]bit\/s in/ }).waitFor();
    await picture.getByRole("link", { name: /^rogue, stream, up, .* dropped$/ }).waitFor();
    await picture.getByRole("link", { name: /^spare, stream, waiting/ }).waitFor();
    await picture.getByRole("link", { name: /^uplink, uplink, up/ }).waitFor();
    const talks = page.getByRole("region", { name: "Who talks to whom" });
    await talks.getByRole("row", { name: /^web db [\d.]+ [kM]bit\/s$/ }).waitFor();
    await talks.getByRole("row", { name: /^rogue all, or not known/ }).waitFor();
    const widths = await picture.locator(".between path").evaluateAll((paths) => paths.map((path) => [path.textContent, Number(path.getAttribute("stroke-width"))]));
    const width = (pair) => widths.find(([text]) => text.startsWith(pair))?.[1] ?? 0;
    assert.ok(width("lab/web to lab/db") > width("lab/mail to lab/db"), JSON.stringify(widths));
    await page.getByLabel("Network", { exact: true }).selectOption("office");
    await page.getByRole("group", { name: /^Network office with 4 ports/ }).waitFor();
    await page.context().close();
  },

  async "the keyboard reaches all of it"() {
    const page = await opened(settings.reading);
    await page.getByRole("link", { name: /^web, / }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    const inside = () => page.evaluate(() => document.activeElement.closest(".picture") !== null);
    for (let tabs = 0; !(await inside()); tabs += 1) {
      assert.ok(tabs < 10, "the picture has no place in the order");
      await page.keyboard.press("Tab");
    }
    const name = () => page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    const first = await name();
    await page.keyboard.press("ArrowRight");
    assert.notEqual(await name(), first);
    const second = (await name()).split(",")[0];
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: `Port lab/${second}` }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
    await view(page, "/ports");
    await row(page, "web").first().waitFor();
    const drops = page.getByRole("columnheader", { name: "Drops" });
    await drops.getByRole("button").focus();
    await page.keyboard.press("Enter");
    assert.equal(await drops.getAttribute("aria-sort"), "descending");
    assert.match(await page.getByRole("row").nth(1).innerText(), /^rogue/);
    // A row keeps the focus while its numbers change.
    await page.getByRole("link", { name: "web", exact: true }).focus();
    const before = await row(page, "web").first().innerText();
    await until("another number", async () => (await row(page, "web").first().innerText()) !== before);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "web");
    await page.context().close();
  },

  async "a port goes and comes"() {
    const page = await opened(settings.reading);
    await view(page, "/port/lab/spare");
    const status = page.getByRole("status").filter({ hasText: /waiting/ });
    await status.waitFor();
    take();
    await page.getByText("The port is not there. It is shown again when it comes back.").waitFor();
    give();
    await status.waitFor();
    await view(page, "/events");
    await page.getByRole("log").getByText(/^.*port_removed network=lab port=spare$/).waitFor();
    await page.getByRole("log").getByText(/^.*port_added network=lab port=spare$/).waitFor();
    await page.getByLabel("Filter events").fill("port_added");
    assert.equal(await page.getByRole("listitem").filter({ hasText: "port_removed" }).count(), 0);
    await page.context().close();
  },

  async "a port's page has its rates, and its drops with the cure"() {
    const page = await opened(settings.reading);
    await view(page, "/port/lab/rogue");
    await page.getByRole("img", { name: /^Drops: Dropped (?!0\/s).*\/s, at most/ }).waitFor();
    await page.getByRole("img", { name: /^Throughput: In \(from the guest\) [\d.]+ kbit\/s/ }).waitFor();
    await until("a line", async () => (await page.locator(".chart .line.rx").getAttribute("points")).split(" ").length > 2);
    const reason = row(page, "source_guard");
    await reason.getByText(/Set mac to what the guest uses/).waitFor();
    await view(page, "/drops");
    await row(page, "source_guard").getByText(/lab\/rogue \(/).waitFor();
    assert.equal(await row(page, "hop_limit").count(), 0);
    await page.getByLabel("Explain every reason").check();
    await row(page, "hop_limit").getByText("Nothing: traceroute works so.").waitFor();
    await page.context().close();
  },

  async "lists show what the daemon lists"() {
    const page = await opened(settings.reading);
    await view(page, "/fdb");
    await row(page, "52:54:00:00:00:0a").getByRole("cell", { name: "web", exact: true }).waitFor();
    await view(page, "/trunks");
    await row(page, "office").getByRole("cell", { name: "eth0", exact: true }).waitFor();
    await view(page, "/leases");
    await page.getByRole("row", { name: /^198\.51\.100\.\d+ lab app 52:54:00:00:00:14/ }).waitFor();
    await view(page, "/flows");
    await row(page, "tcp").getByText(/^127\.0\.0\.1:|^198\.51\.100\.2:/).waitFor();
    await page.getByRole("link", { name: "app" }).click();
    await page.getByRole("heading", { name: "Port lab/app" }).waitFor();
    await page.getByRole("link", { name: "Flows of this port" }).click();
    await row(page, "tcp").waitFor();
    await page.getByLabel("Filter flows").fill("no such flow");
    await page.getByText("0 rows").waitFor();
    await page.context().close();
  },

  async "what a guest says of itself is text and nothing else"() {
    const page = await opened(settings.reading);
    await view(page, "/port/office/guests.0");
    await page.getByText(settings.hostile).first().waitFor();
    assert.equal(await page.locator("img").count(), 0);
    assert.equal(await page.title(), "office/guests.0 – vmlan");
    await page.context().close();
  },

  async "a capture is started, ended and downloaded"() {
    const page = await opened(settings.reading);
    await view(page, "/capture?ports=lab%2Fweb");
    await until("the port's choice", async () => (await page.getByLabel("What", { exact: true }).inputValue()) === "lab/web");
    await page.getByRole("button", { name: "Start" }).click();
    await page.getByText(/^[1-9][\d.]* k?B so far$/).waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText(/^The capture has ended with/).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download the capture" }).click();
    const file = await (await download).path();
    const octets = readFileSync(file);
    assert.equal(octets.readUInt32LE(0), 0x0a0d0d0a, "pcapng");
    assert.ok(octets.includes("lab/web") && octets.includes(Buffer.alloc(900, 10)));
    await page.getByLabel("Only what is dropped").check();
    await page.getByLabel("What", { exact: true }).selectOption("lab");
    await page.getByLabel("End after frames").fill("3");
    await page.getByText("vmlan capture lab --drops --count 3 -w capture.pcapng").waitFor();
    await page.getByRole("button", { name: "Start" }).click();
    await page.getByText(/^The capture has ended with/).waitFor();
    const second = page.waitForEvent("download");
    await page.getByRole("link", { name: "Download the capture" }).click();
    assert.ok(readFileSync(await (await second).path()).includes("dropped: source_guard"));
    await page.context().close();
  },

  async "the configuration is compared, and applied where that was asked for"() {
    let page = await opened(settings.reading);
    await view(page, "/config");
    const text = page.getByLabel(/^Configuration \(TOML\)/);
    await until("the configuration", async () => (await text.inputValue()).includes("[network.lab"));
    const running = await text.inputValue();
    await page.getByRole("button", { name: "What would change?" }).click();
    await page.getByText("Nothing would be done.").waitFor();
    await text.fill(`${running}\n[network.extra]\n`);
    await page.getByRole("button", { name: "What would change?" }).click();
    await row(page, "add_network").getByText("planned").waitFor();
    await page.getByText("+ [network.extra]").waitFor();
    await text.fill("[network.extra]\nmtuu = 1\n");
    await page.getByRole("button", { name: "What would change?" }).click();
    await page.getByRole("status").filter({ hasText: /line 2: unknown key/ }).waitFor();
    // The answer has a status of its own, of which the browser tells.
    faults.length = 0;
    assert.equal(await page.getByRole("button", { name: "Apply" }).count(), 0);
    await page.context().close();

    page = await opened(settings.writing);
    await view(page, "/config");
    await until("the configuration", async () => (await page.locator("#config").inputValue()).includes("[network.lab"));
    await page.locator("#config").fill(`${running}\n[network.extra]\n`);
    await page.getByRole("button", { name: "Apply" }).first().click();
    await page.getByRole("dialog").getByRole("button", { name: "Apply" }).click();
    await page.getByText("Applied: 1 actions.").waitFor();
    assert.match(vmlan("networks"), /extra/);
    vmlan("network", "remove", "extra");
    await view(page, "/port/lab/spare");
    await page.getByRole("button", { name: "Take the port down" }).click();
    await page.getByRole("status").filter({ hasText: /^down/ }).waitFor();
    await page.getByRole("button", { name: "Take the port up" }).click();
    await page.getByRole("status").filter({ hasText: /^waiting/ }).waitFor();
    await page.context().close();
  },

  async "nothing is asked while nobody looks"() {
    const page = await opened(settings.reading);
    await row(page, "web").first().waitFor();
    let asked = 0;
    page.on("request", () => (asked += 1));
    await until("a request", () => asked > 0);
    const look = (state) =>
      page.evaluate((state) => {
        Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
        document.dispatchEvent(new Event("visibilitychange"));
      }, state);
    await look("hidden");
    // What had begun may end.
    await new Promise((resolve) => setTimeout(resolve, 1500));
    asked = 0;
    await new Promise((resolve) => setTimeout(resolve, 2500));
    assert.equal(asked, 0);
    await look("visible");
    await until("a request", () => asked > 0);
    await page.context().close();
  },

  async "512 ports are a picture and a list that can be searched"() {
    const page = await fresh();
    await page.goto(settings.crowded);
    const drawn = await page.waitForFunction((ports) => {
      const all = document.querySelectorAll(".picture .node").length === ports;
      // The next frame has them on the screen.
      return all && new Promise((resolve) => requestAnimationFrame(() => setTimeout(() => resolve(performance.now()))));
    }, settings.ports);
    console.log(`the first picture of ${settings.ports} ports was drawn after ${Math.round(await drawn.jsonValue())} ms`);
    await page.getByRole("group", { name: `Network crowd with ${settings.ports} ports; arrow keys go from port to port` }).waitFor();
    assert.equal(await page.locator(".picture .node").count(), settings.ports);
    await shot(page, "crowd");
    await view(page, "/ports");
    await page.getByText(`Rows 1 to 50 of ${settings.ports}`).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 50);
    await page.getByRole("button", { name: "Next rows" }).click();
    await page.getByText(`Rows 51 to 100 of ${settings.ports}`).waitFor();
    await page.getByLabel("Filter ports").fill(`p${settings.ports - 1}`);
    await page.getByText("1 row", { exact: true }).waitFor();
    await page.getByRole("link", { name: `p${settings.ports - 1}` }).click();
    await page.getByRole("heading", { name: `Port crowd/p${settings.ports - 1}` }).waitFor();
    await page.context().close();
  },

  async "every view has names, contrast and room, in light and dark, wide and narrow"() {
    for (const [scheme, width] of [["light", 960], ["dark", 960], ["light", 360], ["dark", 360]]) {
      const page = await opened(settings.reading, { colorScheme: scheme, viewport: { width, height: 680 } });
      await row(page, "web").first().waitFor();
      for (const [path] of VIEWS) {
        await view(page, path);
        const where = `${path} ${scheme} ${width}`;
        await settled(page, path);
        const found = await page.evaluate(examine);
        assert.deepEqual(found, [], where);
        const name = path === "/" ? "networks" : path.split("/")[1];
        if (width === 960 && scheme === "light") await shot(page, name);
        else if (width === 960 && name === "networks") await shot(page, `${name}-dark`);
        else if (scheme === "light" && name === "networks") await shot(page, `${name}-phone`);
      }
      await page.context().close();
    }
  },
};

/** Waits for what is shown only behind an answer. */
async function settled(page, path) {
  const wanted = { "/": /^web db/, "/ports": /^web/, "/fdb": /^52:54/, "/trunks": /^office/, "/leases": /^198/, "/flows": /^198/, "/drops": /^source_guard/ }[path];
  if (wanted) await page.getByRole("row", { name: wanted }).first().waitFor();
  if (path === "/events") {
    move();
    await page.getByRole("log").getByText("port_added").first().waitFor();
  }
  if (path === "/config") await until("the configuration", async () => (await page.locator("#config").inputValue()) !== "");
  if (path.startsWith("/port/")) await until("lines", async () => (await page.locator(".chart .line.rx").getAttribute("points"))?.includes(" "));
}

/** What is wrong with the page as it is now; runs in it. */
function examine() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) found.push(`wider than the window: ${root.scrollWidth}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("not one heading");
  if (root.lang !== "en" || !document.title) found.push("no language or title");
  for (const element of document.querySelectorAll("input, select, textarea")) {
    if (!element.labels?.length && !element.ariaLabel) found.push(`no label: ${element.outerHTML}`);
  }
  for (const element of document.querySelectorAll("a, button")) {
    if (!element.textContent.trim()) found.push(`no name: ${element.outerHTML}`);
  }
  for (const element of document.querySelectorAll("table")) if (!element.caption) found.push("a table without a caption");
  for (const element of document.querySelectorAll("svg")) {
    if (!element.getAttribute("aria-label")) found.push(`no name: ${element.outerHTML.slice(0, 80)}`);
  }
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg, :disabled, option, noscript")) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(1)}: ${texts.currentNode.data.slice(0, 40)}`);
  }
  return found;
}

/** Writes a picture of the page where pictures are wanted. */
async function shot(page, name) {
  if (!settings.screenshots) return;
  mkdirSync(settings.screenshots, { recursive: true });
  writeFileSync(join(settings.screenshots, `${name}.png`), small(await page.screenshot()));
}

try {
  for (const [name, step] of Object.entries(steps)) {
    await step();
    assert.deepEqual(faults, [], name);
    console.log(`ok: ${name}`);
  }
  console.log("all steps are done");
} finally {
  await browser.close();
}
