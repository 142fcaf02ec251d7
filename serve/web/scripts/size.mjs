// Fails when the built page is heavier than a first visit should be (gzip, kilobytes of 1,000 bytes).
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

// A diagram loads its library into a frame of its own; nobody else does.
const LIMITS = { "entry JS": 200, CSS: 20, all: 330, diagrams: 800 };
const dist = fileURLToPath(new URL("../dist", import.meta.url));
const html = readFileSync(join(dist, "index.html"), "utf8");
const files = readdirSync(dist, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name));

const kilobytes = (path) => gzipSync(readFileSync(path), { level: 9 }).length / 1000;
const sum = (paths) => paths.reduce((total, path) => total + kilobytes(path), 0);
const name = (path) => path.slice(dist.length);

const ofDiagrams = (path) => /\/(mermaid-[^/]*\.js|diagram\.(js|html))$/.test(path);
const first = files.filter((path) => path.endsWith(".js") && html.includes(name(path)));
const sizes = {
  "entry JS": sum(first),
  CSS: sum(files.filter((path) => path.endsWith(".css"))),
  all: sum(files.filter((path) => !ofDiagrams(path))),
  diagrams: sum(files.filter(ofDiagrams)),
};

for (const path of files.sort((a, b) => kilobytes(b) - kilobytes(a)).slice(0, 12)) {
  console.log(`${kilobytes(path).toFixed(1).padStart(8)} kB  ${name(path)}`);
}
let failed = false;
for (const [what, limit] of Object.entries(LIMITS)) {
  const over = sizes[what] > limit;
  failed ||= over;
  console.log(`${over ? "OVER" : "ok"}  ${what}: ${sizes[what].toFixed(1)} of ${limit} kB gzip`);
}
process.exit(failed ? 1 : 0);
