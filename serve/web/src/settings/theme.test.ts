import { expect, test } from "vitest";
import { nextTheme } from "./theme";

test.each([
  ["light", ["dark", "light", "system"]],
  ["dark", ["light", "dark", "system"]],
] as const)(
  "on a %s system the button goes through all themes, first to the other one",
  (system, order) => {
    const first = nextTheme("system", system);
    const second = nextTheme(first, system);
    expect([first, second, nextTheme(second, system)]).toEqual(order);
  },
);
