import type { ReactNode } from "react";
import { DialogClose, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Sheet, SheetContent } from "@/components/ui/sheet";
import { type Panel, useUi } from "@/lib/ui-store";

interface Props {
  panel: Panel;
  title: string;
  note: string;
  children: ReactNode;
}

/** A sheet with a title, a sentence about it, and a long list; open while its panel is the page's. */
export function PanelSheet({ panel, title, note, children }: Props) {
  const open = useUi((state) => state.panel === panel);
  return (
    <Sheet open={open} onOpenChange={(next) => !next && useUi.getState().close()}>
      <SheetContent className="max-w-xl">
        <div className="flex items-start justify-between gap-3 p-5 pb-3">
          <div>
            <DialogTitle>{title}</DialogTitle>
            <DialogDescription>{note}</DialogDescription>
          </div>
          <DialogClose />
        </div>
        <div
          className="scroll-quiet flex grow flex-col gap-6 overflow-y-auto px-5 pb-8 text-sm"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: a long list is scrolled by keyboard too
          tabIndex={0}
        >
          {children}
        </div>
      </SheetContent>
    </Sheet>
  );
}
