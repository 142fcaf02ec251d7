// Runs a client's checks against a server: one line of JSON for each, `{"check", "error"}`.
export const MODEL = "caller";
export const QUESTION = "Is it warm in Bonn?";
export const LONG = "one word and another ".repeat(3000); // more than the context of MODEL, 2,048 tokens
export const base = `${process.argv[2]}/v1`;

export function assert(condition, message) {
  if (!condition) throw new Error(message ?? "not as expected");
}

export async function run(checks) {
  for (const [check, work] of Object.entries(checks)) {
    let error = null;
    try {
      await work();
    } catch (reason) {
      error = String(reason?.stack ?? reason).slice(0, 1500);
    }
    console.log(JSON.stringify({ check, error }));
  }
}
