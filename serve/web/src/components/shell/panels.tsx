import { type ComponentType, lazy, Suspense, useEffect, useState } from "react";
import { preloadAnswer } from "@/components/chat/answer-text";
import { type Panel, useUi } from "@/lib/ui-store";

const loaders: Partial<Record<Panel, () => Promise<{ default: ComponentType }>>> = {
  settings: () => import("@/components/settings/settings-sheet"),
  key: () => import("@/components/settings/api-key-dialog"),
  palette: () => import("@/components/palette/command-palette"),
  prompt: () => import("@/components/instrument/prompt-sheet"),
  origin: () => import("@/components/instrument/origin-sheet"),
  share: () => import("@/components/share/share-dialog"),
  documents: () => import("@/components/documents/documents-sheet"),
  learned: () => import("@/components/learned/learned-sheet"),
  help: () => import("@/components/palette/help-dialog"),
};

/** Milliseconds after which the page is not busy with its own start any more. */
const PRELOAD = 2_000;

const panels = Object.entries(loaders).map(([name, load]) => ({
  name: name as Panel,
  Component: lazy(load),
}));

/** The panels that lie over the page. Each is loaded when it is first opened, and stays. */
export function Panels() {
  useEffect(() => {
    // Who types right after Ctrl+K does not wait for the palette.
    const load = () => {
      loaders.palette?.().catch(() => {}); // offline: when it is opened
      preloadAnswer(); // the first answer, which may be held back, does not wait for it
    };
    const timer = setTimeout(load, PRELOAD);
    return () => clearTimeout(timer);
  }, []);
  return panels.map(({ name, Component }) => (
    <OnceOpened key={name} name={name} Component={Component} />
  ));
}

function OnceOpened({ name, Component }: { name: Panel; Component: ComponentType }) {
  const open = useUi((state) => state.panel === name);
  const [opened, setOpened] = useState(open);
  if (open && !opened) setOpened(true);
  if (!opened) return null;
  return (
    <Suspense>
      <Component />
    </Suspense>
  );
}
