// @vitest-environment jsdom
import { renderHook } from "@testing-library/react";
import { expect, test } from "vitest";
import { useReturnFocus } from "./return-focus";

function panelOpenedFrom(place: HTMLElement) {
  document.body.replaceChildren(place);
  place.focus();
  const { result } = renderHook(() => useReturnFocus({}));
  result.current.onOpenAutoFocus?.(new Event("open"));
  place.blur();
  return () => result.current.onCloseAutoFocus?.(new Event("close", { cancelable: true }));
}

test("the focus goes back to where it was before the panel opened", () => {
  const button = document.createElement("button");
  const close = panelOpenedFrom(button);
  close();
  expect(document.activeElement).toBe(button);
});

test("a focus that has moved since the panel closed stays where it is", () => {
  const close = panelOpenedFrom(document.createElement("button"));
  const message = document.createElement("textarea");
  document.body.append(message);
  message.focus();
  close();
  expect(document.activeElement).toBe(message);
});
