import { QueryClientProvider } from "@tanstack/react-query";
import { LazyMotion, MotionConfig } from "motion/react";
import { type CSSProperties, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Toaster } from "sonner";
import { queryClient } from "@/api/queries";
import { App } from "@/app";
import { ErrorBoundary } from "@/components/shell/error-boundary";
import { TooltipProvider } from "@/components/ui/tooltip";
import { useShownTheme } from "@/settings/theme";
import "./index.css";

const animations = () => import("@/lib/animations").then((module) => module.default);

const toastColours = {
  "--normal-bg": "var(--popover)",
  "--normal-text": "var(--popover-foreground)",
  "--normal-border": "var(--border)",
  "--border-radius": "0.9rem",
};

function Toasts() {
  return (
    <Toaster
      theme={useShownTheme()}
      position="top-center"
      offset={64}
      style={toastColours as CSSProperties}
    />
  );
}

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <ErrorBoundary>
      <QueryClientProvider client={queryClient}>
        <LazyMotion features={animations} strict>
          <MotionConfig reducedMotion="user">
            <TooltipProvider delayDuration={400}>
              <App />
              <Toasts />
            </TooltipProvider>
          </MotionConfig>
        </LazyMotion>
      </QueryClientProvider>
    </ErrorBoundary>
  </StrictMode>,
);
