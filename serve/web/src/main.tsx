import { QueryClientProvider } from "@tanstack/react-query";
import { type CSSProperties, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Toaster } from "sonner";
import { queryClient, useHealth } from "@/api/queries";
import { App } from "@/app";
import { ErrorBoundary } from "@/components/shell/error-boundary";
import { TooltipProvider } from "@/components/ui/tooltip";
import { useShownTheme } from "@/settings/theme";
import "./index.css";

const toastColours = {
  "--normal-bg": "var(--popover)",
  "--normal-text": "var(--popover-foreground)",
  "--normal-border": "var(--border)",
  "--border-radius": "0.9rem",
};

function Toasts() {
  const status = useHealth().data?.status;
  const unwell = status === "loading" || status === "down";
  return (
    <Toaster
      theme={useShownTheme()}
      position="top-center"
      // Below the banner, where there is one.
      offset={unwell ? 124 : 64}
      mobileOffset={{ top: unwell ? 148 : 64 }}
      style={toastColours as CSSProperties}
    />
  );
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <ErrorBoundary>
      <QueryClientProvider client={queryClient}>
        <TooltipProvider delayDuration={400}>
          <App />
          <Toasts />
        </TooltipProvider>
      </QueryClientProvider>
    </ErrorBoundary>
  </StrictMode>,
);
