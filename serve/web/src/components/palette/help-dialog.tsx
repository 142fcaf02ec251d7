import { Dialog, DialogClose, DialogContent, DialogTitle } from "@/components/ui/dialog";
import { useWords } from "@/i18n";
import { useUi } from "@/lib/ui-store";
import { Keys } from "./command-palette";
import { commands, otherShortcuts } from "./commands";

export default function HelpDialog() {
  const t = useWords();
  const open = useUi((state) => state.panel === "help");
  const close = useUi((state) => state.close);
  const shortcuts = [
    ...otherShortcuts(t),
    ...commands(t).flatMap(({ label, keys }): [string, string][] => (keys ? [[label, keys]] : [])),
  ];
  return (
    <Dialog open={open} onOpenChange={(next) => !next && close()}>
      <DialogContent aria-describedby={undefined}>
        <div className="flex items-center justify-between">
          <DialogTitle>{t.help}</DialogTitle>
          <DialogClose />
        </div>
        <dl className="flex flex-col">
          {shortcuts.map(([label, keys]) => (
            <div
              key={label}
              className="flex items-center gap-4 border-b py-2 text-sm last:border-0"
            >
              <dt>{label}</dt>
              <dd className="ml-auto">
                <Keys>{keys}</Keys>
              </dd>
            </div>
          ))}
        </dl>
      </DialogContent>
    </Dialog>
  );
}
