import { LearningSettings } from "@/components/learned/learning-settings";
import { DialogClose, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Sheet, SheetContent } from "@/components/ui/sheet";
import { useWords } from "@/i18n";
import { useUi } from "@/lib/ui-store";
import { AppearanceSettings } from "./appearance-settings";
import { ConversationSettings } from "./conversation-settings";
import { SamplingSettings } from "./sampling-settings";

export default function SettingsSheet() {
  const t = useWords();
  const open = useUi((state) => state.panel === "settings");
  return (
    <Sheet open={open} onOpenChange={(next) => !next && useUi.getState().close()}>
      <SheetContent>
        <div className="flex items-start justify-between gap-3 p-5 pb-3">
          <div>
            <DialogTitle>{t.settings}</DialogTitle>
            <DialogDescription>{t.settingsNote}</DialogDescription>
          </div>
          <DialogClose />
        </div>
        <div className="scroll-quiet flex grow flex-col gap-8 overflow-y-auto px-5 pt-2 pb-8">
          <SamplingSettings />
          <ConversationSettings />
          <LearningSettings />
          <AppearanceSettings />
        </div>
      </SheetContent>
    </Sheet>
  );
}
