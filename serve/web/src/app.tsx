import { lazy, Suspense, useEffect } from "react";
import { onKeyOfAnotherTab } from "@/api/key";
import { forgetReader, startKeeping } from "@/chat/keeper";
import { ChatView, TemporaryView } from "@/components/chat/chat-view";
import { ConsentBar } from "@/components/learned/consent-bar";
import { useShortcuts } from "@/components/palette/use-shortcuts";
import { Header } from "@/components/shell/header";
import { HealthBanner } from "@/components/shell/health-banner";
import { Panels } from "@/components/shell/panels";
import { Sidebar } from "@/components/sidebar/sidebar";
import { Appear } from "@/components/ui/appear";
import { DialogTitle } from "@/components/ui/dialog";
import { Sheet, SheetContent } from "@/components/ui/sheet";
import { useMediaQuery } from "@/hooks/use-media-query";
import { usePulse } from "@/hooks/use-pulse";
import { useLanguage, useWords } from "@/i18n";
import { COMPOSER_ID } from "@/lib/focus";
import { page } from "@/lib/page";
import { useRoute } from "@/lib/router";
import { openDocuments, useUi } from "@/lib/ui-store";
import { useSettings } from "@/settings/store";
import { useApplyTheme } from "@/settings/theme";

const CompareView = lazy(() => import("@/components/instrument/compare-view"));
const SharedView = lazy(() => import("@/components/share/shared-view"));
const CompleteView = lazy(() => import("@/components/instrument/complete-view"));

const SIDEBAR = "276px";

export function App() {
  const t = useWords();
  const language = useLanguage();
  const { mode, conversation, document: opened, shared } = useRoute();
  const wide = useMediaQuery("(min-width: 768px)");
  const sidebar = useSettings((state) => state.sidebar);
  const set = useSettings((state) => state.set);
  useApplyTheme();
  useShortcuts();
  usePulse(conversation);
  useEffect(startKeeping, []);
  useEffect(
    () =>
      onKeyOfAnotherTab(() => {
        forgetReader();
        page.loadAnew();
      }),
    [],
  );
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);

  useEffect(() => {
    if (opened) openDocuments(opened);
  }, [opened]);
  if (shared) {
    return (
      <main className="aurora relative isolate flex h-dvh flex-col overflow-hidden">
        <Suspense>
          <SharedView id={shared} />
        </Suspense>
      </main>
    );
  }
  return (
    <div className="aurora relative isolate flex h-dvh overflow-hidden">
      {mode === "chat" && (
        <a
          href={`#${COMPOSER_ID}`}
          className="fixed top-2 left-2 z-50 -translate-y-16 rounded-lg bg-primary px-3 py-2 text-primary-foreground text-sm focus:translate-y-0"
        >
          {t.skipToMessage}
        </a>
      )}
      {wide ? (
        <Appear
          open={sidebar}
          // No blur: nothing but the soft light lies behind it, and a blur this large is drawn anew with every token.
          className="glass shrink-0 overflow-hidden border-y-0 border-l-0 backdrop-filter-none"
          hidden={{ width: "0px" }}
          shown={{ width: SIDEBAR }}
          duration={0.32}
        >
          <aside className="h-full" style={{ width: SIDEBAR }}>
            <Sidebar current={conversation} onClose={() => set({ sidebar: false })} />
          </aside>
        </Appear>
      ) : (
        <SidebarDrawer current={conversation} />
      )}
      <main className="flex min-w-0 grow flex-col">
        <div className="relative min-h-0 grow">
          <Header
            conversation={conversation}
            sidebarHidden={!wide || !sidebar}
            onOpenSidebar={() => (wide ? set({ sidebar: true }) : useUi.getState().open("sidebar"))}
          />
          <HealthBanner />
          <Suspense>
            {mode === "compare" && <CompareView />}
            {mode === "complete" && <CompleteView />}
          </Suspense>
          {mode === "temporary" && <TemporaryView />}
          {mode === "chat" && <ChatView conversation={conversation} />}
        </div>
        <ConsentBar />
      </main>
      <Panels />
    </div>
  );
}

function SidebarDrawer({ current }: { current: string | null }) {
  const t = useWords();
  const open = useUi((state) => state.panel === "sidebar");
  const close = useUi((state) => state.close);
  return (
    <Sheet open={open} onOpenChange={(next) => !next && close()}>
      <SheetContent
        side="left"
        aria-describedby={undefined}
        onEscapeKeyDown={(event) => {
          // In a field that holds something, Escape is the field's.
          if (event.target instanceof HTMLInputElement && event.target.value)
            event.preventDefault();
        }}
      >
        <DialogTitle className="sr-only">{t.conversations}</DialogTitle>
        <Sidebar current={current} onClose={close} onNavigate={close} />
      </SheetContent>
    </Sheet>
  );
}
